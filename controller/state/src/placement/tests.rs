//! Placement by tables.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    sizes::{GIB, TIB},
    v1::{NodeFacts, RecordPoolCapacity, command::Command as Kind},
};

use super::*;
use crate::fixture::{Cluster, POOL, POOL_BYTES, facts_9, facts_84};

fn request(replicas: u32) -> PlacementRequest {
    PlacementRequest {
        replicas,
        layers: vec![Layer::Drbd, Layer::Storage],
        volume_sizes: vec![GIB],
        ..PlacementRequest::default()
    }
}

/// Everything online and empty.
fn all_well(state: &State) -> PlacementFacts {
    let nodes = state.nodes().map(|node| {
        let condition = NodeCondition { online: true, missing: Vec::new() };
        (node.name.clone(), condition)
    });
    let pools = state.pools().map(|pool| {
        let condition = PoolCondition { free_bytes: pool.capacity_bytes, ..PoolCondition::default() };
        ((pool.node.clone(), pool.name.clone()), condition)
    });
    PlacementFacts { nodes: nodes.collect(), pools: pools.collect() }
}

fn nodes(placement: &Placement) -> Vec<&str> {
    placement.replicas.iter().map(|replica| replica.node.as_str()).collect()
}

fn reason<'a>(reasons: &'a [NodeReason], node: &str) -> &'a str {
    &reasons.iter().find(|reason| reason.node == node).unwrap().reason
}

#[test]
fn what_is_placed_can_be_committed() {
    let mut cluster = Cluster::with_nodes(3);
    for name in ["r1", "r2", "r3"] {
        let placement = place(&cluster.state, &all_well(&cluster.state), &request(2)).unwrap();
        assert_eq!(placement.computed_at_revision, cluster.state.revision());
        let mut create = cluster.create_resource(name, &[]);
        create.placed = placement.replicas;
        cluster.applied(Kind::CreateResource(create));
    }
    // Six replicas over three nodes: each has two.
    for node in ["n1", "n2", "n3"] {
        assert_eq!(cluster.state.resources_on(node).count(), 2, "{node}");
    }
}

#[test]
fn a_further_replica_goes_to_the_named_node_or_says_why_not() {
    let mut cluster = Cluster::with_nodes(2);
    cluster.add_resource("web", &["n1"]);
    let resource = cluster.state.resource("web").unwrap().clone();
    let observed = all_well(&cluster.state);
    let place = |state: &State, observed: &PlacementFacts, node, pool| {
        place_beside(state, observed, &resource, (node, pool))
    };

    let placement = place(&cluster.state, &observed, "n2", "").unwrap();
    assert_eq!((nodes(&placement), placement.replicas[0].pool.as_str()), (vec!["n2"], POOL));
    assert_eq!(placement.computed_at_revision, cluster.state.revision());

    let refusal = place(&cluster.state, &observed, "n9", "").unwrap_err();
    assert_eq!((refusal.reason, refusal.field.as_str()), (RejectionReason::NotFound, "node"));
    let refusal = place(&cluster.state, &observed, "n2", "slow").unwrap_err();
    assert!(refusal.message.contains("it has no storage pool named slow"), "{}", refusal.message);
    let mut offline = observed.clone();
    offline.nodes.get_mut("n2").unwrap().online = false;
    let refusal = place(&cluster.state, &offline, "n2", "").unwrap_err();
    assert_eq!(refusal.reason, RejectionReason::NoCapacity);
    assert!(refusal.message.contains("its satellite is not connected"), "{}", refusal.message);
}

#[test]
fn of_equal_nodes_those_with_the_smaller_names_are_chosen() {
    let cluster = Cluster::with_nodes(3);
    let placement = place(&cluster.state, &all_well(&cluster.state), &request(2)).unwrap();
    assert_eq!(nodes(&placement), ["n1", "n2"]);
    assert!(reason(&placement.reasons, "n1").starts_with("chosen (pool thin"));
    assert!(reason(&placement.reasons, "n3").starts_with("it fits, but others fit better"));
}

#[test]
fn the_emptier_pool_wins() {
    let cluster = Cluster::with_nodes(3);
    let mut facts = all_well(&cluster.state);
    facts.pools.get_mut(&("n1".to_owned(), POOL.to_owned())).unwrap().free_bytes = POOL_BYTES / 2;
    let placement = place(&cluster.state, &facts, &request(2)).unwrap();
    assert_eq!(nodes(&placement), ["n2", "n3"]);
}

