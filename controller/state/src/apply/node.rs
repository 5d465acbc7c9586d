//! Nodes: made by a person, described by their satellites.
//!
//! It must never forget a node that something lies on. Of one that is lost nothing does.

use std::collections::BTreeSet;

use hawser_proto::{
    names,
    v1::{Address, CreateNode, DeleteNode, Node, RecordNodeFacts},
};

use super::options;
use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// The address that is used where no other is asked for.
pub(crate) const DEFAULT_ADDRESS: &str = "default";

/// The address that DRBD uses where a node has one of this name.
pub(crate) const REPLICATION_ADDRESS: &str = "replication";

const MOST_ADDRESSES: usize = 16;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateNode) -> Verdict {
    names::node_name("name", &command.name)?;
    if transaction.state().node(&command.name).is_some() {
        return Err(Denial::already_exists("name", format!("node {} exists already", command.name)));
    }
    check_addresses(transaction, &command.addresses)?;
    if let Some(options) = &command.options {
        options::check("options", options)?;
        if !options.net.is_empty() {
            let message =
                "both ends of a connection have to agree on its options: set them in the resource group";
            return Err(Denial::invalid("options.net", message));
        }
    }
    transaction.put_node(Node {
        name: command.name.clone(),
        addresses: command.addresses.clone(),
        options: command.options.clone(),
        incarnation: transaction.index,
        document_revision: transaction.index,
        ..Node::default()
    });
    Ok(Success::DONE)
}

fn check_addresses(transaction: &Transaction<'_>, addresses: &[Address]) -> Verdict<()> {
    if addresses.len() > MOST_ADDRESSES {
        return Err(Denial::invalid("addresses", format!("a node has at most {MOST_ADDRESSES} addresses")));
    }
    let mut purposes = BTreeSet::new();
    for (position, address) in addresses.iter().enumerate() {
        names::address_name(&format!("addresses[{position}].name"), &address.name)?;
        let field = format!("addresses[{position}].ip");
        let ip = names::ip(&field, &address.ip)?;
        if !purposes.insert(&address.name) {
            return Err(Denial::invalid(
                "addresses",
                format!("the node has two addresses named {}", address.name),
            ));
        }
        let has_it = |node: &&Node| node.addresses.iter().any(|other| other.ip.parse() == Ok(ip));
        if let Some(other) = transaction.state().nodes().find(has_it) {
            return Err(Denial::already_exists(&field, format!("{ip} is an address of node {}", other.name)));
        }
    }
    if !purposes.iter().any(|purpose| *purpose == DEFAULT_ADDRESS) {
        return Err(Denial::invalid("addresses", format!("a node has an address named {DEFAULT_ADDRESS:?}")));
    }
    Ok(())
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteNode) -> Verdict {
    let state = transaction.state();
    if state.node(&command.name).is_none() {
        return Err(Denial::not_found(
            "name",
            format!(
                "node {} does not exist; `hawser node list` shows what there is",
                names::shown(&command.name)
            ),
        ));
    }
    if let Some(resource) = state.resources_on(&command.name).next() {
        return Err(Denial::in_use(format!(
            "node {0} has a replica of resource {1}: delete that (`hawser replica delete {1} {0}`) or the resource, and wait \
             until it is gone",
            command.name, resource.name
        )));
    }
    let pools: Vec<String> = state.pools_on(&command.name).map(|pool| pool.name.clone()).collect();
    if let Some(pool) = pools.first()
        && !state.node(&command.name).is_some_and(Node::is_lost)
    {
        return Err(Denial::in_use(format!("node {} has pool {pool}: delete the pool first", command.name)));
    }
    for pool in pools {
        transaction.remove_pool(&command.name, &pool);
    }
    transaction.remove_node(&command.name);
    Ok(Success::DONE)
}

