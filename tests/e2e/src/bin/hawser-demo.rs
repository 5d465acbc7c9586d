//! `make demo`: three real kernels, one replicated volume, one power cut.
//!
//! The last line names the kernel and the DRBD version that it ran on; where no such kernel can be had, the
//! first and the last line say so and the exit code is not 0.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use anyhow::Result;
use hawser_e2e::cluster::{Cluster, why_no_lab};
use hawser_e2e::narrator::{Narrator, seconds};
use hawser_e2e::stories::main_job;

fn main() -> ExitCode {
    if let Some(reason) = why_no_lab() {
        println!("There is no demo on this machine: {reason}");
        println!("Nothing was shown. There is no demo on this machine: {reason}");
        return ExitCode::FAILURE;
    }
    match tell() {
        Ok(last_line) => {
            println!("{last_line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("The demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<String> {
    let narrator = Narrator::new();
    narrator.say("three machines get power; each is a real Linux kernel in a process of its own");
    let cluster = Cluster::up("demo", 3)?;
    narrator.say("they have booted, formed a Raft cluster of three and registered their thin pools");
    let measured = main_job(&cluster, &narrator)?;
    let versions = cluster.versions("n1")?;
    drop(cluster);
    Ok(format!(
        "The demo passed in {} on {versions}: {} records, 0 lost; mounted on the survivor {} after the cut.",
        seconds(narrator.elapsed()),
        measured.records,
        seconds(measured.mounted)
    ))
}
