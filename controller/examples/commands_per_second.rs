//! How many commands three members in one process commit per second, each with its store on disk and gRPC
//! over loopback in the clear. A figure for comparison, not a test.
//!
//! `cargo run --example commands_per_second -- [SECONDS]`; the stores lie in `TMPDIR`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../tests/members/cluster.rs"]
mod cluster;

use std::time::{Duration, Instant};

use hawser_controller::consensus::Retention;
use hawser_proto::v1::{self, command::Command};

use cluster::{Member, leader, proposal, three_members};

/// A command of about 256 bytes.
fn command() -> v1::Command {
    let message = "x".repeat(220);
    let reason = v1::OperationReason { message, ..v1::OperationReason::default() };
    proposal(Command::RecordOperationReason(v1::RecordOperationReason { id: 1, reason: Some(reason) }))
}

/// Latencies of all commands that the clients committed in the time.
fn measure(member: &Member, clients: usize, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let client = || {
        let consensus = member.consensus().clone();
        async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let asked = Instant::now();
                consensus.propose(command()).await.expect("the leader was lost: this machine is too busy");
                latencies.push(asked.elapsed());
            }
            latencies
        }
    };
    let clients = futures::future::join_all((0..clients).map(|_| client()));
    let mut latencies: Vec<Duration> = member.wait("the clients", clients).into_iter().flatten().collect();
    latencies.sort();
    latencies
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|argument| argument.parse().ok()).unwrap_or(5);
    let time = Duration::from_secs(seconds);
    let members = three_members(Retention::default());
    let leading = &members[leader(&members)];
    for clients in [1, 16, 128] {
        let latencies = measure(leading, clients, time);
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        println!(
            "{clients:>3} clients: {:>6.0} commands/s, p50 {:.1?}, p99 {:.1?}",
            latencies.len() as f64 / time.as_secs_f64(),
            at(50),
            at(99)
        );
    }
}
