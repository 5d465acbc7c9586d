//! The verbs that people type, against a running lab.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hawser_lab::cluster;
use hawser_lab::kernel::Kernel;
use hawser_lab::setup::{self, Way};
use hawser_lab::wire::agent::{AgentRequest, Execute};
use hawser_lab::{Lab, LabOptions};

use super::terminal::Terminal;
use super::{Change, Place, Verb, show};

/// Options of `up`.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Number of nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Memory of each node, in MiB.
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Size of each node's data disk, in MiB (the file is sparse).
    #[arg(long, default_value_t = 8192)]
    data_disk: u64,
    /// Size of each node's state disk, in MiB (the file is sparse).
    #[arg(long, default_value_t = 2048)]
    state_disk: u64,
    /// Directory with drbd.ko and drbd_transport_tcp.ko to use in place of the kernel's DRBD 8.4.
    #[arg(long)]
    drbd_modules: Option<PathBuf>,
    /// Directory with other DRBD tools, laid over the nodes' root (usr/sbin/drbdadm, …).
    #[arg(long)]
    drbd_utils: Option<PathBuf>,
    /// Nodes only: no Hawser, no storage pool.
    #[arg(long)]
    bare: bool,
}

/// Does one verb.
pub(super) async fn run(place: &Place, verb: Verb) -> anyhow::Result<ExitCode> {
    let directory = place.resolve()?;
    if let Verb::Up(options) = verb {
        return up(place, options).await;
    }
    if let Verb::Setup { unpack } = verb {
        if unpack || Kernel::find().is_err() {
            eprintln!("fetching {} and what they need; this may take a minute", setup::PACKAGES.join(", "));
        }
        let kernel = setup::run(if unpack { Way::Unpack } else { Way::Suitable }).await?;
        println!("nodes run {} with the modules in {}", kernel.program.display(), kernel.modules.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Verb::Logs { node, service } = verb {
        return show::logs(&directory, &node, service.as_deref());
    }
    let lab = Lab::open(directory).await?;
    match verb {
        Verb::Down { keep } => {
            let path = lab.directory().path().to_owned();
            lab.down(keep).await?;
            println!("the lab in {} has ended", path.display());
        }
        Verb::Status { json } => show::status(&lab.status().await?, json)?,
        Verb::Exec { node, command } => return exec(&lab, &node, command).await,
        Verb::Kill { node } => lab.kill(&node).await?,
        Verb::Start { node } => lab.start(&node).await?,
        Verb::Partition { node, peer } => {
            lab.partition(&node, Some(peer.as_str()).filter(|peer| *peer != "all")).await?;
        }
        Verb::Delay { node, peer, milliseconds } => {
            lab.delay(&node, &peer, Duration::from_millis(milliseconds)).await?;
        }
        Verb::Heal => lab.heal().await?,
        Verb::FailDisk { node } => lab.fail_disk(&node).await?,
        Verb::MendDisk { node } => lab.mend_disk(&node).await?,
        Verb::Service { node, change, service } => {
            let service = service.unwrap_or_default();
            let request = match change {
                Some(Change::Start) => AgentRequest::StartService(service),
                Some(Change::Stop) => AgentRequest::StopService(service),
                None => AgentRequest::ListServices,
            };
            show::services(&lab.service(&node, &request).await?);
        }
        Verb::Forward { node, port } => println!("{}", lab.forward(&node, port).await?),
        Verb::Export { port } => lab.export(port).await?,
        Verb::Env => show::environment(&lab),
        Verb::Setup { .. }
        | Verb::Up(_)
        | Verb::Logs { .. }
        | Verb::RunLab { .. }
        | Verb::KeepNode(_)
        | Verb::GuestAgent { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(place: &Place, up: Up) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let options = LabOptions {
        nodes: up.nodes,
        memory_mib: up.memory,
        data_mib: up.data_disk,
        state_mib: up.state_disk,
        drbd_modules: up.drbd_modules.map(std::path::absolute).transpose()?,
        drbd_utils: up.drbd_utils.map(std::path::absolute).transpose()?,
        ..LabOptions::new(&place.name())
    };
    if !up.bare {
        cluster::check_programs(&options)?;
    }
    let lab = Lab::up(&options, place.resolve()?, false).await?;
    let path = lab.directory().path().display();
    println!("{} nodes are up after {:.1} s in {path}", options.nodes, began.elapsed().as_secs_f32());
    if up.bare {
        return Ok(ExitCode::SUCCESS);
    }
    cluster::form(&lab, &options).await.with_context(|| {
        let named = format!("--directory {path}");
        format!(
            "the nodes are up but form no cluster; `hawser-lab {named} logs n1 hawser-controller` may tell why, \
             `hawser-lab {named} down` ends them"
        )
    })?;
    println!("their cluster is formed after {:.1} s; try", began.elapsed().as_secs_f32());
    // Nothing is on the PATH of a shell that has just built it.
    let program = options.programs.join("hawser-lab");
    println!("  eval \"$({} --directory {path} env)\"", program.display());
    println!("  hawser node list");
    Ok(ExitCode::SUCCESS)
}

async fn exec(lab: &Lab, node: &str, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::take();
    let kind = terminal.is_some().then(|| std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()));
    let command = Execute { arguments, terminal: kind, ..Execute::default() };
    let (input, output, errors) = (tokio::io::stdin(), tokio::io::stdout(), tokio::io::stderr());
    let result = lab.stream(node, command, input, output, errors).await;
    if let Some(terminal) = terminal {
        terminal.give_back();
    }
    // The reader of the standard input may wait for a terminal for ever; only an exit ends it.
    match result {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("hawser-lab: {error}");
            std::process::exit(1)
        }
    }
}
