//! 4: no step leaves fewer complete copies than the floor, which is one for the layouts there are. A copy counts where
//! it lies on a disk, with or without power: what has no power comes back.

use hawser_proto::v1;

use super::seen::{Seen, is_outdated, keeps_a_copy};

pub(super) fn check(seen: &Seen) -> Vec<String> {
    let kept = seen
        .state
        .resources()
        .filter(|resource| resource.lifecycle() == v1::ResourceLifecycle::Ready && resource.data_may_exist);
    kept.filter(|resource| !resource.replicas.iter().any(|replica| is_complete(seen, resource, replica)))
        .map(|resource| {
            format!("invariant 4: {} has no complete copy left that counts as one", resource.name)
        })
        .collect()
}

fn is_complete(seen: &Seen, resource: &v1::Resource, replica: &v1::Replica) -> bool {
    keeps_a_copy(replica)
        && !is_outdated(resource, &replica.node)
        && seen
            .copy(replica)
            .is_some_and(|copy| copy.consistent && seen.missing_on(copy, &resource.drbd_name).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{DATA, in_order, with};

    #[test]
    fn one_complete_copy_is_enough_and_none_is_found_out() {
        assert_eq!(check(&in_order()), Vec::<String>::new());

        let mut one_left = in_order();
        one_left.nodes[0].volumes.clear();
        assert_eq!(check(&one_left), Vec::<String>::new());

        type Change = fn(&mut Seen);
        let table: [(&str, Change); 4] = [
            ("both volumes are gone", |seen| seen.nodes.iter_mut().for_each(|node| node.volumes.clear())),
            ("the one that is left is inconsistent", |seen| {
                seen.nodes[0].volumes.clear();
                seen.nodes[1].volumes[0].consistent = false;
            }),
            ("the one that is left lacks a record", |seen| {
                seen.nodes[0].volumes.clear();
                seen.acknowledged.entry(DATA.into()).or_default().insert(0, 6);
            }),
            ("the one that is left is outdated", |seen| {
                seen.nodes[0].volumes.clear();
                seen.state = with(|objects| {
                    let arbitration = objects.resources[0].arbitration.get_or_insert_default();
                    arbitration.outdated.push(v1::OutdatedReplica { node: "n2".into(), number: 50 });
                })
                .state;
            }),
        ];
        for (what, change) in table {
            let mut seen = in_order();
            change(&mut seen);
            assert_eq!(check(&seen).len(), 1, "{what}");
        }
    }
}
