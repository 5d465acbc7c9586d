//! The configuration's text, word for word, and what it refuses.
#![allow(clippy::unwrap_used)]

use hawser_plan::step::{BackingVolume, DrbdVolume, Mark, SharedSecret};
use hawser_proto::ids::Incarnation;

use super::*;

fn peer(node: &str, ip: &str) -> DrbdPeer {
    DrbdPeer {
        node: node.into(),
        uname: format!("{node}.example"),
        node_id: 0,
        ip: ip.parse().unwrap(),
        port: 7001,
        diskful: true,
    }
}

fn configuration() -> Configuration {
    Configuration {
        drbd_name: "vol1.9".into(),
        node: "alpha".into(),
        generation: Generation::V8_4,
        shared_secret: SharedSecret("s3cret/+=".into()),
        resource_options: BTreeMap::new(),
        net_options: BTreeMap::from([("max-buffers".into(), "8000".into())]),
        disk_options: BTreeMap::from([("resync-rate".into(), "30M".into())]),
        ask_arbiter: true,
        volumes: vec![DrbdVolume {
            number: 0,
            minor: 1001,
            size_bytes: 1 << 30,
            backing: Some(BackingVolume {
                provider: Provider::LvmThin { volume_group: "vg0".into(), thin_pool: "thin".into() },
                name: "vol1.9-0".into(),
                size_bytes: (1 << 30) + (4 << 20),
                mark: Mark {
                    cluster_id: "c1".into(),
                    resource: "vol1".into(),
                    replica_incarnation: Incarnation::new(9),
                    volume: 0,
                },
            }),
        }],
        peers: vec![peer("alpha", "10.77.0.1"), peer("bravo", "fd00::2")],
    }
}

fn surroundings() -> Surroundings {
    Surroundings { fence_peer_handler: "/usr/bin/hawser-satellite fence-peer".into(), authenticate: true }
}

fn text(configuration: &Configuration) -> Result<String, HostError> {
    render(configuration, &surroundings(), |backing| PathBuf::from("/dev/vg0").join(&backing.name))
}

#[test]
fn two_diskful_replicas_on_8_4_word_for_word() {
    let text = text(&configuration()).unwrap();
    let (header, body) = text.split_once('\n').unwrap();
    assert_eq!(fingerprint_in(header), None, "nobody follows it yet");
    let followed = followed_header(&configuration());
    assert_eq!(fingerprint_in(&followed), Some(configuration().fingerprint()));
    assert_eq!(followed.len(), header.len() + 1, "it is written over the first line");
    insta::assert_snapshot!(body, @r#"
    resource "vol1.9" {
        options {
            on-no-data-accessible "suspend-io";
        }
        net {
            after-sb-0pri "disconnect";
            after-sb-1pri "disconnect";
            after-sb-2pri "disconnect";
            connect-int "2";
            cram-hmac-alg "sha1";
            max-buffers "8000";
            ping-int "2";
            ping-timeout "5";
            protocol "C";
            shared-secret "s3cret/+=";
            timeout "15";
        }
        disk {
            c-fill-target "1M";
            c-max-rate "1G";
            c-min-rate "20M";
            fencing "resource-and-stonith";
            on-io-error "detach";
            resync-rate "30M";
            rs-discard-granularity "65536";
        }
        handlers {
            fence-peer "/usr/bin/hawser-satellite fence-peer";
        }
        on "alpha.example" {
            address ipv4 10.77.0.1:7001;
            volume 0 {
                device minor 1001;
                disk "/dev/vg0/vol1.9-0";
                meta-disk internal;
                disk {
                    size 2097152s;
                }
            }
        }
        on "bravo.example" {
            address ipv6 [fd00::2]:7001;
            volume 0 {
                device minor 1001;
                disk "/dev/drbd/this/is/not/used";
                meta-disk internal;
                disk {
                    size 2097152s;
                }
            }
        }
    }
    "#);
}

#[test]
fn without_arbiter_or_authentication_neither_is_written() {
    let mut configuration = configuration();
    configuration.ask_arbiter = false;
    let surroundings = Surroundings { authenticate: false, ..surroundings() };
    let text = render(&configuration, &surroundings, |_| PathBuf::from("/dev/x")).unwrap();
    for word in ["fencing", "handlers", "cram-hmac-alg", "shared-secret"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn no_option_weakens_what_the_arbiter_rests_on() {
    for name in RESERVED {
        let mut configuration = configuration();
        configuration.disk_options.insert(name.to_owned(), "yes".into());
        let error = text(&configuration).unwrap_err().to_string();
        assert!(error.contains(&format!("disk option {name} of DRBD resource vol1.9")), "{error}");
    }
}

#[test]
fn nothing_escapes_from_its_quotes() {
    for value in ["a\"; } handlers { x", "a\\", "a\nb", "", "ü"] {
        let mut configuration = configuration();
        configuration.net_options.insert("max-buffers".into(), value.into());
        assert!(text(&configuration).is_err(), "{value:?}");
    }
    for name in ["a b", "x;", ""] {
        let mut configuration = configuration();
        configuration.net_options.insert(name.into(), "1".into());
        assert!(text(&configuration).is_err(), "{name:?}");
    }
    let mut configuration = configuration();
    configuration.peers[1].uname = "b\" {".into();
    assert!(text(&configuration).is_err());
}

#[test]
fn a_configuration_without_this_node_is_refused() {
    let mut configuration = configuration();
    configuration.node = "charlie".into();
    assert!(text(&configuration).unwrap_err().to_string().contains("no replica on node charlie"));
}

#[test]
fn arguments_say_the_same_as_the_file() {
    let configuration = configuration();
    let options = options(&configuration, &surroundings()).unwrap();
    assert!(arguments(&options.net).contains(&"--shared-secret=s3cret/+=".to_owned()));
    assert_eq!(address_argument(&configuration.peers[0]), "ipv4:10.77.0.1:7001");
    assert_eq!(address_argument(&configuration.peers[1]), "ipv6:[fd00::2]:7001");
}

#[test]
fn a_foreign_file_has_no_fingerprint() {
    assert_eq!(fingerprint_in("resource x {}\n"), None);
    assert_eq!(fingerprint_in(&format!("{HEADER}zz\n")), None);
    assert_eq!(fingerprint_in(""), None);
    assert_eq!(fingerprint_in(&format!("{HEADER}00000000000000ff\n")), Some(255), "of an earlier release");
}
