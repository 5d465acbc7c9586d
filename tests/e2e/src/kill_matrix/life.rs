//! The life of one volume, from its creation to its deletion, with at most one death in each of its operations.
//!
//! After each of them everybody has to come back and the data is compared; after the deletion nothing may be left.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::api::Api;
use super::grid::{Cell, Operation};
use super::hand::Hands;
use super::interrupt::{Fell, Outcome, Places, interrupted};
use super::volume::Volume;
use crate::cluster::Cluster;
use crate::story::{Holdings, expect_nothing_left, wait_until_all_are_back};

/// The nodes of a lab.
pub(super) const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Until everybody is back, once an operation has ended and every node has power.
const ALL_BACK: Duration = Duration::from_secs(60);
const SIZE: &str = "64MiB";

/// A lab in which volumes live.
pub(super) struct Place {
    // Its connections end before their nodes do.
    hands: Hands,
    api: Api,
    pub(super) cluster: Cluster,
}

impl Place {
    pub(super) fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::up(name, 3)?;
        Ok(Self { hands: Hands::default(), api: Api::of(&cluster, &NODES)?, cluster })
    }
}

/// A life as it goes.
pub(super) struct Life<'a> {
    place: &'a mut Place,
    cells: BTreeMap<Operation, Cell>,
    volume: Volume,
    /// What became of each cell, in order.
    pub(super) outcomes: Vec<(Cell, Outcome)>,
    /// The cell whose operation, or what has to hold after it, is under way.
    pub(super) current: Option<Cell>,
}

impl<'a> Life<'a> {
    pub(super) fn new(place: &'a mut Place, number: usize, cells: BTreeMap<Operation, Cell>) -> Self {
        let volume = Volume::new(format!("life{number}"));
        Self { place, cells, volume, outcomes: Vec::new(), current: None }
    }

    /// Lives it. What cannot be had by the cells that are left is passed over.
    ///
    /// # Errors
    /// What did not hold, after [`Self::current`].
    pub(super) fn live(&mut self, number: usize) -> Result<()> {
        // Each node has each part in turn.
        let [first, second, _] = [0, 1, 2].map(|role| NODES[(number + role) % NODES.len()]);
        let name = self.volume.name.clone();
        let create = ["resource", "create", &name, "--size", SIZE, "--node", first, "--node", second];
        self.carry_out(Operation::Create, &create, (first, second))?;
        self.volume.compare(&self.place.cluster)?;

        let has = |operation| self.cells.contains_key(&operation);
        let (moves, changes) =
            (has(Operation::Detach) || has(Operation::Attach), has(Operation::Remove) || has(Operation::Add));
        if moves || changes {
            self.place.cluster.must(&["attachment", "create", &name, first])?;
            let writing = self.volume.write(&self.place.cluster, first)?;
            self.volume.stop(&self.place.cluster, writing)?;
            self.carry_out(Operation::Detach, &["attachment", "delete", &name, first], (first, second))?;
            self.compare()?;
            self.carry_out(Operation::Attach, &["attachment", "create", &name, second], (second, first))?;
            self.compare()?;
            self.change_replicas(first, second, changes)?;
            self.place.cluster.must(&["attachment", "delete", &name, second])?;
        }

        let holdings = Holdings::of(&self.place.cluster, &name)?;
        self.carry_out(Operation::Delete, &["resource", "delete", &name], (first, second))?;
        holdings.expect_gone(&self.place.cluster, &NODES).context("after the deletion")?;
        expect_nothing_left(&self.place.cluster, &NODES, &name).context("after the deletion")?;
        self.current = None;
        Ok(())
    }

    /// Under a writer on `second`, the replica on `first` leaves and one joins there.
    fn change_replicas(&mut self, first: &'static str, second: &'static str, changes: bool) -> Result<()> {
        let name = self.volume.name.clone();
        let mut writing = self.volume.write(&self.place.cluster, second)?;
        if changes {
            let before = Holdings::of(&self.place.cluster, &name)?;
            let outcome =
                self.carry_out(Operation::Remove, &["replica", "delete", &name, first], (first, second))?;
            let left = before.left_over(&self.place.cluster, first)?;
            ensure!(left.is_empty(), "{}", left.join("; "));
            writing = self.volume.goes_on(&self.place.cluster, writing, outcome.as_ref())?;
            self.compare()?;
            let outcome =
                self.carry_out(Operation::Add, &["replica", "create", &name, first], (first, second))?;
            writing = self.volume.goes_on(&self.place.cluster, writing, outcome.as_ref())?;
            self.compare()?;
        }
        self.volume.stop(&self.place.cluster, writing)
    }

    fn compare(&self) -> Result<()> {
        self.volume.expect_records()?;
        self.volume.compare(&self.place.cluster)
    }

    /// Carries out an operation, with the death of its cell if it has one, and waits until everybody is back. Returns
    /// what became of it where a node lost its power.
    fn carry_out(
        &mut self,
        operation: Operation,
        words: &[&str],
        (own, peer): (&'static str, &'static str),
    ) -> Result<Option<Outcome>> {
        let Some(cell) = self.cells.get(&operation).copied() else {
            self.place.cluster.must(words)?;
            return Ok(None);
        };
        self.current = Some(cell);
        let places = Places { own, peer, all: NODES };
        let Place { hands, api, cluster } = &mut *self.place;
        let outcome = interrupted(cluster, api, hands, (words, places), cell)?;
        self.outcomes.push((cell, outcome.clone()));
        wait_until_all_are_back(cluster, NODES.len(), ALL_BACK)?;
        let was_cut = cell.victim.is_power_cut() && outcome.fell != Fell::Nowhere;
        Ok(was_cut.then_some(outcome))
    }
}
