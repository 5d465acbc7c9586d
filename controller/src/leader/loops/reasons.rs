//! Why a running operation does not advance, as a record: the latest distinct reason, nothing else.
//!
//! Attempts and percentages stay observed. What changes with every look is left out, or an outage would flood
//! the log.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use crate::leader::{conditions, observed::Observed};

/// Conditions that come and go with every step of a healthy operation: not worth a record.
const TRANSIENT: [&str; 8] = [
    "DocumentPending",
    "Leaving",
    "NotCreated",
    "NotReported",
    "Removing",
    "Syncing",
    "NotConnected",
    "DiskNotUpToDate",
];

/// `RecordOperationReason` for each running operation whose recorded reason is not the present one.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    state
        .running_operations()
        .filter_map(|operation| {
            let reason = reason_of(state, observed, operation);
            let differs = reason != operation.waits_for;
            let record = v1::RecordOperationReason { id: operation.id, reason };
            differs.then_some(Command::RecordOperationReason(record))
        })
        .collect()
}

fn reason_of(state: &State, observed: &Observed, operation: &v1::Operation) -> Option<v1::OperationReason> {
    let condition = conditions::of_operation(state, Some(observed), operation)
        .into_iter()
        .find(|condition| !TRANSIENT.contains(&condition.reason.as_str()))?;
    let command = if condition.reason == "StepFailed" {
        failed_command(state, observed, operation, &condition.node)
    } else {
        String::new()
    };
    Some(v1::OperationReason { node: condition.node, command, message: condition.message })
}

fn failed_command(state: &State, observed: &Observed, operation: &v1::Operation, node: &str) -> String {
    state
        .resource(&operation.resource)
        .and_then(|resource| resource.replicas.iter().find(|replica| replica.node == node))
        .and_then(|replica| observed.replica(node, &operation.resource, replica.incarnation()).known())
        .and_then(|report| report.failure.as_ref())
        .map_or_else(String::new, |failure| failure.command.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn creating() -> World {
        let mut world = World::creating();
        world.operations = vec![v1::Operation {
            id: 20,
            kind: v1::OperationKind::CreateResource.into(),
            resource: "data".into(),
            resource_incarnation: 20,
            state: v1::OperationState::Running.into(),
            ..Default::default()
        }];
        world
    }

    fn fail(world: &mut World) {
        world.report("n2").failure = Some(v1::StepFailure {
            step: "create-storage".into(),
            command: "lvcreate -n x".into(),
            message: "pool is full".into(),
            attempts: 1,
        });
    }

    #[test]
    fn an_advancing_operation_has_no_reason() {
        let mut world = creating();
        world.forget("n2");
        assert_eq!(decide(&world.state(), &world.observed()), []);
    }

    #[test]
    fn a_failed_step_is_recorded_with_its_command_and_only_once() {
        let mut world = creating();
        fail(&mut world);
        let commands = decide(&world.state(), &world.observed());
        let [Command::RecordOperationReason(record)] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(record.id, 20);
        let reason = record.reason.clone().unwrap_or_default();
        assert_eq!((reason.node.as_str(), reason.command.as_str()), ("n2", "lvcreate -n x"));
        assert!(reason.message.contains("pool is full"), "{}", reason.message);

        world.operations[0].waits_for = Some(reason);
        world.report("n2").failure.get_or_insert_default().attempts = 9;
        assert_eq!(decide(&world.state(), &world.observed()), [], "the same reason again");
    }

    #[test]
    fn a_reason_that_is_gone_is_cleared() {
        let mut world = creating();
        world.operations[0].waits_for = Some(v1::OperationReason { node: "n2".into(), ..Default::default() });
        assert_eq!(
            decide(&world.state(), &world.observed()),
            [Command::RecordOperationReason(v1::RecordOperationReason { id: 20, reason: None })]
        );
    }

    #[test]
    fn an_unreachable_node_is_a_reason() {
        let mut world = creating();
        world.go_offline("n2");
        let commands = decide(&world.state(), &world.observed());
        let [Command::RecordOperationReason(record)] = &commands[..] else { panic!("{commands:?}") };
        assert!(
            record
                .reason
                .as_ref()
                .is_some_and(|reason| reason.message.contains("not connected to the controllers"))
        );
    }
}
