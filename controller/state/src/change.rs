//! What watchers are told of an object that changed.
//!
//! It must never show a shared secret.

use hawser_proto::v1::{
    Attachment, Change, Member, Node, Operation, Resource, ResourceGroup, StoragePool, change::Object,
};

/// An object that watchers may see.
pub(crate) trait Watched: Clone {
    /// The form in which they see it.
    fn shown(&self) -> Object;

    /// It is there, or looks like this now.
    fn changed(&self) -> Change {
        Change { removed: false, object: Some(self.shown()) }
    }

    /// It is gone; this is what it was.
    fn removed(&self) -> Change {
        Change { removed: true, object: Some(self.shown()) }
    }
}

impl Watched for Resource {
    fn shown(&self) -> Object {
        Object::Resource(Self { shared_secret: String::new(), ..self.clone() })
    }
}

macro_rules! watched_as_it_is {
    ($($object:ident => $variant:ident),+ $(,)?) => {
        $(impl Watched for $object {
            fn shown(&self) -> Object {
                Object::$variant(self.clone())
            }
        })+
    };
}

watched_as_it_is! {
    Attachment => Attachment,
    Member => Member,
    Node => Node,
    Operation => Operation,
    ResourceGroup => Group,
    StoragePool => Pool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_sees_no_secret() {
        let resource = Resource { name: "web".into(), shared_secret: "s3cret".into(), ..Resource::default() };
        for change in [resource.changed(), resource.removed()] {
            assert!(!format!("{change:?}").contains("s3cret"));
            assert!(format!("{change:?}").contains("web"));
        }
    }
}
