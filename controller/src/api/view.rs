//! Objects as the API shows them: desired and observed side by side, why they differ, and no secrets.

use hawser_proto::v1;
use tokio::time::Instant;

use super::{context::Reading, read_mask::ReadMask};
use crate::leader::conditions;

/// Fields of a resource's view.
pub const RESOURCE_FIELDS: [&str; 4] = ["desired", "replicas", "attachment", "conditions"];

/// A resource with its replicas and its attachment, as far as they are wanted.
#[must_use]
pub fn resource(reading: &Reading, resource: &v1::Resource, mask: &ReadMask) -> v1::ResourceView {
    let replicas = || resource.replicas.iter().map(|found| replica(reading, &resource.name, found)).collect();
    let shown = || v1::Resource { shared_secret: String::new(), ..resource.clone() };
    v1::ResourceView {
        replicas: mask.take("replicas", replicas),
        attachment: mask.take("attachment", || attachment_of(reading, &resource.name).cloned()),
        conditions: mask.take("conditions", || {
            conditions::of_resource(&reading.state, reading.observed.as_ref(), resource)
        }),
        desired: mask.take("desired", || Some(shown())),
    }
}

/// One replica with its last report, however old.
#[must_use]
pub fn replica(reading: &Reading, resource: &str, replica: &v1::Replica) -> v1::ReplicaView {
    let seen = reading.observed.as_ref().and_then(|observed| {
        observed.last_seen(&replica.node, resource, replica.incarnation(), Instant::now())
    });
    v1::ReplicaView {
        desired: Some(replica.clone()),
        observed: seen.map(|(report, _)| report.clone()),
        observed_age_ms: seen.map_or(0, |(_, age)| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// The attachment that counts: one that was revoked only until its node has let go, if there is no other.
fn attachment_of<'a>(reading: &'a Reading, resource: &'a str) -> Option<&'a v1::Attachment> {
    let revoked = |attachment: &&v1::Attachment| attachment.lifecycle() == v1::AttachmentLifecycle::Revoked;
    let mut all = reading.state.attachments_of(resource);
    all.find(|attachment| !revoked(attachment)).or_else(|| reading.state.attachments_of(resource).next())
}

/// Device that consumers open, one per volume. The name is that of the desired document.
#[must_use]
pub fn device_paths(resource: &v1::Resource) -> Vec<String> {
    let volumes = resource.volumes.iter();
    volumes
        .map(|volume| {
            format!("/dev/mapper/hawser-{}.{}-{}", resource.name, resource.incarnation, volume.number)
        })
        .collect()
}
