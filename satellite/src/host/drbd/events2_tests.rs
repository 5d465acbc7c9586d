//! The parser of events2 on what real kernels said.
#![allow(clippy::unwrap_used)]

use hawser_hostile::{check, each_cut, texts};

use super::*;

const CONNECTED: &str = include_str!("../../../tests/recorded/drbd84_events2_now_connected.txt");
const FROZEN: &str = include_str!("../../../tests/recorded/drbd84_events2_now_frozen.txt");
const LOSERS_RETURN: &str = include_str!("../../../tests/recorded/drbd84_events2_losers_return.txt");
/// Of DRBD 9.3.3: three nodes in sync, seen from the first; the second, cut off as Primary; and what the second saw when
/// the first lost its power as Primary and it was promoted itself.
const CONNECTED_9: &str = include_str!("../../../tests/recorded/drbd9_events2_now_connected.txt");
const NO_QUORUM_9: &str = include_str!("../../../tests/recorded/drbd9_events2_now_no_quorum.txt");
const TAKE_OVER_9: &str = include_str!("../../../tests/recorded/drbd9_events2_take_over.txt");

#[test]
fn a_connected_resource_is_read_whole() {
    let state = parse_dump(CONNECTED).unwrap();
    let resource = &state.resources["vol1.9"];
    assert_eq!(resource.role, Role::Secondary);
    assert!(!resource.suspended.any());
    assert_eq!(
        resource.devices[&0],
        DeviceState { minor: 1001, disk: DiskState::UpToDate, size_bytes: 208_852 * 1024 }
    );
    let connection = &resource.connections[&0];
    assert_eq!((connection.state, connection.word.as_str()), (ConnectionState::Connected, "Connected"));
    assert_eq!(connection.role, Role::Secondary);
    let peer = &connection.volumes[&0];
    assert_eq!(
        (peer.disk, peer.replication.as_str(), peer.out_of_sync_bytes),
        (DiskState::UpToDate, "Established", 0)
    );
}

#[test]
fn three_replicas_of_drbd_9_are_read_whole() {
    let resource = &parse_dump(CONNECTED_9).unwrap().resources["vol.9"];
    assert_eq!((resource.role, resource.suspended.any()), (Role::Secondary, false));
    let device = DeviceState { minor: 1000, disk: DiskState::UpToDate, size_bytes: 8_388_060 * 1024 };
    assert_eq!(resource.devices[&0], device);
    for (node_id, name) in [(1, "n2"), (2, "n3")] {
        let connection = &resource.connections[&node_id];
        assert_eq!((connection.name.as_str(), connection.state), (name, ConnectionState::Connected));
        let peer = &connection.volumes[&0];
        assert_eq!((peer.disk, peer.out_of_sync_bytes), (DiskState::UpToDate, 0), "{name}");
    }
}

#[test]
fn a_primary_of_drbd_9_without_a_quorum_is_suspended_for_that() {
    let resource = &parse_dump(NO_QUORUM_9).unwrap().resources["vol.9"];
    assert_eq!(resource.role, Role::Primary);
    assert_eq!(resource.suspended, Suspended { quorum: true, ..Suspended::default() });
    assert!(resource.connections.values().all(|found| found.state == ConnectionState::Connecting));
}

#[test]
fn changes_of_drbd_9_lead_through_a_take_over() {
    let mut state = KernelState::default();
    let mut disks = Vec::new();
    for line in TAKE_OVER_9.lines() {
        state.take(line).unwrap();
        let disk =
            state.resources.get("vol.9").and_then(|found| found.devices.get(&0)).map(|found| found.disk);
        if disk.is_some() && disks.last() != disk.as_ref() {
            disks.extend(disk);
        }
    }
    assert_eq!(disks, [DiskState::UpToDate, DiskState::Consistent, DiskState::UpToDate]);
    let resource = &state.resources["vol.9"];
    assert_eq!(resource.role, Role::Primary);
    let [lost, other] = [0, 2].map(|node_id| &resource.connections[&node_id]);
    assert_eq!((lost.state, lost.role), (ConnectionState::Connecting, Role::Unknown));
    assert_eq!((other.state, other.role), (ConnectionState::Connected, Role::Secondary));
}

#[test]
fn every_reason_of_a_suspension_is_kept() {
    let resource = &parse_dump(FROZEN).unwrap().resources["vol1.9"];
    assert_eq!(resource.suspended, Suspended { fencing: true, no_data: true, ..Suspended::default() });
    assert_eq!(resource.devices[&0].disk, DiskState::Diskless);
    assert_eq!(resource.connections[&0].state, ConnectionState::StandAlone);
}

#[test]
fn an_answer_that_was_cut_short_proves_nothing() {
    let cut = &CONNECTED[..CONNECTED.find("exists -").unwrap()];
    assert!(parse_dump(cut).unwrap_err().problem.contains("without `exists -`"));
    assert!(parse_dump("").is_err());
    assert_eq!(parse_dump("exists -\n").unwrap(), KernelState::default());
}

