//! The benchmark: figures of one run, as ratios where a ratio can be had.
//!
//! It must never judge: it prints what it measured beside the budget, and writes the same to a file.

mod controllers;
mod creation;
mod failover;
mod fleet;
mod memory;
mod node_death;
mod power_cut;
mod simulation;
mod size;
mod throughput;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;

/// All figures of one run, by name.
#[derive(Default)]
pub struct Figures {
    values: Map<String, Value>,
}

impl Figures {
    #[allow(clippy::print_stdout)]
    fn add(&mut self, name: &str, value: f64, budget: &str) {
        let rounded = (value * 1000.0).round() / 1000.0;
        println!("{name:<32} {rounded:>12}   budget {budget}");
        self.values.insert(name.to_owned(), json!(rounded));
    }

    /// Writes them to a file as one JSON object.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&self.values)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Commands through Raft, with three controllers on this machine
    Throughput,
    /// 10,000 resources on 50 nodes, with three controllers on this machine
    Size,
    /// Speed of the simulated cluster, and memory of a satellite with 500 replicas
    Simulation,
    /// Creation, changes of leader, take-over and memory of an empty cluster, in a lab
    Lab,
}

/// Measures the parts.
pub fn run(parts: &[Part]) -> Result<Figures> {
    let mut figures = Figures::default();
    for part in parts {
        match part {
            Part::Throughput => throughput::measure(&mut figures)?,
            Part::Size => size::measure(&mut figures)?,
            Part::Simulation => simulation::measure(&mut figures)?,
            Part::Lab => in_a_lab(&mut figures)?,
        }
    }
    Ok(figures)
}

fn in_a_lab(figures: &mut Figures) -> Result<()> {
    let cluster = Cluster::up("bench", 3)?;
    memory::measure(&cluster, figures)?;
    creation::measure(&cluster, figures)?;
    failover::measure(&cluster, figures)?;
    power_cut::measure(&cluster, figures)
}

/// The middle one of some durations.
fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
