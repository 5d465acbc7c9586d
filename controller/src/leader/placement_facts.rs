//! What placement may know of nodes and pools right now. What is not observed is left out: it is unknown.

use hawser_state::{
    State,
    placement::{NodeCondition, PlacementFacts, PoolCondition},
};

use super::observed::Observed;

/// The observed side of a placement.
#[must_use]
pub fn gather(state: &State, observed: &Observed) -> PlacementFacts {
    let mut facts = PlacementFacts::default();
    for (name, seen) in observed.nodes().filter(|(_, seen)| seen.complete) {
        let condition = NodeCondition { online: seen.online, missing: seen.node.missing.clone() };
        facts.nodes.insert(name.clone(), condition);
        for report in seen.pools.values() {
            // A report about an earlier pool of that name says nothing about this one.
            let same =
                state.pool(name, &report.name).is_some_and(|pool| pool.incarnation() == report.incarnation());
            if same {
                let condition = PoolCondition {
                    free_bytes: report.free_bytes,
                    metadata_used_permyriad: report.metadata_used_permyriad,
                    problem: report.problem.clone(),
                };
                facts.pools.insert((name.clone(), report.name.clone()), condition);
            }
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1;

    use super::*;
    use crate::leader::loops::table::World;

    #[test]
    fn only_what_was_reported_of_the_present_pool_is_known() {
        let mut world = World::attaching();
        let report = |incarnation| v1::PoolObserved {
            name: "fast".into(),
            incarnation,
            free_bytes: 5,
            ..Default::default()
        };
        world.seen("n1").pools.insert("fast".into(), report(11));
        world.seen("n2").pools.insert("fast".into(), report(10));
        let facts = gather(&world.state(), &world.observed());
        assert!(facts.nodes["n1"].online && facts.nodes["n2"].online);
        assert_eq!(facts.pools.keys().collect::<Vec<_>>(), [&("n1".to_owned(), "fast".to_owned())]);

        world.seen("n1").complete = false;
        world.go_offline("n2");
        let facts = gather(&world.state(), &world.observed());
        assert!(!facts.nodes.contains_key("n1") && !facts.nodes["n2"].online);
    }
}
