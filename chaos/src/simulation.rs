//! One run of one seed: a cluster is formed, worked with and hurt; then everything is mended, and it has to come to
//! rest with nothing lost. It ends early where something was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use hawser_planted::Defect;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    clock::Moment,
    cluster::{Cluster, Size},
    faults::{Fault, FaultKind},
    host::CommandFaults,
    invariants::{
        Invariants,
        operations::{KindAndPhase, PHASES},
    },
    pace::Pace,
    sample::Sample,
};

/// Between two looks at the invariants while a short phase of an operation is waited for.
const FINE_STEP: Duration = Duration::from_millis(10);
/// A phase that has not come by then is not waited for any longer.
const LONGEST_AIM: Duration = Duration::from_secs(8);
/// Everything has to come to rest within this time after the last fault has ended.
const REST: Duration = Duration::from_secs(240);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything else: size, work and faults.
    pub seed: u64,
    /// Simulated time with faults.
    pub time: Duration,
    /// A defect of the programs. A release has none and ignores it.
    pub planted: Option<Defect>,
    /// People read what a controller has at hand, however old, and take it for what is: a defect of theirs.
    pub stale_reads: bool,
    /// How hard it is worked and hurt.
    pub pace: Pace,
}

impl Setup {
    /// The programs and people as they should be.
    #[must_use]
    pub fn new(seed: u64, time: Duration) -> Self {
        Self { seed, time, planted: None, stale_reads: false, pace: Pace::DENSE }
    }
}

/// How often each kind of fault fell into each phase of an operation.
pub type Interrupted = BTreeMap<(KindAndPhase, FaultKind), u64>;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Number of the trace: the same for every run of the seed.
    pub hash: u64,
    /// Simulated time, with the way to rest.
    pub simulated: Duration,
    /// How often each fault came about.
    pub fired: BTreeMap<FaultKind, u64>,
    /// Faults that were brought about, each of one or more kinds.
    pub faults: u64,
    /// Kinds and phases of operations that a fault fell into.
    pub interrupted: Interrupted,
    /// How large everything was, from time to time, where the pace asks for it.
    pub samples: Vec<Sample>,
    /// What must never be and was.
    pub violations: Vec<String>,
    /// The trace, for a person.
    pub trace: String,
}

/// Runs one seed, with faults for `time`.
#[must_use]
pub fn run(seed: u64, time: Duration) -> Outcome {
    run_with(&Setup::new(seed, time))
}

/// As [`run`], with defects.
#[must_use]
pub fn run_with(setup: &Setup) -> Outcome {
    #[cfg(debug_assertions)]
    let _planted = setup.planted.map(hawser_planted::plant);
    let mut random = StdRng::seed_from_u64(setup.seed ^ 0x5eed);
    let size = Size {
        controllers: *[3, 3, 3, 5, 1].choose(&mut random).unwrap_or(&3),
        hosts: random.random_range(3..=5),
        workers: random.random_range(2..=4),
    };
    let size = Size { hosts: size.hosts.max(size.controllers), ..size };
    // Over a day, what three of each hold says as much as more of them would.
    let size = if setup.pace == Pace::DENSE { size } else { Size { controllers: 3, hosts: 3, workers: 3 } };
    let cluster = match Cluster::form(setup, size) {
        Ok(cluster) => cluster,
        Err(error) => return unformed(setup.seed, &error),
    };
    cluster.trace().add("simulation", format_args!("{size:?} is formed"));
    // In some runs all harm comes to one host: then nothing may delay what the others do.
    let victim = random.random_bool(0.15).then(|| cluster.names().choose(&mut random).cloned()).flatten();
    let mut run = Run {
        cluster,
        victim,
        random,
        invariants: Invariants::default(),
        running: Vec::new(),
        faults: 0,
        interrupted: Interrupted::default(),
        pace: setup.pace,
        samples: Vec::new(),
    };
    if let Err(words) = run.hurt(setup.time).and_then(|()| run.rest()) {
        run.cluster.violations.note(words);
    }
    run.invariants.check_at_end(&run.cluster);
    let Run { cluster, interrupted, faults, samples, .. } = run;
    Outcome {
        seed: setup.seed,
        hash: cluster.trace().hash(),
        simulated: cluster.now(),
        fired: cluster.fired.counted(),
        faults,
        interrupted,
        samples,
        violations: cluster.violations.all(),
        trace: cluster.trace().text(),
    }
}

fn unformed(seed: u64, error: &anyhow::Error) -> Outcome {
    Outcome {
        seed,
        hash: 0,
        simulated: Duration::ZERO,
        fired: BTreeMap::new(),
        faults: 0,
        interrupted: Interrupted::default(),
        samples: Vec::new(),
        violations: vec![format!("no cluster was formed: {error:#}")],
        trace: String::new(),
    }
}

