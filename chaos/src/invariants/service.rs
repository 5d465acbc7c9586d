//! 13: restarting any of Hawser's processes interrupts no I/O. An attached volume stays open for as long as it is to be
//! attached and its node has power, whatever starts, dies or plans beside it.

use std::collections::BTreeMap;

use hawser_plan::observed::Role;
use hawser_proto::v1;

use super::seen::Seen;

/// Resource and node → the attachment's incarnation and the node's boot in which it was open.
#[derive(Default)]
pub(super) struct Service {
    open: BTreeMap<(String, String), (u64, u64)>,
}

impl Service {
    pub(super) fn check(&mut self, seen: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = BTreeMap::new();
        let attached =
            |attachment: &&v1::Attachment| attachment.lifecycle() == v1::AttachmentLifecycle::Attached;
        for attachment in seen.state.attachments().filter(attached) {
            let Some(node) = seen.node(&attachment.node).filter(|node| node.running) else { continue };
            let key = (attachment.resource.clone(), attachment.node.clone());
            let this = (attachment.incarnation, node.boots);
            if is_open(seen, attachment) {
                open.insert(key, this);
            } else if self.open.get(&key) == Some(&this) {
                found.push(format!(
                    "invariant 13: {} was open on {} and is no more, but nobody asked for that",
                    attachment.resource, attachment.node
                ));
            }
        }
        self.open = open;
        found
    }
}

fn is_open(seen: &Seen, attachment: &v1::Attachment) -> bool {
    let Some(resource) = seen.state.resource(&attachment.resource) else { return false };
    let gate = format!("hawser-{}.{}-", resource.name, resource.incarnation);
    let leads = seen
        .node(&attachment.node)
        .is_some_and(|node| node.gates.iter().any(|(name, leads)| *leads && name.starts_with(&gate)));
    leads
        && seen
            .in_kernel(&attachment.node, &resource.drbd_name)
            .is_some_and(|kernel| kernel.role == Role::Primary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{in_order, with};

    #[test]
    fn what_was_open_stays_open_until_somebody_asks_or_the_power_fails() {
        type Change = fn(&mut Seen);
        let table: [(&str, Change, usize); 6] = [
            ("nothing", |_| (), 0),
            ("its gate is gone", |seen| seen.nodes[0].gates.clear(), 1),
            ("its gate leads to errors", |seen| seen.nodes[0].gates[0].1 = false, 1),
            ("it was demoted", |seen| seen.nodes[0].resources[0].role = Role::Secondary, 1),
            (
                "it is being detached",
                |seen| {
                    seen.nodes[0].gates.clear();
                    seen.state = with(|objects| {
                        objects.attachments[0].lifecycle = v1::AttachmentLifecycle::Detaching.into();
                    })
                    .state;
                },
                0,
            ),
            (
                "its node has booted",
                |seen| {
                    seen.nodes[0].gates.clear();
                    seen.nodes[0].boots = 2;
                },
                0,
            ),
        ];
        for (what, change, expected) in table {
            let mut service = Service::default();
            assert_eq!(service.check(&in_order()), Vec::<String>::new());
            let mut later = in_order();
            change(&mut later);
            assert_eq!(service.check(&later).len(), expected, "{what}");
        }
    }
}
