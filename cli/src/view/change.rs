//! Changes of objects, one line each.

use hawser_proto::v1::{self, change::Object};
use serde::Serialize;

use super::word;

/// One object's change, as far as a person wants to hear of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// At which it happened.
    pub(crate) revision: u64,
    /// `created`, `changed` or `removed`.
    pub(crate) change: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Where it is, for what is on one node.
    pub(crate) node: Option<String>,
    /// What it is now, in a word or two.
    pub(crate) state: Option<String>,
}

impl Change {
    /// The changes of one entry.
    pub(crate) fn all(heard: &v1::WatchResponse) -> Vec<Self> {
        heard.changes.iter().filter_map(|change| Self::of(heard.revision, change)).collect()
    }

    fn of(revision: u64, change: &v1::Change) -> Option<Self> {
        // What a later release calls by a kind that this one does not know has no words here.
        let object = change.object.as_ref()?;
        let (kind, name, node, made_at) = match object {
            Object::Node(node) => ("node", node.name.clone(), None, node.incarnation),
            Object::Pool(pool) => ("pool", pool.name.clone(), Some(pool.node.clone()), pool.incarnation),
            Object::Group(group) => ("group", group.name.clone(), None, group.incarnation),
            Object::Resource(resource) => ("resource", resource.name.clone(), None, resource.incarnation),
            Object::Attachment(attachment) => {
                let node = Some(attachment.node.clone());
                ("attachment", attachment.resource.clone(), node, attachment.incarnation)
            }
            Object::Operation(operation) => {
                let node = word::text(&operation.node);
                ("operation", operation.id.to_string(), node, operation.id)
            }
            Object::Member(member) => ("member", member.name.clone(), None, member.raft_id),
        };
        let change = match (change.removed, made_at == revision) {
            (true, _) => "removed",
            (false, true) => "created",
            (false, false) => "changed",
        };
        let state = if change == "removed" { None } else { state(object) };
        Some(Self { revision, change, kind, name, node, state })
    }

    /// `REVISION  CHANGE  KIND  NAME on NODE: STATE`, with columns that stay where they are.
    pub(crate) fn line(&self) -> String {
        let node = self.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let state = self.state.as_ref().map(|state| format!(": {state}")).unwrap_or_default();
        format!("{:>8}  {:7}  {:10}  {}{node}{state}", self.revision, self.change, self.kind, self.name)
    }
}

fn state(object: &Object) -> Option<String> {
    match object {
        Object::Resource(resource) => Some(word::resource_lifecycle(resource.lifecycle)),
        Object::Attachment(attachment) => Some(word::attachment_lifecycle(attachment.lifecycle)),
        Object::Operation(operation) => {
            let kind = word::operation_kind(operation.kind).replace('_', " ");
            let reason = match &operation.waits_for {
                Some(reason) => format!(", waits for {}", reason.message),
                None => String::new(),
            };
            let state = word::operation_state(operation.state);
            Some(format!("{kind} {} {state}{reason}", operation.resource))
        }
        Object::Member(member) => {
            Some(if member.store_incarnation == 0 { "announced" } else { "joined" }.to_owned())
        }
        Object::Node(_) | Object::Pool(_) | Object::Group(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line() {
        let resource = |lifecycle: v1::ResourceLifecycle| {
            Object::Resource(v1::Resource {
                name: "data".into(),
                incarnation: 21,
                lifecycle: lifecycle.into(),
                ..Default::default()
            })
        };
        let operation = Object::Operation(v1::Operation {
            id: 30,
            kind: v1::OperationKind::Attach.into(),
            resource: "data".into(),
            node: "n1".into(),
            state: v1::OperationState::Running.into(),
            waits_for: Some(v1::OperationReason {
                message: "node n1 is not connected".into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        let member = Object::Member(v1::Member { raft_id: 4, name: "n2".into(), ..Default::default() });
        let cases = [
            (
                21,
                false,
                resource(v1::ResourceLifecycle::Creating),
                "      21  created  resource    data: creating",
            ),
            (25, false, resource(v1::ResourceLifecycle::Ready), "      25  changed  resource    data: ready"),
            (40, true, resource(v1::ResourceLifecycle::Deleting), "      40  removed  resource    data"),
            (
                33,
                false,
                operation,
                "      33  changed  operation   30 on n1: attach data running, waits for node n1 is not connected",
            ),
            (4, false, member, "       4  created  member      n2: announced"),
        ];
        for (revision, removed, object, expected) in cases {
            let changes = vec![v1::Change { removed, object: Some(object) }];
            let lines: Vec<_> =
                Change::all(&v1::WatchResponse { revision, changes }).iter().map(Change::line).collect();
            assert_eq!(lines, [expected]);
        }
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over() {
        let heard = v1::WatchResponse { revision: 9, changes: vec![v1::Change::default()] };
        assert_eq!(Change::all(&heard), []);
    }
}