#[test]
fn changes_lead_through_the_losers_return_to_up_to_date() {
    let mut state = KernelState::default();
    let mut disks = Vec::new();
    let mut suspensions = Vec::new();
    let mut gone = false;
    for line in LOSERS_RETURN.lines() {
        state.take(line).unwrap();
        let Some(resource) = state.resources.get("vol1.9") else {
            gone = true;
            continue;
        };
        if suspensions.last() != Some(&resource.suspended) {
            suspensions.push(resource.suspended);
        }
        if let Some(device) = resource.devices.get(&0)
            && disks.last() != Some(&device.disk)
        {
            disks.push(device.disk);
        }
    }
    assert!(gone, "the resource was taken down in between");
    use DiskState::*;
    assert_eq!(disks, [UpToDate, Failed, Diskless, Attaching, Consistent, Outdated, Inconsistent, UpToDate]);
    let fencing = Suspended { fencing: true, ..Suspended::default() };
    assert_eq!(
        suspensions,
        [Suspended::default(), fencing, Suspended { no_data: true, ..fencing }, Suspended::default()]
    );
    let connection = &state.resources["vol1.9"].connections[&0];
    assert_eq!((connection.state, connection.role), (ConnectionState::Connected, Role::Primary));
    assert_eq!(connection.volumes[&0].out_of_sync_bytes, 0);
}

#[test]
fn what_newer_releases_add_is_skipped() {
    let lines = [
        "exists path name:foo peer-node-id:3 conn-name:bar local:ipv4:1.2.3.4:7020 peer:ipv4:1.2.3.5:7020 established:yes",
        "call helper name:foo peer-node-id:0 conn-name:peer helper:fence-peer",
        "response helper name:foo helper:fence-peer status:256",
        "rename resource name:foo new_name:bar",
        "exists starship name:foo",
        "",
    ];
    let mut state = KernelState::default();
    for line in lines {
        assert_eq!(state.take(line), Ok(Progress::Skipped), "{line}");
    }
    let nine = "change device name:foo volume:1 minor:1 disk:Attaching backing_dev:/dev/sda1 client:no quorum:yes size:1 open:yes future:1:2";
    assert_eq!(state.take(nine), Ok(Progress::Taken));
    assert_eq!(state.resources["foo"].devices[&1].disk, DiskState::Attaching);
    let done = "change peer-device name:foo peer-node-id:1 conn-name:b volume:1 replication:SyncTarget peer-disk:UpToDate done:12.30";
    assert_eq!(state.take(done), Ok(Progress::Taken));
    assert_eq!(state.resources["foo"].connections[&1].volumes[&1].done_permyriad, 1230);
}

#[test]
fn what_matters_is_never_guessed() {
    for (line, problem) in [
        ("exists resource role:Primary", "`name` is missing"),
        ("exists resource name:foo role:Tertiary", "unknown role"),
        ("exists resource name:foo suspended:fencing,mood", "unknown reason"),
        ("exists device name:foo volume:0 minor:x", "not a number"),
        ("exists device name:foo volume:0 minor:1 disk:Weird", "unknown disk state"),
        ("exists device name:foo volume:0 minor:1 size:99999999999999999999", "not a size"),
        ("exists peer-device name:foo peer-node-id:0 volume:0 done:42949672.99", "not a percentage"),
        ("exists peer-device name:foo peer-node-id:0 volume:0 done:5.+1", "not a percentage"),
    ] {
        let error = KernelState::default().take(line).unwrap_err();
        assert!(error.problem.contains(problem), "{line}: {error}");
    }
}

/// Words that stand in events of one release or another.
const WORDS: [&str; 12] = [
    "exists",
    "change",
    "destroy",
    "resource",
    "device",
    "connection",
    "peer-device",
    "exists -",
    "name:vol1.9",
    "done:42949672.99",
    "suspended:fencing,no-data",
    "disk:UpToDate",
];

#[test]
fn hostile_dumps() {
    check(&texts(&[CONNECTED, FROZEN], &WORDS), |text| match parse_dump(&text) {
        Ok(state) => {
            let is_end = |line: &str| line.split_ascii_whitespace().any(|word| word == "-");
            assert!(text.lines().any(is_end), "complete without its end");
            for name in state.resources.keys() {
                assert!(text.contains(&format!("name:{name}")), "{name:?} is made up");
            }
        }
        Err(error) => assert!(text.contains(&error.line), "{error}"),
    });
}

#[test]
fn hostile_changes() {
    check(&texts(&[LOSERS_RETURN], &WORDS), |text| {
        let mut state = KernelState::default();
        for line in text.lines() {
            if let Err(error) = state.take(line) {
                assert_eq!(error.line, line);
            }
        }
    });
}

#[test]
fn a_dump_that_was_cut_short_is_never_a_smaller_state() {
    for whole in [CONNECTED, FROZEN] {
        each_cut(whole.as_bytes(), |length, cut| {
            let read = parse_dump(&String::from_utf8_lossy(cut));
            assert!(read.is_err() || read == parse_dump(whole), "after {length} bytes: {read:?}");
        });
    }
}
