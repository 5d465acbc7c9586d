//! Asking the arbiter: any controller, again and again, until there is a committed yes or a committed no.
//!
//! Nothing else counts as an answer: not a timeout, not an error, not the first controller's silence. All
//! controllers are asked, one shortly after the other, because the nearest may be cut off from the leader.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::select_all;
use hawser_plan::Question;
use hawser_proto::{
    ids::{Incarnation, Lineage, OutdateNumber},
    v1::{ConfirmOwnerRequest, OutdateRequest, arbiter_service_client::ArbiterServiceClient},
};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::controllers::Controllers;

/// Between the first question to one controller and the same to the next. A Primary is frozen meanwhile, and
/// which controller can still reach the leader is known to nobody on this side of a cut.
const STAGGER: Duration = Duration::from_millis(100);
/// How long one controller may take before it is asked again on a new stream.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions to one controller that had no answer.
const PAUSE: Duration = Duration::from_millis(250);

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Lineage of the orders that the asker obeys.
    pub lineage: Lineage,
    /// Resource.
    pub resource: String,
    /// Its incarnation.
    pub resource_incarnation: Incarnation,
}

/// A committed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is committed, as the log entry of this number; 0 where the answer needed no entry.
    Yes(OutdateNumber),
    /// It was refused, for this reason.
    No(String),
}

/// Who answers for Raft.
#[async_trait]
pub trait Arbiter: Send + Sync + 'static {
    /// Asks until there is an answer. `request_key` is the same for every try of one question.
    async fn ask(&self, case: &Case, question: &Question, request_key: &str) -> Answer;
}

/// The arbiter as the controllers are.
pub struct ControllerArbiter {
    node: String,
    controllers: Arc<Controllers>,
}

impl ControllerArbiter {
    /// Asks `controllers` in the name of `node`.
    pub fn new(node: String, controllers: Arc<Controllers>) -> Self {
        Self { node, controllers }
    }

    async fn ask_one(
        &self,
        controller: usize,
        case: &Case,
        question: &Question,
        request_key: &str,
    ) -> Result<Answer, Status> {
        let channel = self.controllers.kept(controller);
        let mut client = ArbiterServiceClient::new(channel);
        match question {
            Question::Outdate { peer, generation } => {
                let request = OutdateRequest {
                    node: self.node.clone(),
                    resource: case.resource.clone(),
                    resource_incarnation: case.resource_incarnation.get(),
                    peer: peer.clone(),
                    generation: generation.get(),
                    request_key: request_key.to_owned(),
                    lineage: case.lineage.get(),
                };
                let answer = client.outdate(request).await?.into_inner();
                Ok(if answer.granted {
                    Answer::Yes(OutdateNumber::new(answer.number))
                } else {
                    Answer::No(answer.reason)
                })
            }
            Question::ConfirmOwner { generation } => {
                let request = ConfirmOwnerRequest {
                    node: self.node.clone(),
                    resource: case.resource.clone(),
                    resource_incarnation: case.resource_incarnation.get(),
                    generation: generation.get(),
                    lineage: case.lineage.get(),
                };
                let answer = client.confirm_owner(request).await?.into_inner();
                Ok(if answer.confirmed {
                    Answer::Yes(OutdateNumber::default())
                } else {
                    Answer::No("this node does not own the resource any more".to_owned())
                })
            }
        }
    }

    /// Asks one controller until it has an answer. It never waits for another one's silence.
    async fn insist(&self, controller: usize, case: &Case, question: &Question, request_key: &str) -> Answer {
        let name = self.controllers.name(controller);
        loop {
            match timeout(PATIENCE, self.ask_one(controller, case, question, request_key)).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(status)) => {
                    tracing::debug!(controller = name, %status, ?question, "the arbiter has not answered");
                }
                Err(_) => {
                    tracing::debug!(controller = name, ?question, "the arbiter has not answered in time");
                }
            }
            sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl Arbiter for ControllerArbiter {
    async fn ask(&self, case: &Case, question: &Question, request_key: &str) -> Answer {
        let first = self.controllers.last_heard();
        let everybody = (0..self.controllers.len()).map(|place| {
            let controller = (first + place) % self.controllers.len();
            Box::pin(async move {
                sleep(STAGGER * u32::try_from(place).unwrap_or(u32::MAX)).await;
                (controller, self.insist(controller, case, question, request_key).await)
            })
        });
        let ((controller, answer), ..) = select_all(everybody).await;
        self.controllers.heard(controller);
        answer
    }
}
