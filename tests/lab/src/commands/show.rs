//! What `status` and `logs` print.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use hawser_lab::directories::LabDirectory;
use hawser_lab::options::programs;
use hawser_lab::wire::agent::ServiceStatus;
use hawser_lab::wire::control::{LabStatus, NodeStatus, Power};
use hawser_lab::{Lab, LabError};

/// Prints a lab.
pub(super) fn status(status: &LabStatus, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(status)?);
        return Ok(());
    }
    println!(
        "{:<6}{:<9}{:<12}{:<14}{:<14}{:<10}LOOPBACK PORTS",
        "NODE", "POWER", "ADDRESS", "KERNEL", "DRBD", "BOOT"
    );
    for (name, node) in &status.nodes {
        println!("{name:<6}{}", node_line(node));
    }
    let pairs: Vec<_> = status.cuts.iter().map(|(from, to)| format!("{from}>{to}")).collect();
    if !pairs.is_empty() {
        println!("cut: {}", pairs.join(" "));
    }
    let slow: Vec<_> = status
        .delays
        .iter()
        .map(|(from, to, milliseconds)| format!("{from}>{to} {milliseconds} ms"))
        .collect();
    if !slow.is_empty() {
        println!("slow: {}", slow.join(", "));
    }
    for (name, node) in &status.nodes {
        for warning in node.ready.iter().flat_map(|ready| &ready.warnings) {
            println!("warning of {name}: {warning}");
        }
    }
    Ok(())
}

fn node_line(node: &NodeStatus) -> String {
    let power = match node.power {
        Power::Off => "off",
        Power::Booting => "booting",
        Power::Running => "running",
    };
    let (kernel, drbd) =
        node.ready.as_ref().map_or(("-", "-"), |ready| (ready.kernel.as_str(), ready.drbd.as_str()));
    let boot = node
        .boot_milliseconds
        .map_or("-".to_owned(), |time| format!("{}.{} s", time / 1000, time % 1000 / 100));
    let ports: Vec<_> = node.forwards.iter().map(|(port, own)| format!("{own}>{port}")).collect();
    format!("{power:<9}{:<12}{kernel:<14}{drbd:<14}{boot:<10}{}", node.cluster_address, ports.join(" "))
}

/// Prints a shell's exports for this lab.
pub(super) fn environment(lab: &Lab) {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let programs = programs();
    println!("export PATH={}:\"$PATH\"", quoted(&programs.to_string_lossy()));
    println!("export HAWSER_LAB_DIRECTORY={}", quoted(&lab.directory().path().to_string_lossy()));
    let client = lab.directory().client_configuration();
    if client.exists() {
        println!("export HAWSER_CONFIG={}", quoted(&client.to_string_lossy()));
    }
}

/// Prints a node's services.
pub(super) fn services(services: &[ServiceStatus]) {
    println!("{:<20}{:<10}{:<10}{:<8}LAST END", "SERVICE", "STATE", "PROCESS", "STARTS");
    for service in services {
        let state = match (service.process, service.stopped) {
            (Some(_), _) => "running",
            (None, true) => "stopped",
            (None, false) => "ended",
        };
        let process = service.process.map_or("-".to_owned(), |process| process.to_string());
        let last = service.last_end.as_deref().unwrap_or("-");
        println!("{:<20}{state:<10}{process:<10}{:<8}{last}", service.name, service.starts);
    }
}

/// Prints a console or a service's log; works for a lab that has ended with its files kept.
pub(super) fn logs(directory: &LabDirectory, node: &str, service: Option<&str>) -> anyhow::Result<ExitCode> {
    let path = match service {
        Some(service) => directory.service_logs(node).join(format!("{service}.log")),
        None => directory.console(node),
    };
    let known = directory.nodes().map_err(|_| LabError::NotRunning(directory.path().to_owned()))?;
    if !known.iter().any(|name| name == node) {
        let (lab, known) = (directory.path().display(), known.join(", "));
        return Err(LabError::Refused(format!("the lab in {lab} has no node {node}; it has: {known}")).into());
    }
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "there is no log {}; `hawser-lab service {node}` shows the services of a node",
            path.display()
        )
    })?;
    std::io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
