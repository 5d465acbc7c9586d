//! Attachments: who may open a resource where.
//!
//! Whether a request is a grant or a take-over is decided by `leader::take_over` on what is known; this waits a
//! moment for more where that is not enough, and then refuses with the reason. A take-over it claims first, and waits
//! until the node keeps the holder away.

use std::{sync::Arc, time::Duration};

use hawser_proto::{
    names,
    v1::{self, attachment_service_server::AttachmentService, command::Command},
};
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        context::{Context, Write, result},
        error::ApiError,
        pages::pair_key,
        read_mask::ReadMask,
        view,
    },
    leader::{
        Reign, conditions,
        take_over::{self, Decision, Moments},
        take_over_requests::Asking,
    },
};

/// Fields of an attachment's view.
const FIELDS: [&str; 3] = ["desired", "device_paths", "conditions"];

/// How long a request waits for what decides it: longer than DRBD and the sessions need to notice a power cut. That takes
/// 3 to 5 s, and on a node that is busy more.
const PATIENCE: Duration = Duration::from_secs(10);
/// A decision depends on time as well as on reports.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// `AttachmentService`.
pub struct Attachments(pub Context);

#[tonic::async_trait]
impl AttachmentService for Attachments {
    async fn create_attachment(
        &self,
        request: Request<v1::CreateAttachmentRequest>,
    ) -> Result<Response<v1::CreateAttachmentResponse>, Status> {
        let (write, request, answered) = self.0.begin(request, |request| &request.request_key, checked)?;
        let decide = async {
            self.0.settled()?;
            self.create(&write, &request).await
        };
        let applied = write.once(answered, decide).await?;
        let state = self.0.consensus.view().state();
        let device_paths = state.resource(&request.resource).map(view::device_paths).unwrap_or_default();
        Ok(Response::new(v1::CreateAttachmentResponse {
            result: result(&applied),
            device_paths,
            taken_over_from: applied.taken_over_from,
        }))
    }

    async fn delete_attachment(
        &self,
        request: Request<v1::DeleteAttachmentRequest>,
    ) -> Result<Response<v1::DeleteAttachmentResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::DeleteAttachmentRequest { resource, node, .. } = request.into_inner();
        names::resource_name("resource", &resource).map_err(ApiError::from)?;
        names::node_name("node", &node).map_err(ApiError::from)?;
        let applied =
            write.propose(Command::DeleteAttachment(v1::DeleteAttachment { resource, node })).await?;
        Ok(Response::new(v1::DeleteAttachmentResponse { result: result(&applied) }))
    }

    async fn list_attachments(
        &self,
        request: Request<v1::ListAttachmentsRequest>,
    ) -> Result<Response<v1::ListAttachmentsResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let reading = &page.reading;
        let all = reading.state.attachments().filter(|attachment| {
            (request.resource.is_empty() || attachment.resource == request.resource)
                && (request.node.is_empty() || attachment.node == request.node)
        });
        let keyed = all.map(|attachment| (pair_key(&attachment.resource, &attachment.node), attachment));
        let (attachments, next_page_token) = self.0.take(&page, keyed);
        let device_paths = |attachment: &v1::Attachment| {
            let resource = reading.state.resource(&attachment.resource);
            // What was revoked may no longer be opened there.
            let opened = resource.filter(|_| attachment.lifecycle() != v1::AttachmentLifecycle::Revoked);
            opened.map(view::device_paths).unwrap_or_default()
        };
        let attachments = attachments
            .into_iter()
            .map(|attachment| v1::AttachmentView {
                desired: mask.take("desired", || Some(attachment.clone())),
                device_paths: mask.take("device_paths", || device_paths(attachment)),
                conditions: mask.take("conditions", || {
                    conditions::of_attachment(&reading.state, reading.observed.as_ref(), attachment)
                }),
            })
            .collect();
        Ok(Response::new(v1::ListAttachmentsResponse {
            attachments,
            revision: reading.revision,
            next_page_token,
        }))
    }
}

