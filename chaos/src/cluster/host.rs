//! One machine of the simulated cluster, and what its processes show of themselves.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use hawser_controller::{consensus::Consensus, leader::Standing};
use hawser_satellite::ledger::Ledger;
use tokio::sync::watch;

use crate::{disk::Disk, host::Commands, process::Process};

/// One machine.
pub(crate) struct Host {
    pub(super) powered: bool,
    /// Its processes get no time at all.
    pub(super) stalled: bool,
    /// How far its clock is from the others'.
    pub(super) clock_shift_ms: i64,
    pub(super) directory: PathBuf,
    pub(super) disk: Disk,
    pub(crate) commands: Commands,
    pub(super) has_controller: bool,
    /// Its controller has lost everything, and must not come up as the one that it was.
    pub(super) has_empty_disk: bool,
    pub(super) controller: Option<(Process, Running<Member>)>,
    pub(super) satellite: Option<(Process, Running<Ledger>)>,
}

/// A controller that runs.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) consensus: Consensus,
    pub(super) standing: watch::Receiver<Standing>,
}

/// What a process shows of itself once it has started.
pub(crate) struct Running<T> {
    shown: Arc<Mutex<Option<T>>>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Host {
    /// One that has power and nothing on its disks.
    pub(super) fn new(directory: PathBuf, disk: Disk, commands: Commands) -> Self {
        Self {
            powered: true,
            stalled: false,
            clock_shift_ms: 0,
            directory,
            disk,
            commands,
            has_controller: false,
            has_empty_disk: false,
            controller: None,
            satellite: None,
        }
    }

    /// The processes that run on it, by what they are.
    pub(super) fn processes(&self) -> impl Iterator<Item = (&'static str, &Process)> {
        let controller = self.controller.as_ref().map(|(process, _)| ("controller", process));
        let satellite = self.satellite.as_ref().map(|(process, _)| ("satellite", process));
        controller.into_iter().chain(satellite)
    }

    /// What this host's log holds at `index`, synced or not.
    pub(crate) fn entry(&self, index: u64) -> Option<Vec<u8>> {
        self.disk.entry(index)
    }
}

impl<T> Clone for Running<T> {
    fn clone(&self) -> Self {
        Self { shown: Arc::clone(&self.shown), ended: Arc::clone(&self.ended) }
    }
}

impl<T: Clone> Running<T> {
    pub(super) fn new() -> Self {
        Self { shown: Arc::default(), ended: Arc::default() }
    }

    pub(super) fn show(&self, shown: T) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }

    pub(super) fn end(&self, why: String) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub(super) fn shown(&self) -> Option<T> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn ended(&self) -> Option<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
