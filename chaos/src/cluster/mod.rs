//! The simulated cluster: hosts with controllers, satellites and a kernel below them, an administrator's machine, and
//! one clock.
//!
//! It starts, kills and parts; it decides nothing about when.
//! * `formation`: how it comes to be. * `processes`: what runs on its hosts. * `staff`: who works with it.
//! * `replacement`: how a controller that lost its disk comes back.

mod formation;
mod host;
mod processes;
mod replacement;
mod staff;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hawser_controller::{consensus::Consensus, leader::observed::Observed};
use hawser_process::wall_clock;
use hawser_satellite::{host::sim::SimWorld, ledger::Ledger};
use hawser_state::State;
use prost::Message;
use tempfile::TempDir;

use self::{host::Host, replacement::Replacement};
use crate::{
    clock::{self, Moment},
    fired::Fired,
    history::History,
    network::Network,
    process::Process,
    sample::{Sample, bytes_below, resident_bytes},
    trace::Trace,
    violations::Violations,
};

/// Where a satellite's ledger lies in its node's directory.
pub(crate) const LEDGER: &str = "ledger";
/// Id of the simulated cluster.
pub const CLUSTER: &str = "6f0b2f8e-0f4f-4a4e-9d55-0d0b63d1a001";
/// The administrator's machine.
const OUTSIDE: &str = "outside";
const PORT: u16 = 6470;
/// The volume group and the thin pool of every node.
const GROUP: &str = "vg0";
const POOL: &str = "thin";
/// The volume group of every node that volumes are cut from.
const THICK_GROUP: &str = "vg1";
/// The directory of every node that volumes are files in.
const DIRECTORY: &str = "/srv/hawser";
/// All processes run in turn, each for so long.
const TICK: Duration = Duration::from_millis(2);
/// The day on which every simulation begins, in milliseconds since 1970.
const FIRST_DAY_MS: i64 = 1_767_225_600_000;
/// What a fault has touched takes so long to come to itself: a command that failed often is tried again after half a
/// minute at most.
const RECOVERY: Duration = Duration::from_secs(60);
/// Documents of each node that are kept to be sent late.
const DOCUMENTS_KEPT: usize = 12;

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Controllers, on the first hosts.
    pub controllers: usize,
    /// Hosts; a satellite is on each.
    pub hosts: usize,
    /// Workers, each with a volume.
    pub workers: usize,
}

/// A simulated cluster.
pub struct Cluster {
    seed: u64,
    size: Size,
    now: Moment,
    directory: TempDir,
    pub(crate) network: Network,
    pub(crate) world: SimWorld,
    /// The kernels' own doings, and the helpers that they start.
    kernels: Process,
    pub(crate) hosts: BTreeMap<String, Host>,
    outside: Process,
    pub(crate) calm: Arc<AtomicBool>,
    /// Who works, and whether they have finished.
    finished: Vec<(String, Arc<AtomicBool>)>,
    /// What the API was asked and answered.
    pub(crate) history: History,
    replacement: Option<Replacement>,
    /// When a fault last touched each host.
    hurt: BTreeMap<String, Moment>,
    /// Documents that each satellite has accepted, the newest last.
    older_documents: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
    pub(crate) trace: Trace,
    pub(crate) fired: Fired,
    pub(crate) violations: Violations,
    starts: u64,
}

/// What the leader knows.
pub(crate) struct Known {
    /// The leader's host.
    pub(crate) leader: String,
    /// Its state.
    pub(crate) state: Arc<State>,
    /// What it has heard of the nodes.
    pub(crate) observed: Observed,
}

impl Cluster {
    /// Time since the beginning.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// What happened.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Lets everybody run for `time`.
    ///
    /// # Errors
    /// The words of a panic in any process.
    pub fn run(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now + time;
        while self.now < end {
            let until = (self.now + TICK).min(end);
            self.kernels.run_until(until).map_err(|words| format!("the kernels panicked: {words}"))?;
            for (name, host) in self.hosts.iter().filter(|(_, host)| !host.stalled) {
                wall_clock::show(Some(wall_time(until, host.clock_shift_ms)));
                for (what, process) in host.processes() {
                    process.run_until(until).map_err(|words| panicked(what, name, &words))?;
                }
            }
            wall_clock::show(Some(wall_time(until, 0)));
            self.outside.run_until(until).map_err(|words| format!("a worker panicked: {words}"))?;
            self.now = until;
            clock::all_have_reached(until);
        }
        Ok(())
    }

