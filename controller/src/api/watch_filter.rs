//! Which changes a watcher wants to hear of: kinds of objects, and the name of one.

use hawser_proto::v1::{self, ObjectKind, change::Object};

use super::error::ApiError;

/// What a watch request asks for, checked.
#[derive(Clone, Debug)]
pub struct WatchFilter {
    /// Empty: all.
    kinds: Vec<ObjectKind>,
    /// Empty: any.
    name: String,
}

impl WatchFilter {
    /// The filter of a request.
    ///
    /// # Errors
    /// A kind that this release does not know.
    pub fn new(request: &v1::WatchRequest) -> Result<Self, ApiError> {
        let known = |(position, kind): (usize, &i32)| match ObjectKind::try_from(*kind) {
            Ok(kind) if kind != ObjectKind::Unspecified => Ok(kind),
            _ => Err(ApiError::invalid(
                format!("kinds[{position}]"),
                format!("{kind} is not a kind of object that this controller knows"),
            )),
        };
        let kinds = request.kinds.iter().enumerate().map(known).collect::<Result<_, _>>()?;
        Ok(Self { kinds, name: request.name.clone() })
    }

    /// Whether the watcher hears of this change.
    #[must_use]
    pub fn shows(&self, change: &v1::Change) -> bool {
        let Some(object) = &change.object else { return false };
        let (kind, names) = kind_and_names(object);
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.name.is_empty() || names.contains(&self.name.as_str()))
    }
}

/// The kind of an object, and the names by which it is asked for: its own and those of what it is about.
fn kind_and_names(object: &Object) -> (ObjectKind, [&str; 2]) {
    match object {
        Object::Node(node) => (ObjectKind::Node, [&node.name, ""]),
        Object::Pool(pool) => (ObjectKind::Pool, [&pool.name, &pool.node]),
        Object::Group(group) => (ObjectKind::Group, [&group.name, ""]),
        Object::Resource(resource) => (ObjectKind::Resource, [&resource.name, ""]),
        Object::Attachment(attachment) => (ObjectKind::Attachment, [&attachment.resource, &attachment.node]),
        Object::Operation(operation) => (ObjectKind::Operation, [&operation.resource, &operation.node]),
        Object::Member(member) => (ObjectKind::Member, [&member.name, ""]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn change(object: Object) -> v1::Change {
        v1::Change { removed: false, object: Some(object) }
    }

    #[test]
    fn a_filter_lets_through_what_was_asked_for() {
        let resource =
            |name: &str| Object::Resource(v1::Resource { name: name.into(), ..Default::default() });
        let attachment = Object::Attachment(v1::Attachment {
            resource: "data".into(),
            node: "n1".into(),
            ..Default::default()
        });
        let cases: [(&[ObjectKind], &str, Object, bool); 7] = [
            (&[], "", resource("data"), true),
            (&[], "data", resource("data"), true),
            (&[], "data", resource("date"), false),
            (&[ObjectKind::Node], "", resource("data"), false),
            (&[ObjectKind::Node, ObjectKind::Resource], "data", resource("data"), true),
            (&[], "n1", attachment.clone(), true),
            (&[], "data", attachment, true),
        ];
        for (kinds, name, object, expected) in cases {
            let request = v1::WatchRequest {
                kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
                name: name.into(),
                ..Default::default()
            };
            let filter = WatchFilter::new(&request).unwrap();
            assert_eq!(filter.shows(&change(object.clone())), expected, "{kinds:?} {name} {object:?}");
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_by_its_place() {
        for kind in [0, 99] {
            let request =
                v1::WatchRequest { kinds: vec![ObjectKind::Node.into(), kind], ..Default::default() };
            let refused = WatchFilter::new(&request).unwrap_err();
            assert!(
                matches!(&refused, ApiError::Invalid { field, .. } if field == "kinds[1]"),
                "{refused:?}"
            );
        }
    }
}
