//! Words for the numbers of enums. A number that this release does not know is "unknown".

use hawser_proto::v1;

/// `$name(number)`: the word of `$kind` without its prefix, in lower case.
macro_rules! words {
    ($($name:ident: $kind:ty, $prefix:literal;)*) => {
        $(
            pub(crate) fn $name(number: i32) -> String {
                word(<$kind>::try_from(number).map_or("", |value| value.as_str_name()), $prefix)
            }
        )*
    };
}

words! {
    attachment_lifecycle: v1::AttachmentLifecycle, "ATTACHMENT_LIFECYCLE_";
    attachment_mode: v1::AttachmentMode, "ATTACHMENT_MODE_";
    disk_state: v1::DiskState, "DISK_STATE_";
    drbd_role: v1::DrbdRole, "DRBD_ROLE_";
    layer: v1::Layer, "LAYER_";
    member_role: v1::MemberRole, "MEMBER_ROLE_";
    operation_kind: v1::OperationKind, "OPERATION_KIND_";
    operation_state: v1::OperationState, "OPERATION_STATE_";
    presence: v1::Presence, "PRESENCE_";
    replica_kind: v1::ReplicaKind, "REPLICA_KIND_";
    replica_lifecycle: v1::ReplicaLifecycle, "REPLICA_LIFECYCLE_";
    resource_lifecycle: v1::ResourceLifecycle, "RESOURCE_LIFECYCLE_";
}

fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix) {
        None | Some("UNSPECIFIED") => "unknown".to_owned(),
        Some(word) => word.to_lowercase(),
    }
}

/// `8.4` or `9`.
pub(crate) fn drbd_generation(number: i32) -> String {
    match v1::DrbdGeneration::try_from(number) {
        Ok(v1::DrbdGeneration::DrbdGeneration84) => "8.4",
        Ok(v1::DrbdGeneration::DrbdGeneration9) => "9",
        _ => "unknown",
    }
    .to_owned()
}

/// A word of ours in DRBD's spelling, for people: `up_to_date` is `UpToDate`.
pub(crate) fn in_drbd_spelling(word: &str) -> String {
    word.split('_')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
        })
        .collect()
}

/// A text or null.
pub(crate) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_words() {
        assert_eq!(disk_state(v1::DiskState::UpToDate.into()), "up_to_date");
        assert_eq!(operation_kind(v1::OperationKind::CreateResource.into()), "create_resource");
        assert_eq!(drbd_generation(v1::DrbdGeneration::DrbdGeneration84.into()), "8.4");
        for unknown in [0, -1, 4711] {
            assert_eq!(disk_state(unknown), "unknown");
            assert_eq!(drbd_generation(unknown), "unknown");
        }
        assert_eq!(in_drbd_spelling("up_to_date"), "UpToDate");
    }
}
