//! 15: bad input is refused and changes nothing: nothing that was only ever asked for in nonsense is there.

use super::seen::Seen;
use crate::workload::NEVER;

pub(super) fn check(seen: &Seen) -> Vec<String> {
    let state = &seen.state;
    let resources = state.resources().map(|resource| ("resource", &resource.name));
    let nodes = state.nodes().map(|node| ("node", &node.name));
    let pools = state.pools().map(|pool| ("pool", &pool.name));
    let groups = state.groups().map(|group| ("group", &group.name));
    let attachments = state.attachments().map(|attachment| ("attachment of", &attachment.resource));
    let all = resources.chain(nodes).chain(pools).chain(groups).chain(attachments);
    all.filter(|(_, name)| name.starts_with(NEVER))
        .map(|(kind, name)| format!("invariant 15: there is {kind} {name}, which only nonsense asked for"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{in_order, resource, with};

    #[test]
    fn what_nonsense_has_made_is_found() {
        assert_eq!(check(&in_order()), Vec::<String>::new());

        let made = with(|objects| objects.resources.push(resource("never-made", 30, 1001, 7001)));

        assert_eq!(check(&made).len(), 1);
    }
}
