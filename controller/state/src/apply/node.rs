//! Nodes: made by a person, described by their satellites.
//!
//! It must never forget a node that something lies on.

use std::collections::BTreeSet;

use hawser_proto::{
    names,
    v1::{Address, CreateNode, DeleteNode, Node, RecordNodeFacts},
};

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
    transaction.put_node(Node {
        name: command.name.clone(),
        addresses: command.addresses.clone(),
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
            format!("node {} does not exist", names::shown(&command.name)),
        ));
    }
    if let Some(resource) = state.resources_on(&command.name).next() {
        return Err(Denial::in_use(format!(
            "node {} has a replica of resource {}: delete the resource and wait until it is gone",
            command.name, resource.name
        )));
    }
    if let Some(pool) = state.pools_on(&command.name).next() {
        return Err(Denial::in_use(format!(
            "node {} has pool {}: delete the pool first",
            command.name, pool.name
        )));
    }
    transaction.remove_node(&command.name);
    Ok(Success::DONE)
}

pub(super) fn record_facts(transaction: &mut Transaction<'_>, command: &RecordNodeFacts) -> Verdict {
    let known =
        transaction.state().node(&command.node).filter(|node| node.incarnation == command.incarnation);
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