impl Attachments {
    async fn create(
        &self,
        write: &Write,
        request: &v1::CreateAttachmentRequest,
    ) -> Result<v1::Applied, ApiError> {
        let reign = self.0.reign()?;
        let asked = Instant::now();
        // What is claimed for this request ends with it.
        let mut asking = None;
        loop {
            let command = self.decide(&reign, request, asked, &mut asking).await?;
            match write.propose(command).await {
                Err(ApiError::Stale(_)) if asked.elapsed() < PATIENCE => {}
                other => return other,
            }
        }
    }

    /// What grants the request, once it is decided and, for a take-over, the node keeps the holder away.
    async fn decide(
        &self,
        reign: &Arc<Reign>,
        request: &v1::CreateAttachmentRequest,
        asked: Instant,
        asking: &mut Option<Asking>,
    ) -> Result<Command, ApiError> {
        let v1::CreateAttachmentRequest { resource: name, node, mode, .. } = request;
        let grant = || {
            let create = v1::CreateAttachment { resource: name.clone(), node: node.clone(), mode: *mode };
            Ok(Command::CreateAttachment(create))
        };
        let view = self.0.consensus.view();
        let mut revisions = view.revisions();
        let mut observations = reign.observed.changes();
        loop {
            revisions.mark_unchanged();
            observations.mark_unchanged();
            let now = Instant::now();
            let state = view.state();
            // The state refuses what is not there, in its words.
            let Some(resource) = state.resource(name) else { return grant() };
            let moments = Moments { began: reign.began, asked, now };
            let decision = take_over::decide(&state, &reign.observed.picture(), resource, node, moments);
            if !matches!(decision, Decision::Grant | Decision::Refused(_)) {
                asking.get_or_insert_with(|| reign.take_over_requests.begin(name, node));
            }
            let reason = match decision {
                Decision::Grant => return grant(),
                Decision::TakeOver { from, generation, claim } => {
                    tracing::info!(resource = name, %from, to = node, "a resource is taken over");
                    return Ok(Command::TakeOver(v1::TakeOver {
                        resource: name.clone(),
                        resource_incarnation: resource.incarnation,
                        node: node.clone(),
                        from_generation: generation.get(),
                        mode: *mode,
                        claim_number: claim.get(),
                    }));
                }
                Decision::Claim { generation } => {
                    let claim = v1::ClaimTakeOver {
                        resource: name.clone(),
                        resource_incarnation: resource.incarnation,
                        node: node.clone(),
                        from_generation: generation.get(),
                    };
                    match self.0.propose_for(reign, Command::ClaimTakeOver(claim)).await {
                        Ok(_) => continue,
                        Err(ApiError::Stale(reason)) => reason,
                        Err(other) => return Err(other),
                    }
                }
                Decision::Refused(reason) => return Err(refused(reason)),
                Decision::Undecided(reason) => reason,
            };
            if now >= asked + PATIENCE {
                return Err(refused(reason));
            }
            tokio::select! {
                () = reign.ended.cancelled() => {
                    return Err(ApiError::Unavailable("the leader changed; try again with the same key".into()));
                }
                _ = revisions.changed() => {}
                _ = observations.changed() => {}
                () = sleep_until(now + LOOK_INTERVAL) => {}
            }
        }
    }
}

fn refused(reason: String) -> ApiError {
    ApiError::rejected(v1::RejectionReason::Precondition, reason)
}

fn checked(mut request: v1::CreateAttachmentRequest) -> Result<v1::CreateAttachmentRequest, ApiError> {
    names::resource_name("resource", &request.resource)?;
    names::node_name("node", &request.node)?;
    match v1::AttachmentMode::try_from(request.mode) {
        Ok(v1::AttachmentMode::ReadWrite) => Ok(request),
        Ok(v1::AttachmentMode::Unspecified) => {
            request.mode = v1::AttachmentMode::ReadWrite.into();
            Ok(request)
        }
        Err(_) => Err(ApiError::invalid("mode", format!("{} is not a known mode", request.mode))),
    }
}
