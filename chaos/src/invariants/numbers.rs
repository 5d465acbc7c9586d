//! 2: a minor, a port of a node and a node-id of a resource have one holder; none is handed on before the removal of
//! the old one is confirmed.

use std::collections::BTreeMap;

use hawser_state::State;

use super::seen::Seen;

pub(super) fn check(seen: &Seen) -> Vec<String> {
    let mut found = held_twice(&seen.state);
    let holders: BTreeMap<(u32, &str), &str> =
        seen.state
            .resources()
            .flat_map(|resource| {
                resource.volumes.iter().flat_map(move |volume| {
                    resource.replicas.iter().map(move |replica| {
                        ((volume.minor, replica.node.as_str()), resource.drbd_name.as_str())
                    })
                })
            })
            .collect();
    for node in &seen.nodes {
        for resource in &node.resources {
            for minor in &resource.minors {
                match holders.get(&(*minor, node.name.as_str())) {
                    Some(holder) if *holder != resource.drbd_name => found.push(format!(
                        "invariant 2: minor {minor} was handed to {holder} on {}, but {} still has it",
                        node.name, resource.drbd_name
                    )),
                    _ => {}
                }
            }
        }
    }
    found
}

fn held_twice(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    let mut minors: BTreeMap<u32, &str> = BTreeMap::new();
    let mut ports: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    for resource in state.resources() {
        for volume in &resource.volumes {
            if let Some(other) = minors.insert(volume.minor, &resource.name).filter(|_| volume.minor != 0) {
                found.push(format!("invariant 2: {other} and {} have minor {}", resource.name, volume.minor));
            }
        }
        let mut node_ids: BTreeMap<u32, &str> = BTreeMap::new();
        for replica in &resource.replicas {
            if let Some(other) = node_ids.insert(replica.node_id, &replica.node) {
                found.push(format!(
                    "invariant 2: {other} and {} have node-id {} of {}",
                    replica.node, replica.node_id, resource.name
                ));
            }
            let port = (replica.node.as_str(), replica.port);
            if let Some(other) = ports.insert(port, &resource.name).filter(|_| replica.port != 0) {
                found.push(format!(
                    "invariant 2: {other} and {} have port {} on {}",
                    resource.name, replica.port, replica.node
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{Objects, in_order, resource, with};

    /// The records of a state never share a number, or they make none; what the kernels have is another matter.
    #[test]
    fn a_minor_that_another_resource_still_has_in_a_kernel_is_found() {
        assert_eq!(check(&in_order()), Vec::<String>::new());

        let handed_on = with(|objects| objects.resources = vec![resource("next", 30, 1000, 7000)]);

        let found = check(&handed_on);
        assert_eq!(found.len(), 2, "on both nodes: {found:?}");
        assert!(found[0].contains("next.30") && found[0].contains("data.20"), "{found:?}");
    }

    #[test]
    fn a_node_id_that_two_replicas_have_is_found() {
        let mut objects = Objects::in_order();
        assert_eq!(held_twice(&objects.state()), Vec::<String>::new());

        objects.resources[0].replicas[1].node_id = objects.resources[0].replicas[0].node_id;

        assert_eq!(held_twice(&objects.state()).len(), 1);
    }
}
