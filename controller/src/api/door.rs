//! What every call passes before a service sees it: who calls, whether that one may, and where it is answered.
//!
//! It must never decide by anything but the certificate, the path and who leads.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hawser_process::tls::{PeerError, PeerIdentity};
use hawser_proto::v1;
use http::{Request, Response};
use tokio::{sync::watch, time::timeout};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    authorization::authorize,
    caller::{Arrival, arrival},
    calls::{Calls, UnderWay},
    error::ApiError,
    relay::{Place, Relay, may_be_stale, place_of},
};
use crate::leader::Standing;

/// How long a call waits for an election to end before it is refused.
const LEADER_WAIT: Duration = Duration::from_millis(1_500);

/// Tells from a request's extensions who is at the other end of its connection.
pub type Identify = fn(&http::Extensions) -> Result<PeerIdentity, PeerError>;

/// What the door knows.
pub struct DoorContext {
    /// Certificates must name it.
    pub cluster_id: String,
    /// Tells from a request's extensions who is at the other end of its connection.
    pub identify: Identify,
    /// Of this member, for messages.
    pub member: String,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// The way to the leader.
    pub relay: Relay,
    /// What is under way here.
    pub calls: Calls,
    /// All members' names and addresses, for the message when there is no leader.
    pub members: Box<dyn Fn() -> Vec<v1::Member> + Send + Sync>,
}

/// Puts the door before the services.
#[derive(Clone)]
pub struct DoorLayer(pub Arc<DoorContext>);

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, services: S) -> Self::Service {
        Door { services, context: self.0.clone() }
    }
}

/// The door with the services behind it.
#[derive(Clone)]
pub struct Door<S> {
    services: S,
    context: Arc<DoorContext>,
}

impl<S> Service<Request<Body>> for Door<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let clone = self.services.clone();
        let mut services = std::mem::replace(&mut self.services, clone);
        let context = self.context.clone();
        Box::pin(async move {
            match admit(&context, request).await {
                Ok(Admitted::Here(request, _under_way)) => services.call(request).await,
                Ok(Admitted::Answered(response)) => Ok(response),
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

enum Admitted {
    Here(Request<Body>, UnderWay),
    Answered(Response<Body>),
}

async fn admit(context: &DoorContext, mut request: Request<Body>) -> Result<Admitted, ApiError> {
    let peer = (context.identify)(request.extensions())
        .map_err(|error| ApiError::Unauthenticated(error.to_string()))?;
    let arrival = arrival(peer, &context.cluster_id, request.headers())?;
    authorize(&arrival.caller, request.uri().path())?;
    let under_way = context.calls.begin(&arrival.caller)?;
    request.extensions_mut().insert(arrival.caller.clone());

    let place = place_of(request.uri().path());
    match place {
        Place::Here => return Ok(Admitted::Here(request, under_way)),
        Place::Leader => {}
        Place::LeaderUnlessStale => {
            let (stale, whole) = may_be_stale(request).await?;
            request = whole;
            if stale {
                return Ok(Admitted::Here(request, under_way));
            }
        }
    }
    let leader = match leader(context, place).await? {
        None => return Ok(Admitted::Here(request, under_way)),
        Some(leader) => leader,
    };
    relay(context, arrival, leader, request).await.map(Admitted::Answered)
}

/// The member that leads; `None` where it is this one.
async fn leader(context: &DoorContext, place: Place) -> Result<Option<v1::Member>, ApiError> {
    let mut standing = context.standing.clone();
    let found =
        timeout(LEADER_WAIT, standing.wait_for(|standing| !matches!(standing, Standing::Leaderless))).await;
    match found {
        Ok(Ok(standing)) => Ok(match &*standing {
            Standing::Following(leader) => Some(leader.clone()),
            Standing::Leading(_) | Standing::Leaderless => None,
        }),
        Ok(Err(_)) => Err(ApiError::Unavailable(format!("controller {} is stopping", context.member))),
        Err(_) => Err(ApiError::Unavailable(no_leader(&context.member, &(context.members)(), place))),
    }
}

async fn relay(
    context: &DoorContext,
    arrival: Arrival,
    leader: v1::Member,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    if arrival.relayed {
        return Err(ApiError::Unavailable(format!(
            "controller {} was asked as the leader, but {} leads now",
            context.member, leader.name
        )));
    }
    tokio::select! {
        response = context.relay.forward(&leader, &arrival.caller, request) => response,
        () = replaced(context.standing.clone(), leader.raft_id) => Err(ApiError::Unavailable(format!(
            "the leader changed while {} was asked; it may have been done: try again with the same key",
            leader.name
        ))),
    }
}

/// Resolves once the leader is another, or nobody has led for a while: its answer may never come then. A leader
/// that is lost from sight for a moment may still answer.
async fn replaced(mut standing: watch::Receiver<Standing>, leader: u64) {
    let is_it = |now: &Standing| matches!(now, Standing::Following(member) if member.raft_id == leader);
    let is_another = |now: &Standing| !is_it(now) && !matches!(now, Standing::Leaderless);
    loop {
        // An error says that this member is stopping.
        let Ok(lost) = standing.wait_for(|now| !is_it(now)).await.map(|now| is_another(&now)) else { return };
        if lost {
            return;
        }
        let back = standing.wait_for(|now| !matches!(now, Standing::Leaderless));
        match timeout(LEADER_WAIT, back).await.map(|back| back.map(|now| is_it(&now))) {
            Ok(Ok(true)) => {}
            _ => return,
        }
    }
}

/// Why nothing can be decided or read now, naming every member.
fn no_leader(asked: &str, members: &[v1::Member], place: Place) -> String {
    let names: Vec<_> =
        members.iter().map(|member| format!("{} ({})", member.name, member.address)).collect();
    let remedy = match place {
        Place::LeaderUnlessStale => "; with --stale it answers from its memory, however old that is",
        Place::Leader | Place::Here => "",
    };
    format!(
        "controller {asked} knows no leader: fewer than a majority of the members reach each other. Members: {}{remedy}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn following(raft_id: u64) -> Standing {
        Standing::Following(v1::Member { raft_id, ..Default::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_relayed_call_outlives_a_moment_without_a_leader_but_not_its_successor() {
        let (sender, standing) = watch::channel(following(1));
        let mut replaced = std::pin::pin!(replaced(standing, 1));
        sender.send_replace(Standing::Leaderless);
        assert!(timeout(LEADER_WAIT / 2, &mut replaced).await.is_err());
        sender.send_replace(following(1));
        assert!(timeout(LEADER_WAIT * 4, &mut replaced).await.is_err(), "it is back");
        sender.send_replace(following(2));
        assert!(timeout(Duration::from_millis(1), &mut replaced).await.is_ok(), "another leads");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_a_relayed_call_ends() {
        let (_sender, standing) = watch::channel(Standing::Leaderless);
        assert!(timeout(LEADER_WAIT * 2, replaced(standing, 1)).await.is_ok());
    }

    #[test]
    fn without_a_leader_every_member_is_named() {
        let member = |name: &str, address: &str| v1::Member {
            name: name.into(),
            address: address.into(),
            ..Default::default()
        };
        let members = [member("c1", "10.0.0.1:6470"), member("c2", "10.0.0.2:6470")];
        for (place, hint) in [(Place::LeaderUnlessStale, true), (Place::Leader, false)] {
            let message = no_leader("c1", &members, place);
            assert!(message.contains("c1 (10.0.0.1:6470), c2 (10.0.0.2:6470)"), "{message}");
            assert_eq!(message.contains("--stale"), hint, "{message}");
        }
    }
}
