//! What must always hold, numbered as in the architecture's list; one file each. 8 is checked where records are
//! read back, in the workload; 15 also where nonsense is asked for.
//!
//! A checker sees everything, also what no part of the cluster could know. It must never change anything.

mod agreement;
mod answers;
mod capacity;
mod copies;
#[cfg(test)]
mod fixture;
mod floor;
mod foreign;
mod latency;
mod leftovers;
mod nonsense;
mod numbers;
pub(crate) mod operations;
mod orders;
mod primaries;
mod seen;
mod service;

use std::{collections::BTreeSet, sync::Arc};

use hawser_controller::leader::conditions::phase_of;
use hawser_state::State;

use self::{
    operations::{KindAndPhase, kind_word},
    seen::Seen,
};
use crate::cluster::Cluster;

pub(crate) use self::foreign::NOT_OURS;

/// All checkers, with what they remember of earlier steps.
#[derive(Default)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    primaries: primaries::Primaries,
    copies: copies::Copies,
    orders: orders::Orders,
    operations: operations::Operations,
    latency: latency::Latency,
    service: service::Service,
    seen: Seen,
}

impl Invariants {
    /// Checks what must hold at every step.
    pub(crate) fn check(&mut self, cluster: &Cluster) {
        let seen = self.look(cluster);
        let found = [
            self.agreement.check(cluster),
            numbers::check(&seen),
            self.primaries.check(&seen),
            floor::check(&seen),
            self.copies.check(&seen),
            self.orders.check(&seen),
            self.operations.check(&seen),
            foreign::check(&seen),
            self.latency.check(&seen),
            self.service.check(&seen),
            capacity::check(&seen),
            nonsense::check(&seen),
            cluster.ended(),
        ];
        self.seen = seen;
        note(cluster, found.into_iter().flatten());
    }

    /// The phases of the operations that ran at the last look, as the leader saw them.
    pub(crate) fn phases(&self) -> BTreeSet<KindAndPhase> {
        let phases = self.seen.phases.iter();
        phases
            .filter_map(|(id, phase)| Some((kind_word(self.seen.state.operation(*id)?.kind())?, *phase)))
            .collect()
    }

    /// The newest state at the last look.
    pub(crate) fn state(&self) -> &State {
        &self.seen.state
    }

    /// What was still missing at the last look before the cluster is at rest, in the words of whoever waits for it.
    pub(crate) fn missing_at_rest(&self, cluster: &Cluster) -> Vec<String> {
        let mut missing = operations::running(&self.seen);
        missing.extend(leftovers::not_in_sync(&self.seen));
        missing.extend(cluster.unfinished());
        missing.extend(cluster.missing_voters());
        if missing.is_empty() {
            // The dearest question comes last.
            missing = agreement::differences(cluster);
        }
        missing
    }

    /// Checks what must hold when everything has come to rest.
    pub(crate) fn check_at_rest(&self, cluster: &Cluster) {
        note(cluster, leftovers::check(&self.seen).into_iter());
    }

    /// Checks what can only be said of a whole run, however it ended.
    pub(crate) fn check_at_end(&self, cluster: &Cluster) {
        note(cluster, answers::check(&cluster.history).into_iter());
    }

    fn look(&self, cluster: &Cluster) -> Seen {
        let known = cluster.known_to_the_leader();
        let phases = known.as_ref().map(|known| {
            let running = known.state.running_operations();
            running
                .filter_map(|operation| {
                    Some((operation.id(), phase_of(&known.state, &known.observed, operation)?.word()))
                })
                .collect()
        });
        let state = self.newest_state(cluster);
        let wanted: BTreeSet<&str> = state.resources().map(|resource| resource.drbd_name.as_str()).collect();
        let acknowledged = cluster.world.acknowledged(|drbd_name| wanted.contains(drbd_name));
        Seen {
            now: cluster.now(),
            state,
            nodes: cluster.world.inspect(),
            acknowledged,
            acknowledgers: cluster.world.acknowledged_lately(),
            documents: cluster.documents(),
            ledgers: cluster.ledger_directories(),
            leader: known.map(|known| known.leader),
            phases: phases.unwrap_or_default(),
            disturbed: cluster.disturbed(),
        }
    }

    /// Whoever had it may be gone since; it was shown all the same.
    fn newest_state(&self, cluster: &Cluster) -> Arc<State> {
        let shown = cluster.consensus().into_values().map(|consensus| consensus.view().state());
        let newest = shown.max_by_key(|state| state.revision());
        newest
            .filter(|state| state.revision() >= self.seen.state.revision())
            .unwrap_or_else(|| Arc::clone(&self.seen.state))
    }
}

fn note(cluster: &Cluster, found: impl Iterator<Item = String>) {
    for violation in found {
        if cluster.violations.note(violation.clone()) {
            cluster.trace().add("violation", violation);
        }
    }
}
