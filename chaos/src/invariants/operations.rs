//! 9: every operation ends, or shows why it waits.

use std::collections::BTreeMap;

use hawser_proto::{ids::OperationId, v1};

use super::seen::Seen;
use crate::clock::Moment;

/// While somebody leads, an operation shows within this time what it waits for.
const SILENCE: Moment = Moment::from_secs(10);

/// Kind and phase of an operation.
pub(crate) type KindAndPhase = (&'static str, &'static str);

/// What an operation goes through where nothing goes wrong; a fault has to fall into each.
pub(crate) const PHASES: [KindAndPhase; 20] = [
    ("create", "store-orders"),
    ("create", "create-replicas"),
    ("create", "connect"),
    ("create", "confirm"),
    ("delete", "store-orders"),
    ("delete", "remove-replicas"),
    ("delete", "confirm"),
    ("attach", "store-orders"),
    ("attach", "promote"),
    ("attach", "open-gate"),
    ("attach", "confirm"),
    ("detach", "store-orders"),
    ("detach", "close-gate"),
    ("detach", "demote"),
    ("add", "store-orders"),
    ("add", "create-replicas"),
    ("add", "connect"),
    ("add", "sync"),
    ("remove", "disconnect"),
    ("remove", "remove-replicas"),
];

/// Since when operations that run have shown neither a phase nor a reason.
#[derive(Default)]
pub(super) struct Operations {
    silent: BTreeMap<OperationId, Moment>,
}

impl Operations {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        let mut silent = BTreeMap::new();
        if seen.leader.is_some() {
            let shows_nothing = |operation: &&v1::Operation| {
                operation.waits_for.is_none() && !seen.phases.contains_key(&operation.id())
            };
            for operation in seen.state.running_operations().filter(shows_nothing) {
                let since = self.silent.get(&operation.id()).copied().unwrap_or(seen.now);
                if seen.now - since > SILENCE {
                    found.push(format!(
                        "invariant 9: operation {} on {} shows neither a phase nor a reason",
                        operation.id(),
                        operation.resource
                    ));
                }
                silent.insert(operation.id(), since);
            }
        }
        self.silent = silent;
        found
    }
}

/// The word for a kind of operation.
pub(super) fn kind_word(kind: v1::OperationKind) -> Option<&'static str> {
    match kind {
        v1::OperationKind::CreateResource => Some("create"),
        v1::OperationKind::DeleteResource => Some("delete"),
        v1::OperationKind::Attach => Some("attach"),
        v1::OperationKind::Detach => Some("detach"),
        v1::OperationKind::CreateReplica => Some("add"),
        v1::OperationKind::DeleteReplica => Some("remove"),
        v1::OperationKind::Unspecified => None,
    }
}

/// The operations that run, in the words of whoever looks at one.
pub(super) fn running(seen: &Seen) -> Vec<String> {
    seen.state
        .running_operations()
        .map(|operation| {
            let reason = operation.waits_for.as_ref().map_or("no reason", |reason| reason.message.as_str());
            let kind = kind_word(operation.kind()).unwrap_or("something");
            format!("{kind} of {} on {:?} waits: {reason}", operation.resource, operation.node)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::attaching_at;

    #[test]
    fn an_operation_must_not_be_silent_for_long() {
        type Change = fn(&mut Seen);
        let table: [(&str, u64, Change, usize); 4] = [
            ("silent for too long", 11, |_| (), 1),
            ("not for long", 10, |_| (), 0),
            ("it shows a phase", 11, |seen| seen.phases.extend([(OperationId::new(60), "promote")]), 0),
            ("nobody leads who could say", 11, |seen| seen.leader = None, 0),
        ];
        for (what, later, change, expected) in table {
            let mut operations = Operations::default();
            assert_eq!(operations.check(&attaching_at(0)), Vec::<String>::new());
            let mut seen = attaching_at(later);
            change(&mut seen);
            assert_eq!(operations.check(&seen).len(), expected, "{what}");
        }
    }
}
