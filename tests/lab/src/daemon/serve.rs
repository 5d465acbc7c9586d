//! The control socket: one request, one answer; or, for the agent, a stream joined to the node.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use super::state::LabState;
use crate::error::{LabError, Tried};
use crate::network::addresses::AGENT_PORT;
use crate::wire::control::{Answer, Request};
use crate::wire::lines;

/// Serves until the lab shall end. A `tied` lab ends with its standard input.
///
/// # Errors
/// The system's error when it gives no signals.
pub(super) async fn serve(state: &Rc<LabState>, listener: UnixListener, tied: bool) -> Result<(), LabError> {
    let action = || "the lab's process cannot wait for signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).tried(action)?;
    let mut interrupt = signal(SignalKind::interrupt()).tried(action)?;
    let mut tie = std::pin::pin!(async {
        if tied {
            let mut nothing = Vec::new();
            // Whatever comes, an end or an error: the other side is gone.
            let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
        } else {
            std::future::pending::<()>().await;
        }
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let state = Rc::clone(state);
                    tokio::task::spawn_local(async move {
                        if let Err(error) = converse(&state, stream).await {
                            tracing::debug!(%error, "a conversation broke off");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "cannot accept a request"),
            },
            () = state.ending.notified() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = &mut tie => return Ok(()),
        }
    }
}

async fn converse(state: &Rc<LabState>, mut stream: UnixStream) -> std::io::Result<()> {
    let answer = match lines::read(&mut stream).await? {
        Request::Agent { node } => match connect(state, &node).await {
            Ok(mut agent) => {
                lines::write(&mut stream, &Answer::Done).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut agent).await?;
                return Ok(());
            }
            Err(error) => Err(error),
        },
        request => act(state, request).await,
    };
    let answer = answer.unwrap_or_else(|error| Answer::Refused(error.to_string()));
    lines::write(&mut stream, &answer).await
}

async fn connect(state: &LabState, node: &str) -> Result<tokio::io::DuplexStream, LabError> {
    let link = state.node(node)?.link().borrow().clone();
    let link = link.ok_or_else(|| {
        LabError::Refused(format!("node {node} is not running; start it with `hawser-lab start {node}`"))
    })?;
    link.connect(AGENT_PORT).await.tried(|| format!("cannot reach the agent of node {node}"))
}

async fn act(state: &LabState, request: Request) -> Result<Answer, LabError> {
    match request {
        Request::Status | Request::Agent { .. } => return Ok(Answer::Status(Box::new(state.status()))),
        Request::Kill { node } => state.node(&node)?.kill().await?,
        Request::Start { node } => state.start(&node).await?,
        Request::Partition { node, peer } => state.partition(&node, peer.as_deref())?,
        Request::Delay { node, peer, milliseconds } => {
            state.delay(&node, &peer, Duration::from_millis(milliseconds))?;
        }
        Request::Heal => state.heal(),
        Request::Forward { node, port } => return Ok(Answer::Port(state.forward(&node, port).await?)),
        Request::Export { port } => state.export(port),
        Request::SetServices { node, services } => {
            return Ok(Answer::Services(state.set_services(&node, services).await?));
        }
        Request::Down { keep } => state.end(keep),
    }
    Ok(Answer::Done)
}
