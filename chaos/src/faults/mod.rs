//! The faults that a simulation can bring about, and the order in which one seed does.
//!
//! It must never bring about what no layout promises to survive: both copies of a resource without power at once is
//! allowed, for they come back; a disk that is lost for good is a controller's only.

mod bring_about;

use std::time::Duration;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::{cluster::Cluster, host::CommandFaults};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A controller is killed and started again.
    ControllerCrash,
    /// A satellite is killed and started again.
    SatelliteCrash,
    /// A node loses its power, with everything on it.
    PowerCut,
    /// A node reaches nobody.
    FullPartition,
    /// Two nodes do not reach each other.
    PartialPartition,
    /// What one node sends to another does not arrive.
    OneWayPartition,
    /// A node is slow to reach.
    Delay,
    /// Segments are lost and arrive late.
    Loss,
    /// A command fails and has done nothing.
    FailingCommand,
    /// A command fails after having worked.
    CommandFailsAfterWorking,
    /// A command does not end within its deadline.
    HungCommand,
    /// A command takes seconds.
    SlowCommand,
    /// What is sent on one connection overtakes what was sent before on another.
    Reordering,
    /// The processes of a node get no time for a while.
    Stall,
    /// A pool has no room for another volume.
    FullPool,
    /// The time of day on a node is years from the others'.
    ClockJump,
    /// A satellite is sent an order that is older than what it has.
    LateOrder,
    /// A controller loses its disk; it is removed and joins anew.
    ControllerDiskLost,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::ControllerCrash,
        Self::SatelliteCrash,
        Self::PowerCut,
        Self::FullPartition,
        Self::PartialPartition,
        Self::OneWayPartition,
        Self::Delay,
        Self::Loss,
        Self::Reordering,
        Self::FailingCommand,
        Self::CommandFailsAfterWorking,
        Self::HungCommand,
        Self::SlowCommand,
        Self::Stall,
        Self::FullPool,
        Self::ClockJump,
        Self::LateOrder,
        Self::ControllerDiskLost,
    ];
}

/// A fault that begins now and ends after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Kills the controller on a host.
    KillController(String),
    /// Kills the satellite on a host.
    KillSatellite(String),
    /// Takes the power from a host.
    CutPower(String),
    /// Cuts a host off from all others.
    Isolate(String),
    /// Cuts two hosts off from each other.
    Part(String, String),
    /// Lets nothing pass from the first to the second.
    PartOneWay(String, String),
    /// Makes a host slow to reach.
    SlowDown(String, Duration),
    /// Loses this percentage of the segments.
    Lose(u32),
    /// Lets connections be late by up to this, each by its own part.
    Disorder(Duration),
    /// Lets commands on a host come to harm.
    BreakCommands(String, CommandFaults),
    /// Gives the processes of a host no time.
    Stall(String),
    /// Fills the pool of a host.
    FillPool(String),
    /// Shifts the time of day on a host by so many days.
    ShiftClock(String, i64),
    /// Sends a satellite an order that it has had before.
    SendLateOrder(String),
    /// Takes its disk from the controller on a host.
    LoseControllerDisk(String),
}

