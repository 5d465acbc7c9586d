//! `hawser attachment`: who may open a resource where.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;
use serde::Serialize;

use super::NothingMore;
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::{attachment::Attachment, word},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Let a node open a resource, and wait until its device is there
    #[command(after_help = "\
Example:
  hawser attachment create data n1

Where another node holds the resource and is gone or frozen, this takes it over;
while that node may still be writing, it is refused: detach it there first.")]
    Create {
        /// Name of the resource
        resource: String,
        /// Node that opens it; it needs a replica of it
        node: String,
    },
    /// List the attachments with their devices
    #[command(after_help = "Examples:\n  hawser attachment list\n  hawser attachment list --node n1")]
    List {
        /// Only those of this resource
        #[arg(long)]
        resource: Option<String>,
        /// Only those on this node
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// End an attachment; nothing may hold the device open any more
    #[command(after_help = "Example:\n  hawser attachment delete data n1")]
    Delete {
        /// Name of the resource
        resource: String,
        /// Node that it is attached to
        node: String,
    },
}

/// What the JSON form says beyond the write itself.
#[derive(Serialize)]
struct Attached<'a> {
    device_paths: &'a [String],
    taken_over_from: Option<String>,
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { resource, node } => create(context, &resource, &node).await,
            Self::List { resource, node, listing } => {
                let request = v1::ListAttachmentsRequest {
                    resource: resource.unwrap_or_default(),
                    node: node.unwrap_or_default(),
                    ..Default::default()
                };
                list(context, &listing, request).await
            }
            Self::Delete { resource, node } => delete(context, &resource, &node).await,
        }
    }
}

async fn create(context: &Context, resource: &str, node: &str) -> Result<(), Failure> {
    let request = v1::CreateAttachmentRequest {
        request_key: request_key(),
        resource: resource.to_owned(),
        node: node.to_owned(),
        mode: v1::AttachmentMode::ReadWrite.into(),
    };
    let answer = context
        .call(&format!("attach resource {resource} to node {node}"), async |controller| {
            controller.attachments().create_attachment(request.clone()).await
        })
        .await?;
    let mut done = format!("resource {resource} is attached to {node}");
    if !answer.taken_over_from.is_empty() {
        done.push_str(&format!(", taken over from {}", answer.taken_over_from));
    }
    for path in &answer.device_paths {
        done.push_str(&format!("\n{path}"));
    }
    let extra =
        Attached { device_paths: &answer.device_paths, taken_over_from: word::text(&answer.taken_over_from) };
    context.finish(answer.result, &done, extra).await
}

async fn delete(context: &Context, resource: &str, node: &str) -> Result<(), Failure> {
    let request = v1::DeleteAttachmentRequest {
        request_key: request_key(),
        resource: resource.to_owned(),
        node: node.to_owned(),
    };
    let answer = context
        .call(&format!("detach resource {resource} from node {node}"), async |controller| {
            controller.attachments().delete_attachment(request.clone()).await
        })
        .await?;
    let done = format!("resource {resource} is detached from {node}");
    context.finish(answer.result, &done, NothingMore {}).await
}

async fn list(
    context: &Context,
    listing: &Listing,
    request: v1::ListAttachmentsRequest,
) -> Result<(), Failure> {
    let read = async || -> Result<(Vec<Attachment>, u64), Failure> {
        let (attachments, revision) = every_page!(
            context,
            "list attachments",
            attachments.list_attachments,
            request.clone(),
            attachments
        );
        Ok((attachments.iter().map(Attachment::from).collect(), revision))
    };
    let hint = "nothing is attached; attach a resource with `hawser attachment create`";
    listing.show(context, hint, read).await
}