struct Run {
    cluster: Cluster,
    victim: Option<String>,
    random: StdRng,
    invariants: Invariants,
    /// Faults that go on, and until when.
    running: Vec<(Moment, Fault)>,
    faults: u64,
    interrupted: Interrupted,
    pace: Pace,
    samples: Vec<Sample>,
}

impl Run {
    fn found_something(&self) -> bool {
        !self.cluster.violations.all().is_empty()
    }

    fn step(&mut self, time: Duration) -> Result<(), String> {
        self.cluster.run(time)?;
        self.cluster.go_on_replacing()?;
        self.cluster.keep_documents();
        self.invariants.check(&self.cluster);
        Ok(())
    }

    /// Lets faults come and go for `time`, then mends what is left of them.
    fn hurt(&mut self, time: Duration) -> Result<(), String> {
        let end = self.cluster.now() + time;
        let mut aim = self.aim();
        while self.cluster.now() < end && !self.found_something() {
            self.step(if aim.is_fine() { FINE_STEP } else { self.pace.step })?;
            self.take_sample();
            let now = self.cluster.now();
            self.mend(|until| until <= now);
            let phases = self.invariants.phases();
            if aim.is_met(now, &phases) {
                let names = self.cluster.names();
                let (fault, lasts) = Fault::draw(&mut self.random, &names, self.victim.as_ref());
                let words = format_args!("{fault:?} for {lasts:?}, during {phases:?}").to_string();
                self.cluster.trace().add("fault", words);
                for kind in fault.kinds() {
                    for phase in &phases {
                        *self.interrupted.entry((*phase, kind)).or_default() += 1;
                    }
                }
                fault.begin(&mut self.cluster);
                self.faults += 1;
                self.running.push((now + lasts, fault));
                aim = self.aim();
            }
        }
        self.mend(|_| true);
        Ok(())
    }

    fn aim(&mut self) -> Aim {
        let now = self.cluster.now();
        match self.pace.fault_every {
            Some(every) => Aim::At(now + every),
            None => Aim::take(now, &mut self.random),
        }
    }

    fn take_sample(&mut self) {
        let Some(every) = self.pace.sample_every else { return };
        let last = self.samples.last().map_or(Duration::ZERO, |sample| sample.at);
        if self.cluster.now() >= last + every {
            let sample = self.cluster.sample().of_state(self.invariants.state());
            self.samples.push(sample);
        }
    }

    fn mend(&mut self, is_over: impl Fn(Moment) -> bool) {
        let (over, going_on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|(until, _)| is_over(*until));
        self.running = going_on;
        for (_, fault) in over {
            fault.end(&mut self.cluster, self.running.iter().map(|(_, fault)| fault));
        }
    }

    fn rest(&mut self) -> Result<(), String> {
        for name in self.cluster.names() {
            self.cluster.restore_power(&name);
            self.cluster.restart(&name);
            self.cluster.hosts[&name].commands.set(CommandFaults::default());
        }
        self.cluster.calm.store(true, Ordering::Relaxed);
        self.cluster.trace().add("simulation", "no more faults");
        let deadline = self.cluster.now() + REST;
        while !self.found_something() {
            self.step(self.pace.step)?;
            let missing = self.invariants.missing_at_rest(&self.cluster);
            if missing.is_empty() {
                self.cluster.trace().add("simulation", "everything has come to rest");
                self.invariants.check_at_rest(&self.cluster);
                return Ok(());
            }
            if self.cluster.now() >= deadline {
                return Err(format!("after {REST:?} without faults: {}", missing.join("; ")));
            }
        }
        Ok(())
    }
}

/// When the next fault comes.
enum Aim {
    /// Then.
    At(Moment),
    /// When an operation is in this phase, not before the first moment and not after the second.
    During(KindAndPhase, Moment, Moment),
}

impl Aim {
    fn take(now: Moment, random: &mut StdRng) -> Self {
        let pause = Duration::from_millis(random.random_range(500..5_000));
        match PHASES.choose(random) {
            Some(phase) if random.random_bool(0.6) => {
                Self::During(*phase, now + pause / 4, now + LONGEST_AIM)
            }
            _ => Self::At(now + pause),
        }
    }

    fn is_met(&self, now: Moment, phases: &BTreeSet<KindAndPhase>) -> bool {
        match self {
            Self::At(moment) => now >= *moment,
            Self::During(phase, from, until) => now >= *until || (now >= *from && phases.contains(phase)),
        }
    }

    /// Phases pass quickly.
    fn is_fine(&self) -> bool {
        matches!(self, Self::During(..))
    }
}