#[test]
fn every_refused_node_has_its_reason() {
    type Spoil = fn(&mut Cluster, &mut PlacementFacts, &mut PlacementRequest);
    fn key() -> (String, String) {
        ("n2".to_owned(), POOL.to_owned())
    }
    let cases: [(&str, Spoil); 13] = [
        ("its satellite is not connected", |_, facts, _| {
            facts.nodes.remove("n2");
        }),
        ("its satellite is not connected", |_, facts, _| facts.nodes.get_mut("n2").unwrap().online = false),
        ("nothing is known of pool thin yet", |_, facts, _| {
            facts.pools.remove(&key());
        }),
        ("pool thin: the volume group is gone", |_, facts, _| {
            facts.pools.get_mut(&key()).unwrap().problem = "the volume group is gone".into();
        }),
        ("the metadata of thin pool thin is 93 % full", |_, facts, _| {
            facts.pools.get_mut(&key()).unwrap().metadata_used_permyriad = 9312;
        }),
        ("thin pool thin has less than 5 % free", |_, facts, _| {
            facts.pools.get_mut(&key()).unwrap().free_bytes = 1
        }),
        ("it has no storage pool named fast", |_, _, request| request.pool = "fast".into()),
        ("pool thin has 10 GiB, and 1.00 TiB are needed", |_, _, request| request.volume_sizes = vec![TIB]),
        ("its DRBD is 8.4.11, which takes at most 2 replicas", |_, _, request| request.replicas = 3),
        ("its DRBD is 8.4.11, which takes one volume per resource", |_, _, request| {
            request.volume_sizes = vec![GIB, GIB];
        }),
        ("it has no DRBD; missing there: drbd-dkms", |cluster, facts, _| {
            record_facts(cluster, NodeFacts::default());
            facts.nodes.get_mut("n2").unwrap().missing = vec!["drbd-dkms".into()];
        }),
        ("its kernel cannot run the fence-peer helper", |cluster, _, _| {
            record_facts(cluster, NodeFacts { helper_can_run: false, ..facts_84() });
        }),
        ("the size of pool thin is not known yet", |cluster, _, _| {
            let incarnation = cluster.state.pool("n2", POOL).unwrap().incarnation;
            cluster.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
                node: "n2".into(),
                name: POOL.into(),
                incarnation,
                capacity_bytes: 0,
            }));
        }),
    ];
    for (words, spoil) in cases {
        let mut cluster = Cluster::with_nodes(2);
        let mut facts = all_well(&cluster.state);
        let mut request = request(2);
        spoil(&mut cluster, &mut facts, &mut request);
        let refusal = place(&cluster.state, &facts, &request).unwrap_err();
        assert_eq!(refusal.reason, RejectionReason::NoCapacity);
        assert!(reason(&refusal.reasons, "n2").contains(words), "{words}: {:?}", refusal.reasons);
        assert!(refusal.message.contains(&format!("n2: {}", reason(&refusal.reasons, "n2"))));
        assert!(refusal.reasons.iter().all(|reason| !reason.chosen));
    }
}

fn record_facts(cluster: &mut Cluster, facts: NodeFacts) {
    cluster.applied(Kind::RecordNodeFacts(hawser_proto::v1::RecordNodeFacts {
        node: "n2".into(),
        incarnation: cluster.state.node("n2").unwrap().incarnation,
        uname: "n2".into(),
        facts: Some(facts),
    }));
}

#[test]
fn a_request_that_contradicts_itself_is_refused_with_the_field() {
    let cases = [
        (PlacementRequest { replicas: 0, ..request(2) }, RejectionReason::Invalid, "replicas"),
        (
            PlacementRequest { volume_sizes: Vec::new(), ..request(2) },
            RejectionReason::Invalid,
            "volume_sizes",
        ),
        (PlacementRequest { nodes: vec!["n9".into()], ..request(1) }, RejectionReason::NotFound, "nodes[0]"),
        (
            PlacementRequest { nodes: vec!["n1".into(), "n1".into()], ..request(2) },
            RejectionReason::Invalid,
            "nodes[1]",
        ),
        (PlacementRequest { nodes: vec!["n1".into()], ..request(2) }, RejectionReason::Invalid, "nodes"),
    ];
    for (request, reason, field) in cases {
        let cluster = Cluster::with_nodes(2);
        let refusal = place(&cluster.state, &all_well(&cluster.state), &request).unwrap_err();
        assert_eq!((refusal.reason, refusal.field.as_str()), (reason, field), "{request:?}");
    }
}

#[test]
fn named_nodes_are_the_only_ones_asked() {
    let cluster = Cluster::with_nodes(3);
    let request = PlacementRequest { nodes: vec!["n3".into(), "n2".into()], ..request(2) };
    let placement = place(&cluster.state, &all_well(&cluster.state), &request).unwrap();
    assert_eq!(nodes(&placement), ["n2", "n3"]);
    assert!(reason(&placement.reasons, "n1").contains("not among the nodes"));
}

#[test]
fn drbd_9_is_preferred_and_never_mixed() {
    let mut cluster = Cluster::with_nodes(2);
    cluster.add_node("x1", "10.0.1.1", facts_9());
    let placement = place(&cluster.state, &all_well(&cluster.state), &request(2)).unwrap();
    assert_eq!(nodes(&placement), ["n1", "n2"], "one node with DRBD 9 is no pair");
    cluster.add_node("x2", "10.0.1.2", facts_9());
    let placement = place(&cluster.state, &all_well(&cluster.state), &request(2)).unwrap();
    assert_eq!(nodes(&placement), ["x1", "x2"]);
    let refusal = place(&cluster.state, &all_well(&cluster.state), &request(3)).unwrap_err();
    assert!(
        reason(&refusal.reasons, "x1").contains("too few others of its DRBD do"),
        "{:?}",
        refusal.reasons
    );
}

#[test]
fn one_replica_needs_no_drbd_without_the_layer() {
    let mut cluster = Cluster::initialized();
    cluster.add_node("n1", "10.0.0.1", NodeFacts::default());
    let request = PlacementRequest { layers: vec![Layer::Storage], ..request(1) };
    assert!(place(&cluster.state, &all_well(&cluster.state), &request).is_ok());
}

#[test]
fn an_empty_cluster_says_what_to_do() {
    let cluster = Cluster::initialized();
    let refusal = place(&cluster.state, &PlacementFacts::default(), &request(2)).unwrap_err();
    assert!(refusal.message.contains("hawser node create"), "{}", refusal.message);
}