pub(super) fn record_facts(transaction: &mut Transaction<'_>, command: &RecordNodeFacts) -> Verdict {
    let known =
        transaction.state().node(&command.node).filter(|node| node.incarnation() == command.incarnation());
    let Some(node) = known.cloned() else {
        return Err(Denial::not_found(
            "node",
            format!(
                "node {} does not exist in incarnation {}",
                names::shown(&command.node),
                command.incarnation
            ),
        ));
    };
    names::uname("uname", &command.uname)?;
    let facts = command.facts.clone().unwrap_or_default();
    if !facts.drbd_version.is_empty() {
        names::uname("facts.drbd_version", &facts.drbd_version)?;
    }
    let described = Node { uname: command.uname.clone(), facts: Some(facts), ..node.clone() };
    if described != node {
        transaction.put_node(described);
    }
    Ok(Success::DONE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use hawser_proto::v1::{
        DrbdOptions, NodeFacts, RecordPoolCapacity, RejectionReason, command::Command as Kind,
    };

    use super::*;
    use crate::fixture::{Cluster, POOL, create_node, create_pool, facts_84};

    fn address(name: &str, ip: &str) -> Address {
        Address { name: name.into(), ip: ip.into() }
    }

    fn delete(name: &str) -> Kind {
        Kind::DeleteNode(DeleteNode { name: name.into() })
    }

    #[test]
    fn bad_nodes_are_refused_with_the_field() {
        let default = || address("default", "10.0.0.9");
        let cases = [
            ("N1", vec![default()], RejectionReason::Invalid, "name"),
            ("", vec![default()], RejectionReason::Invalid, "name"),
            ("n1", vec![default()], RejectionReason::AlreadyExists, "name"),
            ("n9", vec![], RejectionReason::Invalid, "addresses"),
            ("n9", vec![address("backup", "10.0.0.9")], RejectionReason::Invalid, "addresses"),
            ("n9", vec![default(), default()], RejectionReason::Invalid, "addresses"),
            (
                "n9",
                vec![default(), address("a b", "10.0.0.8")],
                RejectionReason::Invalid,
                "addresses[1].name",
            ),
            ("n9", vec![address("default", "n1")], RejectionReason::Invalid, "addresses[0].ip"),
            ("n9", vec![address("default", "10.0.0.1")], RejectionReason::AlreadyExists, "addresses[0].ip"),
            ("n9", vec![default(); MOST_ADDRESSES + 1], RejectionReason::Invalid, "addresses"),
        ];
        for (name, addresses, reason, field) in cases {
            let mut cluster = Cluster::with_nodes(1);
            let command = CreateNode { name: name.into(), addresses, ..Default::default() };
            let rejected = cluster.rejected(Kind::CreateNode(command.clone()));
            assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{command:?}");
        }
    }

    fn with_options(options: DrbdOptions) -> CreateNode {
        let addresses = vec![address("default", "10.0.0.9")];
        CreateNode { name: "n9".into(), addresses, options: Some(options) }
    }

    fn section(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_nodes_options_are_its_replicas_below_those_of_their_group() {
        let mut cluster = Cluster::with_nodes(1);
        let disk = section("disk-flushes", "no");
        cluster.applied(Kind::CreateNode(with_options(DrbdOptions {
            disk: disk.clone(),
            ..Default::default()
        })));
        cluster.applied(Kind::RecordNodeFacts(RecordNodeFacts {
            node: "n9".into(),
            incarnation: cluster.index,
            uname: "n9".into(),
            facts: Some(facts_84()),
        }));
        cluster.applied(create_pool("n9", POOL));
        cluster.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
            node: "n9".into(),
            name: POOL.into(),
            incarnation: cluster.index,
            capacity_bytes: cluster.state.pool("n1", POOL).unwrap().capacity_bytes,
        }));
        cluster.add_resource("web", &["n1", "n9"]);

        let options = |node: &str| cluster.state.document(node).unwrap().replicas[0].options.clone().unwrap();
        assert_eq!(options("n9").disk, disk);
        assert_eq!(options("n1").disk, BTreeMap::new(), "they are the node's own");
    }

    #[test]
    fn options_that_a_node_cannot_choose_are_refused_with_the_field() {
        let cases = [
            (
                DrbdOptions { disk: section("fencing", "dont-care"), ..Default::default() },
                "options.disk.fencing",
            ),
            (DrbdOptions { net: section("max-buffers", "8000"), ..Default::default() }, "options.net"),
            (DrbdOptions { resource: section("Auto", "no"), ..Default::default() }, "options.resource"),
        ];
        for (options, field) in cases {
            let mut cluster = Cluster::with_nodes(1);
            let rejected = cluster.rejected(Kind::CreateNode(with_options(options)));
            assert_eq!((rejected.reason(), rejected.field.as_str()), (RejectionReason::Invalid, field));
        }
    }

    #[test]
    fn a_node_is_forgotten_only_when_nothing_lies_on_it() {
        let mut cluster = Cluster::with_resource();
        assert_eq!(cluster.reason(delete("n9")), RejectionReason::NotFound);
        let rejected = cluster.rejected(delete("n1"));
        assert_eq!(rejected.reason(), RejectionReason::InUse);
        assert!(rejected.message.contains("resource web"), "{}", rejected.message);

        let mut cluster = Cluster::initialized();
        cluster.applied(create_node("n1", "10.0.0.1"));
        cluster.applied(delete("n1"));
        assert_eq!(cluster.state.document("n1"), None);
    }

    #[test]
    fn a_node_with_a_pool_stays() {
        assert_eq!(Cluster::with_nodes(1).reason(delete("n1")), RejectionReason::InUse);
    }

    #[test]
    fn facts_belong_to_one_incarnation() {
        let mut cluster = Cluster::initialized();
        cluster.applied(create_node("n1", "10.0.0.1"));
        let incarnation = cluster.index;
        let facts = |incarnation, uname: &str| {
            Kind::RecordNodeFacts(RecordNodeFacts {
                node: "n1".into(),
                incarnation,
                uname: uname.into(),
                facts: Some(facts_84()),
            })
        };
        assert_eq!(cluster.reason(facts(incarnation + 1, "n1")), RejectionReason::NotFound);
        assert_eq!(cluster.rejected(facts(incarnation, "n 1")).field, "uname");
        cluster.applied(facts(incarnation, "host-1"));
        assert_eq!(cluster.state.node("n1").unwrap().uname, "host-1");
        // What is known already is no change.
        assert_eq!(cluster.commit(facts(incarnation, "host-1")).changes, Vec::new());
    }

    #[test]
    fn a_new_uname_reaches_the_documents_of_the_peers() {
        let mut cluster = Cluster::with_resource();
        let incarnation = cluster.state.node("n1").unwrap().incarnation;
        cluster.applied(Kind::RecordNodeFacts(RecordNodeFacts {
            node: "n1".into(),
            incarnation,
            uname: "renamed".into(),
            facts: Some(NodeFacts { drbd_version: "8.4.12".into(), ..facts_84() }),
        }));
        let document = cluster.state.document("n2").unwrap();
        assert_eq!(document.revision, cluster.index);
        assert_eq!(document.replicas[0].peers[0].uname, "renamed");
    }
}
