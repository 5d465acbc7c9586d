//! `make demo`: three real kernels, one replicated volume, one power cut.
//!
//! The last line names the kernel and the DRBD version that it ran on; where no such kernel can be had, the
//! first and the last line say so and the exit code is not 0.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hawser_e2e::cluster::{Cluster, why_no_lab};
use hawser_e2e::narrator::{Narrator, seconds};
use hawser_e2e::stories::{Place, cut_from_everybody, cut_from_peer, main_job};
use hawser_lab::setup::{self, Way};

#[derive(Parser)]
#[command(about = "Tells what Hawser is for, on three real kernels")]
struct Arguments {
    /// What happens to the node that is Primary
    #[arg(value_enum, default_value_t = Story::PowerCut)]
    story: Story,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// It leads Raft, too, and loses its power
    PowerCut,
    /// Its link to its peer is cut; the peer leads Raft
    CutFromPeer,
    /// Its links to everybody are cut
    CutFromEverybody,
}

fn main() -> ExitCode {
    let story = Arguments::parse().story;
    if let Err(reason) = get_packages() {
        println!("There is no demo on this machine: {reason:#}");
        println!("Nothing was shown. There is no demo on this machine: {reason:#}");
        return ExitCode::FAILURE;
    }
    match tell(story) {
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

/// Gets what nodes need where it is missing: installed for root, unpacked for others.
fn get_packages() -> Result<()> {
    if why_no_lab().is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(setup::run(Way::Suitable))?;
    }
    Ok(())
}

fn tell(story: Story) -> Result<String> {
    let narrator = Narrator::new();
    narrator.say("three machines get power; each is a real Linux kernel in a process of its own");
    let cluster = Cluster::up("demo", 3)?;
    narrator.say("they have booted, formed a Raft cluster of three and registered their thin pools");
    let outcome = match story {
        Story::PowerCut => {
            let job = main_job(&cluster, Place::THIN, &narrator)?;
            format!(
                "{} records, 0 lost; mounted on the survivor {} after the cut",
                job.records,
                seconds(job.mounted)
            )
        }
        Story::CutFromPeer => {
            cut_from_peer(&cluster, &narrator)?;
            "the owner went on, its peer was refused".to_owned()
        }
        Story::CutFromEverybody => {
            cut_from_everybody(&cluster, &narrator)?;
            "the survivor took over, the other came back without a reboot".to_owned()
        }
    };
    let versions = cluster.versions("n1")?;
    drop(cluster);
    Ok(format!("The demo passed in {} on {versions}: {outcome}.", seconds(narrator.elapsed())))
}
