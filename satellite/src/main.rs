//! `hawser-satellite`: the daemon of a storage node, and DRBD's fence-peer handler.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use hawser_process::{
    shutdown, telemetry,
    tls::{Identity, Role},
};
use hawser_satellite::{
    arbiter::ControllerArbiter,
    configuration::{Configuration, DEFAULT_PATH},
    controllers::Controllers,
    fence::{
        helper::{Call, REFUSED, fence_peer, role_of},
        question::{AskedAs, FenceQuestion},
    },
    host::{Host, SystemHost, system::Settings},
    ledger::Ledger,
    satellite::{Parts, Satellite},
};
use tokio::{net::TcpListener, runtime::Builder};

/// Makes this storage node as the cluster's controllers say, and reports what is there.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// DRBD's fence-peer handler: asks whether this node may go on without its peer. Not for people.
    FencePeer,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = match arguments.command {
        Some(Command::FencePeer) => return answer_drbd(&arguments.config),
        None => run(&arguments.config),
    };
    match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever goes wrong here must not let DRBD go on.
fn answer_drbd(config: &Path) -> ExitCode {
    let answered = telemetry::install().map_err(anyhow::Error::from).and_then(|()| {
        let call = Call::read(|name| env::var(name).ok()).map_err(anyhow::Error::msg)?;
        let configuration = Configuration::load(config)?;
        let role = match (call.minor, fs::read_to_string("/proc/drbd")) {
            (Some(minor), Ok(text)) => role_of(&text, minor),
            _ => AskedAs::Unknown,
        };
        let question = FenceQuestion { resource: call.resource, peer: call.peer, role };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(fence_peer(&configuration.socket, &question)))
    });
    ExitCode::from(answered.unwrap_or_else(|error| {
        tracing::error!("fence-peer: {error:#}");
        REFUSED
    }))
}

fn run(config: &Path) -> anyhow::Result<()> {
    telemetry::install()?;
    let configuration = Configuration::load(config)?;
    // Commands and the kernel take the time, not this process.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(configuration, config))
}

async fn serve(configuration: Configuration, config: &Path) -> anyhow::Result<()> {
    let cancelled = shutdown::cancelled_by_signal()?;
    let identity = Identity::load(&configuration.tls_directory)?;
    identity.require(Role::Satellite, &configuration.node)?;
    let cluster_id = identity.own().cluster_id.clone();
    let controllers = Arc::new(Controllers::new(&configuration.controllers, Some(&identity.client_tls()))?);
    let health_listener = TcpListener::bind(configuration.health_listen)
        .await
        .with_context(|| format!("cannot listen on {} (field health_listen)", configuration.health_listen))?;
    let host = SystemHost::start(Settings {
        lvm_config: configuration.lvm.config.clone(),
        configuration_directory: configuration.drbd_directory(),
        fence_peer_handler: fence_peer_handler(config)?,
    })
    .await?;
    let facts = host.facts().await;
    let ledger = Ledger::open(
        &configuration.data_directory.join("ledger"),
        &cluster_id,
        &configuration.node,
        &facts.boot_id,
    )?;
    tracing::info!(
        node = configuration.node,
        cluster = cluster_id,
        revision = ledger.version().revision.get(),
        missing = ?facts.missing,
        "starts"
    );
    let arbiter = ControllerArbiter::new(configuration.node.clone(), Arc::clone(&controllers));
    let satellite = Satellite::start(Parts {
        cluster_id,
        node: configuration.node,
        facts,
        host: Arc::new(host),
        ledger,
        restores: identity.restore_verifier(),
        controllers,
        arbiter: Arc::new(arbiter),
        socket: configuration.socket.clone(),
        seed: rand::random(),
    })
    .await
    .with_context(|| format!("cannot listen on {} (field socket)", configuration.socket.display()))?;
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = satellite.health().serve(health_listener, cancelled.clone()) => {}
    }
    satellite.end().await;
    tracing::info!("ended; what runs on this node goes on running");
    Ok(())
}

/// The command line by which DRBD's tools start this very program as their handler.
fn fence_peer_handler(config: &Path) -> io::Result<String> {
    let config = std::path::absolute(config)?;
    Ok(format!("{} --config {} fence-peer", env::current_exe()?.display(), config.display()))
}
