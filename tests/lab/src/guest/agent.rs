//! The agent of a node: runs commands and services for the host, reachable on the management link only.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::configuration::GuestConfiguration;
use super::services::Supervisor;
use super::{console, execute, init};
use crate::network::addresses::{AGENT_PORT, HOST, READY_PORT, management};
use crate::wire::agent::{AgentRequest, NodeReady, ServiceAnswer};
use crate::wire::lines;

/// Serves until the node's power is cut.
///
/// # Errors
/// When the configuration cannot be read or the management address is not there.
pub fn run(configuration: &Path) -> anyhow::Result<()> {
    let configuration = GuestConfiguration::read(configuration)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(configuration))
}

async fn serve(configuration: GuestConfiguration) -> anyhow::Result<()> {
    let address = SocketAddr::from((management(configuration.number), AGENT_PORT));
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("the agent cannot listen at {address}"))?;
    let listener: TcpListener = socket.listen(128)?;
    let supervisor = Rc::new(Supervisor::default());
    tokio::task::spawn_local(announce());
    loop {
        let (stream, _) = listener.accept().await?;
        let supervisor = Rc::clone(&supervisor);
        tokio::task::spawn_local(async move {
            if let Err(error) = converse(stream, &supervisor).await {
                console(format_args!("a conversation with the host broke off: {error}"));
            }
        });
    }
}

async fn announce() {
    let warnings = std::env::var(init::WARNINGS).unwrap_or_default();
    let ready = NodeReady {
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        drbd: std::fs::read_to_string("/sys/module/drbd/version").unwrap_or_default().trim().to_owned(),
        warnings: warnings.lines().map(str::to_owned).collect(),
    };
    console(format_args!("ready: Linux {}, DRBD {}", ready.kernel, ready.drbd));
    // The host listens before it starts the node; only an agent that was started again finds nobody there.
    for _ in 0..50 {
        if let Ok(mut stream) = TcpStream::connect((HOST, READY_PORT)).await
            && lines::write(&mut stream, &ready).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn converse(mut stream: TcpStream, supervisor: &Supervisor) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = match lines::read(&mut stream).await? {
        AgentRequest::Execute(command) => return execute::run(command, stream).await,
        AgentRequest::SetServices(services) => Ok(supervisor.set(services).await),
        AgentRequest::StopService(name) => supervisor.stop(&name).await,
        AgentRequest::StartService(name) => supervisor.start(&name).await,
        AgentRequest::ListServices => Ok(supervisor.list()),
    };
    let answer = match answer {
        Ok(services) => ServiceAnswer::Services(services),
        Err(reason) => ServiceAnswer::Refused(reason),
    };
    lines::write(&mut stream, &answer).await
}