    /// Lets the time of day on a host jump.
    pub(crate) fn shift_clock(&mut self, name: &str, by_ms: i64) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.clock_shift_ms = by_ms;
        }
    }

    /// The controllers that run.
    pub(crate) fn consensus(&self) -> BTreeMap<String, Consensus> {
        let running = |host: &Host| host.controller.as_ref().and_then(|(_, running)| running.shown());
        self.hosts.iter().filter_map(|(name, host)| Some((name.clone(), running(host)?.consensus))).collect()
    }

    /// What the leader knows. `None` while nobody leads.
    pub(crate) fn known_to_the_leader(&self) -> Option<Known> {
        self.hosts.iter().find_map(|(name, host)| {
            let member = host.controller.as_ref().and_then(|(_, running)| running.shown())?;
            let observed = member.standing.borrow().reign().map(|reign| reign.observed.picture())?;
            Some(Known { leader: name.clone(), state: member.consensus.view().state(), observed })
        })
    }

    /// The ledgers of the satellites that run.
    pub(crate) fn ledgers(&self) -> BTreeMap<String, Ledger> {
        let running = |host: &Host| host.satellite.as_ref().and_then(|(_, running)| running.shown());
        self.hosts.iter().filter_map(|(name, host)| Some((name.clone(), running(host)?))).collect()
    }

    /// Where each satellite's ledger lies, whether it runs or not.
    pub(crate) fn ledger_directories(&self) -> BTreeMap<String, PathBuf> {
        self.hosts.iter().map(|(name, host)| (name.clone(), host.directory.join(LEDGER))).collect()
    }

    /// Lineage and revision of the document that each satellite which runs has accepted.
    pub(crate) fn documents(&self) -> BTreeMap<String, (u64, u64)> {
        let version = |ledger: Ledger| {
            let version = ledger.version();
            (version.lineage.get(), version.revision.get())
        };
        self.ledgers().into_iter().map(|(name, ledger)| (name, version(ledger))).collect()
    }

    /// Keeps the documents that satellites have by now, to be sent again when they are old.
    pub(crate) fn keep_documents(&mut self) {
        for (name, ledger) in self.ledgers() {
            let Some(accepted) = ledger.document().borrow().clone() else { continue };
            let kept = self.older_documents.entry(name).or_default();
            let revision = accepted.document.revision;
            if kept.last().is_none_or(|(newest, _)| *newest < revision) {
                kept.push((revision, accepted.document.encode_to_vec()));
            }
            if kept.len() > DOCUMENTS_KEPT {
                kept.remove(0);
            }
        }
    }

    /// Hands a satellite an order that it has had before, as a leader would that does not know yet that it was deposed.
    /// False if there is none that is older than what it has.
    pub(crate) fn send_late_order(&mut self, name: &str) -> bool {
        let documents = self.older_documents.get(name);
        let older = documents.and_then(|kept| kept.len().checked_sub(2).map(|at| kept[at].clone()));
        let ledger = self.ledgers().remove(name);
        let satellite = self.hosts.get(name).and_then(|host| host.satellite.as_ref());
        let (Some((revision, bytes)), Some(ledger), Some((satellite, _))) = (older, ledger, satellite) else {
            return false;
        };
        let (trace, name) = (self.trace.clone(), name.to_owned());
        satellite.spawn(async move {
            let answer = match ledger.accept(bytes).await {
                Ok(accepted) => format!("accepted, has revision {}", accepted.document.revision),
                Err(refused) => refused.to_string(),
            };
            trace.add(&name, format_args!("a late order of revision {revision}: {answer}"));
        });
        true
    }

    /// Notes that a fault touches a host.
    pub(crate) fn note_hurt(&mut self, name: &str) {
        self.hurt.insert(name.to_owned(), self.now);
    }

    /// Hosts that a fault has touched lately.
    pub(crate) fn disturbed(&self) -> BTreeSet<String> {
        let lately = |moment: &Moment| self.now < *moment + RECOVERY;
        self.hurt.iter().filter(|(_, moment)| lately(moment)).map(|(name, _)| name.clone()).collect()
    }

    /// Controllers and satellites that ended by themselves, and why.
    pub(crate) fn ended(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, host) in &self.hosts {
            if host.has_empty_disk {
                if host.controller.as_ref().is_some_and(|(_, running)| running.shown().is_some()) {
                    all.push(format!("invariant 1: the controller of {name} came up with an empty disk"));
                }
            } else if let Some(why) = host.controller.as_ref().and_then(|(_, running)| running.ended()) {
                // Whatever it knew that others do not know is lost with it.
                all.push(format!("invariant 1: the controller of {name} ended: {why}"));
            }
            if let Some(why) = host.satellite.as_ref().and_then(|(_, running)| running.ended()) {
                all.push(format!("the satellite of {name} ended: {why}"));
            }
        }
        all
    }

    /// Breaks or mends the link that replicates between two hosts.
    pub(crate) fn link(&self, one: &str, other: &str, up: bool) {
        self.kernels.act(|| self.world.link(one, other, up));
    }

    /// Fills the pool of a node, or frees it again.
    pub(crate) fn fill_pool(&self, name: &str, full: bool) {
        self.kernels.act(|| self.world.fill_pools(name, full));
    }

    /// Who has not yet left everything as it should stay.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let unfinished = self.finished.iter().filter(|(_, finished)| !finished.load(Ordering::Relaxed));
        unfinished.map(|(name, _)| format!("{name} has not finished")).collect()
    }

    /// How large everything is that its processes keep, but for the state.
    pub(crate) fn sample(&self) -> Sample {
        let hosts = || self.hosts.values();
        let below =
            |name: &str| hosts().map(|host| bytes_below(&host.directory.join(name))).max().unwrap_or(0);
        let (log_entries, log_bytes) = hosts().map(|host| host.disk.size()).max().unwrap_or_default();
        Sample {
            at: self.now,
            log_entries,
            log_bytes,
            controller_bytes: below("controller"),
            ledger_bytes: below(LEDGER),
            resident_bytes: resident_bytes(),
            ..Sample::default()
        }
    }

    /// Names of the hosts.
    pub(crate) fn names(&self) -> Vec<String> {
        self.hosts.keys().cloned().collect()
    }
}

/// As where a controller ends by itself: whatever it knew that others do not know is lost with it. Its own assertions are
/// the first to notice that what was committed is not there any more.
fn panicked(what: &str, name: &str, words: &str) -> String {
    let invariant = if what == "controller" { "invariant 1: " } else { "" };
    format!("{invariant}the {what} of {name} panicked: {words}")
}

/// The time of day at a moment, on a clock that is so far from the others.
fn wall_time(moment: Moment, shift_ms: i64) -> u64 {
    let since = i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
    u64::try_from(FIRST_DAY_MS.saturating_add(since).saturating_add(shift_ms)).unwrap_or(0)
}

fn address(host: &str) -> String {
    format!("{host}:{PORT}")
}

fn ip(at: usize) -> String {
    format!("10.77.0.{}", at + 1)
}
