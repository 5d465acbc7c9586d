//! Minors and ports that chosen nodes hold already, for a creation to pass over.
//!
//! Only advice, computed before the command: the numbers themselves are given by the state. Nothing observed means
//! nothing to avoid; a number that is then held after all shows as a failing step on its node.

use hawser_proto::{
    numbers::first_outside,
    v1::{ClusterRecord, NumberRange, PlacedReplica},
};

use super::observed::Observed;

/// The minors that the kernels of the nodes hold and that are not Hawser's.
#[must_use]
pub fn avoided_minors(
    cluster: &ClusterRecord,
    observed: &Observed,
    placed: &[PlacedReplica],
) -> Vec<NumberRange> {
    let minors = NumberRange { first: cluster.first_minor, last: cluster.last_minor };
    let nodes = placed.iter().filter_map(|replica| observed.node(&replica.node));
    nodes.flat_map(|seen| within(&minors, &seen.numbers.foreign_minors)).collect()
}

/// The placement with, for each node, the ports that something else holds there.
///
/// Ports that the kernel was told not to give to anybody by itself are avoided, too: somebody has plans for them.
/// Where nothing else would be left, they were set aside for DRBD.
#[must_use]
pub fn with_avoided_ports(
    cluster: &ClusterRecord,
    observed: &Observed,
    mut placed: Vec<PlacedReplica>,
) -> Vec<PlacedReplica> {
    let ports = NumberRange { first: cluster.first_port, last: cluster.last_port };
    for replica in &mut placed {
        let Some(seen) = observed.node(&replica.node) else { continue };
        let mut avoided = within(&ports, &seen.numbers.listening_ports);
        let set_aside = within(&ports, &seen.numbers.kernel_reserved_ports);
        let all = [&avoided[..], &set_aside, &cluster.reserved_ports].concat();
        if first_outside(&ports, &all).is_some() {
            avoided.extend(set_aside);
        }
        replica.avoided_ports = avoided;
    }
    placed
}

/// The parts of the ranges that lie in `range`.
fn within(range: &NumberRange, others: &[NumberRange]) -> Vec<NumberRange> {
    let cut = |other: &NumberRange| NumberRange {
        first: other.first.max(range.first),
        last: other.last.min(range.last),
    };
    others.iter().map(cut).filter(|part| part.first <= part.last).collect()
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1;

    use super::*;
    use crate::leader::loops::table::World;

    fn ranges(ranges: &[(u32, u32)]) -> Vec<NumberRange> {
        ranges.iter().map(|(first, last)| NumberRange { first: *first, last: *last }).collect()
    }

    fn placed() -> Vec<PlacedReplica> {
        ["n1", "n2", "n3"].map(|node| PlacedReplica { node: node.into(), ..Default::default() }).to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn minors_of_all_nodes_are_avoided_and_ports_of_each() {
        // Given a cluster with the minors 1000 to 1999 and the ports 7000 to 7999.
        let mut world = World::attaching();
        world.seen("n1").numbers = v1::NumbersObserved {
            foreign_minors: ranges(&[(0, 3), (1000, 1000), (1998, 2005)]),
            listening_ports: ranges(&[(22, 22), (6990, 7001)]),
            kernel_reserved_ports: ranges(&[(7500, 8500), (30_000, 32_767)]),
        };
        world.seen("n2").numbers =
            v1::NumbersObserved { foreign_minors: ranges(&[(1005, 1005)]), ..Default::default() };
        let (state, observed) = (world.state(), world.observed());

        let minors = avoided_minors(state.cluster(), &observed, &placed());
        let ports = with_avoided_ports(state.cluster(), &observed, placed());

        assert_eq!(minors, ranges(&[(1000, 1000), (1998, 1999), (1005, 1005)]));
        assert_eq!(ports[0].avoided_ports, ranges(&[(7000, 7001), (7500, 7999)]));
        assert_eq!((&ports[1].avoided_ports, &ports[2].avoided_ports), (&vec![], &vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn ports_that_are_all_set_aside_were_set_aside_for_drbd() {
        let mut world = World::attaching();
        world.seen("n1").numbers = v1::NumbersObserved {
            listening_ports: ranges(&[(7000, 7000)]),
            kernel_reserved_ports: ranges(&[(7001, 8000)]),
            ..Default::default()
        };
        let ports = with_avoided_ports(world.state().cluster(), &world.observed(), placed());
        assert_eq!(ports[0].avoided_ports, ranges(&[(7000, 7000)]));
    }
}
