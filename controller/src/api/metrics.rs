//! What a controller says of itself on the plain port: whether it is ready, and numbers for Prometheus.
//!
//! Numbers are computed from the published state when somebody asks; nothing is counted on the way of a request.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hawser_process::health::{Health, Readiness};
use hawser_proto::v1;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    consensus::{Consensus, Status},
    leader::Standing,
};

/// Readiness and metrics of this controller. It is not ready once nobody has led for longer than `patience`.
#[must_use]
pub fn health(consensus: Consensus, standing: watch::Receiver<Standing>, patience: Duration) -> Health {
    let mut registry = Registry::with_prefix("hawser");
    registry.register_collector(Box::new(Numbers { consensus: consensus.clone(), standing }));
    let heard = Mutex::new(Instant::now());
    let readiness = move || {
        let status = consensus.status();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if status.has_quorum {
            *heard = Instant::now();
        }
        readiness(&status, heard.elapsed(), patience)
    };
    Health::with_registry(readiness, Arc::new(registry))
}

fn readiness(status: &Status, leaderless: Duration, patience: Duration) -> Readiness {
    if !status.running {
        return Readiness::NotReady("consensus has stopped; the log says why".into());
    }
    if !status.has_quorum && leaderless > patience {
        return Readiness::NotReady("no leader with a majority was heard lately".into());
    }
    Readiness::Ready
}

struct Numbers {
    consensus: Consensus,
    standing: watch::Receiver<Standing>,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Numbers")
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.consensus.status();
        let state = self.consensus.view().state();
        let sessions = self.standing.borrow().reign().map_or(0, |reign| reign.sessions.count());
        let is_leader = self.standing.borrow().reign().is_some();
        let plain = [
            ("raft_term", "Raft's current term", status.term),
            ("raft_is_leader", "1 where this controller leads and its reign has begun", u64::from(is_leader)),
            ("raft_has_quorum", "1 while a majority was heard lately", u64::from(status.has_quorum)),
            ("raft_last_log_index", "Index of the last entry in the log", status.last_log),
            ("raft_committed_index", "Index of the last entry known to be committed", status.committed),
            ("raft_applied_index", "Index of the last applied entry", status.applied),
            ("raft_snapshot_index", "Index up to which the newest snapshot goes", status.snapshot),
            (
                "raft_voters",
                "Voting members",
                count(status.members.iter().filter(|member| member.role == v1::MemberRole::Voter)),
            ),
            (
                "sessions",
                "Satellites that are connected; 0 where this controller does not lead",
                count(0..sessions),
            ),
            ("nodes", "Registered nodes", count(state.nodes())),
            ("pools", "Registered storage pools", count(state.pools())),
            ("attachments", "Attachments", count(state.attachments())),
            ("operations_running", "Operations that have not ended", count(state.running_operations())),
            (
                "operations_waiting",
                "Running operations that do not advance",
                count(state.running_operations().filter(|operation| operation.waits_for.is_some())),
            ),
        ];
        for (name, help, value) in plain {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }

        let by_lifecycle = Family::<Vec<(&'static str, String)>, Gauge>::default();
        let mut counts = BTreeMap::from([("creating", 0_i64), ("ready", 0), ("deleting", 0)]);
        for resource in state.resources() {
            let word = match resource.lifecycle() {
                v1::ResourceLifecycle::Creating => "creating",
                v1::ResourceLifecycle::Ready => "ready",
                v1::ResourceLifecycle::Deleting => "deleting",
                v1::ResourceLifecycle::Unspecified => continue,
            };
            *counts.entry(word).or_default() += 1;
        }
        for (word, count) in counts {
            by_lifecycle.get_or_create(&vec![("lifecycle", word.to_owned())]).set(count);
        }
        let metric = encoder.encode_descriptor(
            "resources",
            "Resources by lifecycle",
            None,
            by_lifecycle.metric_type(),
        )?;
        by_lifecycle.encode(metric)
    }
}

fn count(all: impl Iterator) -> u64 {
    u64::try_from(all.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_quorum_with_patience() {
        let status = |has_quorum, running| Status {
            member: v1::Member::default(),
            cluster_id: String::new(),
            cluster_name: String::new(),
            lineage: 1,
            term: 1,
            leader: None,
            last_log: 0,
            committed: 0,
            applied: 0,
            snapshot: 0,
            purged: 0,
            has_quorum,
            running,
            changing_voters: false,
            members: vec![],
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
        let patience = Duration::from_secs(2);
        assert_eq!(readiness(&status(true, true), long, patience), Readiness::Ready);
        assert_eq!(readiness(&status(false, true), short, patience), Readiness::Ready, "an election");
        assert!(matches!(readiness(&status(false, true), long, patience), Readiness::NotReady(_)));
        assert!(matches!(readiness(&status(true, false), short, patience), Readiness::NotReady(_)));
    }
}
