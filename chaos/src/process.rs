//! A simulated process: a runtime of one thread with a paused clock, which runs only when it is told to.
//!
//! Dropping it is `kill -9`: its tasks end where they are, and none of them says goodbye.

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use tokio::{
    runtime::{Builder, RngSeed, Runtime},
    time::{Instant, advance, sleep_until},
};

use crate::clock::{self, Moment};

static LISTENS: Once = Once::new();

thread_local! {
    /// The words of the first panic in the process that runs. A task's ends that task alone; a real process ends.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A process of the simulation.
pub(crate) struct Process {
    runtime: Runtime,
    began: Instant,
    at: Moment,
    number: u64,
}

impl Process {
    /// A process that begins at the moment `at`, with everything that it draws by chance taken from `seed`.
    ///
    /// # Panics
    /// If the system gives no runtime.
    pub(crate) fn begin(at: Moment, seed: u64) -> Self {
        Self::begin_on(Builder::new_current_thread().enable_time(), at, seed)
    }

    /// As [`begin`](Self::begin), for a process that opens sockets of the machine: each of its turns asks the machine
    /// about them, which takes a good part of its time.
    ///
    /// # Panics
    /// If the system gives no runtime.
    pub(crate) fn begin_with_sockets(at: Moment, seed: u64) -> Self {
        Self::begin_on(Builder::new_current_thread().enable_all(), at, seed)
    }

    fn begin_on(builder: &mut Builder, at: Moment, seed: u64) -> Self {
        listen_for_panics();
        let runtime = builder
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .expect("the machine has a few descriptors left");
        let began = runtime.block_on(async { Instant::now() });
        Self { runtime, began, at, number: seed }
    }

    /// Its seed, which no other process of the simulation has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Starts a task in it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Does something in it, at once: its tasks are spawned here, and its chances are drawn here.
    pub(crate) fn act<T>(&self, action: impl FnOnce() -> T) -> T {
        clock::within(self.began, self.at, || self.runtime.block_on(async { action() }))
    }

    /// Lets it run up to the moment `until`.
    ///
    /// # Errors
    /// The words of a panic in any of its tasks.
    pub(crate) fn run_until(&self, until: Moment) -> Result<(), String> {
        let end = self.began + (until - self.at);
        clock::within(self.began, self.at, || {
            let ended =
                catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(async { sleep_until(end).await })));
            match (PANIC.take(), ended) {
                (Some(words), _) => Err(words),
                (None, Ok(())) => Ok(()),
                (None, Err(_)) => Err("a panic without words".to_owned()),
            }
        })
    }

    /// It got no time up to the moment `until`: its timers are late, and all of them are due at once.
    pub(crate) fn has_slept_until(&self, until: Moment) {
        clock::within(self.began, self.at, || {
            self.runtime.block_on(async {
                let due = self.began + (until - self.at);
                advance(due.saturating_duration_since(Instant::now())).await;
            });
        });
    }
}

/// Keeps the words of a panic in a simulated process, in place of printing them.
fn listen_for_panics() {
    LISTENS.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if clock::is_within() {
                PANIC.with_borrow_mut(|words| {
                    words.get_or_insert_with(|| panic.to_string());
                });
            } else {
                before(panic);
            }
        }));
    });
}
