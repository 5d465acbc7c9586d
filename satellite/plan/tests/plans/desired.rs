//! Reading the document.

use hawser_plan::desired::Desired;
use hawser_proto::v1;

use crate::scene::Scene;

#[test]
fn what_cannot_be_acted_on_is_named() {
    type Change = fn(&mut v1::DesiredReplica);
    let cases: [(&str, Change); 10] = [
        ("layers of resource db is [Luks, Storage]", |wanted| {
            wanted.layers = vec![v1::Layer::Luks.into(), v1::Layer::Storage.into()];
        }),
        ("layers", |wanted| wanted.layers = vec![77]),
        ("peers of resource db is without this node", |wanted| {
            wanted.peers.remove(0);
        }),
        ("peers.kind", |wanted| wanted.peers[0].kind = 0),
        ("peers.ip of resource db is \"n2.example\"", |wanted| wanted.peers[1].ip = "n2.example".into()),
        ("peers.port of resource db is 70000", |wanted| wanted.peers[1].port = 70_000),
        ("pool of resource db is \"slow\"", |wanted| wanted.pool = "slow".into()),
        ("volumes of resource db is empty", |wanted| wanted.volumes.clear()),
        ("drbd_generation", |wanted| wanted.drbd_generation = 0),
        ("attachment", |wanted| wanted.attachment = 99),
    ];
    for (expected, change) in cases {
        let mut scene = Scene::new();
        change(&mut scene.wanted);

        let error = Desired::of_replica(&scene.document(), &scene.wanted).unwrap_err().to_string();

        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn the_fingerprint_changes_with_whatever_the_file_says() {
    type Change = fn(&mut v1::DesiredReplica);
    let fingerprint = |scene: &Scene| match scene.desired() {
        Desired::Replica(replica) => replica.drbd.unwrap().fingerprint(),
        Desired::Removal(_) => unreachable!("it is no removal"),
    };
    let changes: [Change; 8] = [
        |wanted| wanted.shared_secret.push('x'),
        |wanted| wanted.volumes[0].minor += 1,
        |wanted| wanted.volumes[0].size_bytes += 4096,
        |wanted| wanted.volumes[0].backing_name.push('x'),
        |wanted| wanted.peers[1].port += 1,
        |wanted| wanted.peers[1].ip = "10.77.0.9".into(),
        |wanted| wanted.peers[1].uname.push('x'),
        |wanted| {
            let net = [("max-buffers".to_owned(), "8000".to_owned())].into();
            wanted.options = Some(v1::DrbdOptions { net, ..v1::DrbdOptions::default() });
        },
    ];
    let mut seen = vec![fingerprint(&Scene::new())];
    for change in changes {
        let mut scene = Scene::new();
        change(&mut scene.wanted);
        seen.push(fingerprint(&scene));
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);

    let mut attached = Scene::new();
    attached.wanted.owner = "n1".into();
    attached.wanted.outdated_number = 9;
    assert_eq!(fingerprint(&attached), fingerprint(&Scene::new()), "not with what the file does not say");
}

#[test]
fn the_arbiter_is_asked_where_two_diskful_replicas_have_no_third() {
    let asks = |scene: &Scene| match scene.desired() {
        Desired::Replica(replica) => replica.drbd.unwrap().ask_arbiter,
        Desired::Removal(_) => unreachable!("it is no removal"),
    };
    let two = Scene::new();
    let mut three = Scene::new();
    let third = v1::DesiredPeer { node: "n3".into(), node_id: 2, ..three.wanted.peers[1].clone() };
    three.wanted.peers.push(third);

    assert!(asks(&two));
    assert!(!asks(&three));
}