impl Fault {
    /// Draws a fault for one of the hosts, and how long it lasts. Where there is a `victim`, it is of that host only.
    pub fn draw(random: &mut StdRng, hosts: &[String], victim: Option<&String>) -> (Self, Duration) {
        let drawn = hosts.choose(random).cloned().unwrap_or_default();
        let one = victim.cloned().unwrap_or(drawn);
        let others: Vec<&String> = hosts.iter().filter(|host| **host != one).collect();
        let other = others.choose(random).map_or_else(String::new, ToString::to_string);
        let seconds = |random: &mut StdRng, least: f64, most: f64| {
            Duration::from_millis((random.random_range(least..most) * 1000.0) as u64)
        };
        // What touches every host comes last.
        let kinds = if victim.is_some() { 23 } else { 25 };
        match random.random_range(0..kinds) {
            0..3 => (Self::KillController(one), seconds(random, 0.1, 4.0)),
            3..6 => (Self::KillSatellite(one), seconds(random, 0.1, 4.0)),
            6..9 => (Self::CutPower(one), seconds(random, 0.5, 12.0)),
            9..11 => (Self::Isolate(one), seconds(random, 0.5, 8.0)),
            11..13 => (Self::Part(one, other), seconds(random, 0.5, 8.0)),
            13 => (Self::PartOneWay(one, other), seconds(random, 0.5, 8.0)),
            14 => {
                let most = Duration::from_millis(random.random_range(20..400));
                (Self::SlowDown(one, most), seconds(random, 1.0, 6.0))
            }
            15..17 => {
                let faults = CommandFaults {
                    fails: random.random_range(0..150),
                    fails_after: random.random_range(0..150),
                    hangs: random.random_range(0..60),
                    slow: random.random_range(0..150),
                };
                (Self::BreakCommands(one, faults), seconds(random, 2.0, 10.0))
            }
            17..19 => (Self::Stall(one), seconds(random, 0.2, 4.0)),
            19 => (Self::FillPool(one), seconds(random, 2.0, 12.0)),
            20 => {
                let days = random.random_range(365..20_000);
                let days = if random.random_bool(0.5) { days } else { -days };
                (Self::ShiftClock(one, days), seconds(random, 1.0, 20.0))
            }
            21 => (Self::SendLateOrder(one), Duration::ZERO),
            22 => (Self::LoseControllerDisk(one), Duration::ZERO),
            23 => (Self::Lose(random.random_range(1..20)), seconds(random, 1.0, 6.0)),
            _ => {
                let most = Duration::from_millis(random.random_range(100..1_500));
                (Self::Disorder(most), seconds(random, 1.0, 5.0))
            }
        }
    }

    /// The kinds of fault that it may come to.
    #[must_use]
    pub fn kinds(&self) -> Vec<FaultKind> {
        match self {
            Self::KillController(_) => vec![FaultKind::ControllerCrash],
            Self::KillSatellite(_) => vec![FaultKind::SatelliteCrash],
            Self::CutPower(_) => vec![FaultKind::PowerCut],
            Self::Isolate(_) => vec![FaultKind::FullPartition],
            Self::Part(..) => vec![FaultKind::PartialPartition],
            Self::PartOneWay(..) => vec![FaultKind::OneWayPartition],
            Self::SlowDown(..) => vec![FaultKind::Delay],
            Self::Lose(_) => vec![FaultKind::Loss],
            Self::Disorder(_) => vec![FaultKind::Reordering],
            Self::BreakCommands(_, faults) => [
                (faults.fails, FaultKind::FailingCommand),
                (faults.fails_after, FaultKind::CommandFailsAfterWorking),
                (faults.hangs, FaultKind::HungCommand),
                (faults.slow, FaultKind::SlowCommand),
            ]
            .into_iter()
            .filter_map(|(likely, kind)| (likely > 0).then_some(kind))
            .collect(),
            Self::Stall(_) => vec![FaultKind::Stall],
            Self::FillPool(_) => vec![FaultKind::FullPool],
            Self::ShiftClock(..) => vec![FaultKind::ClockJump],
            Self::SendLateOrder(_) => vec![FaultKind::LateOrder],
            Self::LoseControllerDisk(_) => vec![FaultKind::ControllerDiskLost],
        }
    }

    /// The hosts that it touches; all where it names none.
    pub(crate) fn hosts(&self, cluster: &Cluster) -> Vec<String> {
        match self {
            Self::KillController(host)
            | Self::KillSatellite(host)
            | Self::CutPower(host)
            | Self::Isolate(host)
            | Self::SlowDown(host, _)
            | Self::BreakCommands(host, _)
            | Self::Stall(host)
            | Self::FillPool(host)
            | Self::ShiftClock(host, _)
            | Self::SendLateOrder(host)
            | Self::LoseControllerDisk(host) => vec![host.clone()],
            Self::Part(one, other) | Self::PartOneWay(one, other) => vec![one.clone(), other.clone()],
            Self::Lose(_) | Self::Disorder(_) => cluster.names(),
        }
    }
}
