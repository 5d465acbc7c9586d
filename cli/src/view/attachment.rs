//! Attachments.

use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{condition::Condition, word};
use crate::output::table::Row;

#[derive(Debug, Serialize)]
pub(crate) struct Attachment {
    pub(crate) desired: AttachmentDesired,
    pub(crate) device_paths: Vec<String>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AttachmentDesired {
    pub(crate) resource: String,
    pub(crate) node: String,
    pub(crate) incarnation: u64,
    pub(crate) mode: String,
    /// The owner's generation that it was granted.
    pub(crate) generation: u64,
    pub(crate) lifecycle: String,
}

impl From<&v1::Attachment> for AttachmentDesired {
    fn from(attachment: &v1::Attachment) -> Self {
        Self {
            resource: attachment.resource.clone(),
            node: attachment.node.clone(),
            incarnation: attachment.incarnation,
            mode: word::attachment_mode(attachment.mode),
            generation: attachment.generation,
            lifecycle: word::attachment_lifecycle(attachment.lifecycle),
        }
    }
}

impl From<&v1::AttachmentView> for Attachment {
    fn from(view: &v1::AttachmentView) -> Self {
        Self {
            desired: AttachmentDesired::from(&view.desired.clone().unwrap_or_default()),
            device_paths: view.device_paths.clone(),
            conditions: Condition::all(&view.conditions),
        }
    }
}

impl Row for Attachment {
    const COLUMNS: &'static [&'static str] =
        &["RESOURCE", "NODE", "MODE", "STATE", "GENERATION", "DEVICE", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.desired.resource.clone(),
            self.desired.node.clone(),
            self.desired.mode.replace('_', "-"),
            self.desired.lifecycle.clone(),
            self.desired.generation.to_string(),
            self.device_paths.join(" "),
            Condition::reasons(&self.conditions),
        ]
    }
}
