//! An attachment is there once its node was seen Primary with an open gate, under a document that grants it.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use super::evidence::{can_write, seen_under};
use crate::leader::observed::Observed;

/// `ConfirmAttached` for each attachment that consumers can use.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    state
        .attachments()
        .filter(|attachment| attachment.lifecycle() == v1::AttachmentLifecycle::Attaching)
        .filter(|attachment| is_attached(state, observed, attachment))
        .map(|attachment| {
            Command::ConfirmAttached(v1::ConfirmAttached {
                resource: attachment.resource.clone(),
                node: attachment.node.clone(),
                attachment_incarnation: attachment.incarnation,
            })
        })
        .collect()
}

/// Whether consumers can use an attachment on its node.
pub(crate) fn is_attached(state: &State, observed: &Observed, attachment: &v1::Attachment) -> bool {
    let Some(resource) = state.resource(&attachment.resource) else { return false };
    let replica = resource.replicas.iter().find(|replica| replica.node == attachment.node);
    replica
        .and_then(|replica| seen_under(observed, &resource.name, replica, attachment.revision()))
        .is_some_and(|report| can_write(resource, report) && report.gate_open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    #[test]
    fn attached_means_primary_with_an_open_gate_under_the_grant() {
        let world = World::attaching();
        assert_eq!(
            decide(&world.state(), &world.observed()),
            [Command::ConfirmAttached(v1::ConfirmAttached {
                resource: "data".into(),
                node: "n1".into(),
                attachment_incarnation: 40,
            })]
        );

        type Change = fn(&mut World);
        let table: [(&str, Change); 5] = [
            ("the gate is closed", |world| world.report("n1").gate_open = false),
            ("it is Secondary", |world| world.report("n1").role = v1::DrbdRole::Secondary.into()),
            ("it was seen before the grant", |world| world.report("n1").revision = 39),
            ("the session has ended", |world| world.go_offline("n1")),
            ("it is to end", |world| {
                world.attachments[0].lifecycle = v1::AttachmentLifecycle::Detaching.into();
            }),
        ];
        for (what, change) in table {
            let mut world = World::attaching();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
