//! An attachment is gone once its node was seen without a gate, and Secondary or without the resource in its kernel,
//! under a document that takes it away.
//!
//! A node whose kernel or gate nobody can tell has let go of nothing.

use hawser_proto::{
    ids::Revision,
    v1::{self, command::Command},
};
use hawser_state::State;

use super::evidence::{is_replicated, stated_under};
use crate::leader::observed::Observed;

/// `ConfirmDetached` for each attachment that its node has let go of.
#[must_use]
pub fn decide(state: &State, observed: &Observed) -> Vec<Command> {
    use v1::AttachmentLifecycle::{Detaching, Revoked};
    state
        .attachments()
        .filter(|attachment| matches!(attachment.lifecycle(), Detaching | Revoked))
        .filter_map(|attachment| {
            let revision = let_go_under(state, observed, attachment)?;
            Some(Command::ConfirmDetached(v1::ConfirmDetached {
                resource: attachment.resource.clone(),
                node: attachment.node.clone(),
                attachment_incarnation: attachment.incarnation,
                revision: revision.get(),
            }))
        })
        .collect()
}

/// The revision of the orders under which a node was seen to have let go of an attachment, if it was.
pub(crate) fn let_go_under(
    state: &State,
    observed: &Observed,
    attachment: &v1::Attachment,
) -> Option<Revision> {
    let resource = state.resource(&attachment.resource)?;
    let replica = resource.replicas.iter().find(|replica| replica.node == attachment.node)?;
    let report = stated_under(observed, &resource.name, replica, attachment.revision())?;
    let cannot_write = !is_replicated(resource)
        || report.role() == v1::DrbdRole::Secondary
        || report.in_kernel() == v1::Presence::Absent;
    (cannot_write && report.gates() == v1::Presence::Absent).then(|| report.revision())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn detaching() -> World {
        let mut world = World::attaching();
        world.attachments[0].lifecycle = v1::AttachmentLifecycle::Detaching.into();
        world.attachments[0].revision = 50;
        let report = world.report("n1");
        report.revision = 51;
        report.role = v1::DrbdRole::Secondary.into();
        report.gate_open = false;
        report.gates = v1::Presence::Absent.into();
        world
    }

    #[test]
    fn detached_means_secondary_without_a_gate_under_the_order() {
        let expected = [Command::ConfirmDetached(v1::ConfirmDetached {
            resource: "data".into(),
            node: "n1".into(),
            attachment_incarnation: 40,
            revision: 51,
        })];
        let mut world = detaching();
        assert_eq!(decide(&world.state(), &world.observed()), expected);
        world.attachments[0].lifecycle = v1::AttachmentLifecycle::Revoked.into();
        assert_eq!(decide(&world.state(), &world.observed()), expected, "revoked");
        let report = world.report("n1");
        (report.role, report.in_kernel) = (v1::DrbdRole::Unspecified.into(), v1::Presence::Absent.into());
        assert_eq!(decide(&world.state(), &world.observed()), expected, "its storage is gone");
        for presence in [v1::Presence::Absent, v1::Presence::Unknown] {
            let mut world = detaching();
            let report = world.report("n1");
            (report.presence, report.in_kernel) = (presence.into(), v1::Presence::Absent.into());
            report.role = v1::DrbdRole::Unspecified.into();
            assert_eq!(decide(&world.state(), &world.observed()), expected, "as a whole {presence:?}");
            world.resource.layers = vec![v1::Layer::Storage.into()];
            assert_eq!(decide(&world.state(), &world.observed()), expected, "and without DRBD {presence:?}");
        }

        type Change = fn(&mut World);
        let table: [(&str, Change); 10] = [
            ("a gate is there", |world| world.report("n1").gates = v1::Presence::Present.into()),
            ("a gate may be there", |world| world.report("n1").gates = v1::Presence::Unknown.into()),
            ("nothing was said of gates", |world| {
                world.report("n1").gates = v1::Presence::Unspecified.into();
            }),
            ("without DRBD, a gate may be there", |world| {
                world.resource.layers = vec![v1::Layer::Storage.into()];
                world.report("n1").gates = v1::Presence::Unknown.into();
            }),
            ("it is Primary", |world| world.report("n1").role = v1::DrbdRole::Primary.into()),
            ("whether the kernel has it is unknown", |world| {
                let report = world.report("n1");
                (report.role, report.in_kernel) =
                    (v1::DrbdRole::Unspecified.into(), v1::Presence::Unknown.into());
            }),
            ("its role is unknown", |world| world.report("n1").role = v1::DrbdRole::Unknown.into()),
            ("it was seen before the order", |world| world.report("n1").revision = 49),
            ("the session has ended", |world| world.go_offline("n1")),
            ("it is to stay", |world| {
                world.attachments[0].lifecycle = v1::AttachmentLifecycle::Attached.into();
            }),
        ];
        for (what, change) in table {
            let mut world = detaching();
            change(&mut world);
            assert_eq!(decide(&world.state(), &world.observed()), [], "{what}");
        }
    }
}
