//! A restored cluster: the state that a backup becomes, and what nodes hold that this state does not know.
//!
//! Until every node has reported or was declared lost, the state is only what was once true. It must never be taken for
//! more: nothing is removed, and no number is handed out, before that; and what it does not know is never touched.

use std::{collections::BTreeSet, sync::Arc};

use hawser_proto::v1::{
    HeldReplica, Member, Node, NumberRange, Replica, ReplicaLifecycle, Resource, RestoreRecord, Restored,
    snapshot_record::Record,
};

use crate::{
    FEATURE_LEVEL,
    state::{InvalidRecords, State},
};

/// Log indices between the beginnings of two lineages. More entries than a cluster commits in ten years, at a thousand
/// a second: no index of a lineage was ever used in an earlier one.
const LINEAGE_DISTANCE: u64 = 1 << 40;

/// So many nodes are named in a refusal.
const MOST_NAMED: usize = 5;

/// The most lineages that one restore may skip.
const MOST_SKIPPED: u64 = 1 << 16;

/// What a restore makes of a backup.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// The lineage that begins. Above that of the backup.
    pub lineage: u64,
    /// Random number of this restore; not 0.
    pub restore_id: u64,
    /// Proof for the satellites.
    pub record: RestoreRecord,
    /// Name of the only member.
    pub member_name: String,
    /// host:port of the only member.
    pub member_address: String,
}

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum NotRestorable {
    /// The lineage would not rise, or by too much.
    #[error(
        "the restored cluster cannot have lineage {asked}: the backup has {backup}, and one from {next} to {last} can follow \
         it",
        next = .backup.saturating_add(1), last = .backup.saturating_add(MOST_SKIPPED)
    )]
    Lineage {
        /// What was asked for.
        asked: u64,
        /// That of the backup.
        backup: u64,
    },
    /// Its log has come too far.
    #[error("the log of the backup has come to entry {0}, after which no further lineage has room")]
    NoRoom(u64),
    /// A newer release wrote it.
    #[error(
        "the backup has feature level {backup}, and this release knows levels up to {known}: install a newer release",
        known = FEATURE_LEVEL
    )]
    Newer {
        /// Its feature level.
        backup: u32,
    },
    /// It is that of a cluster that had not begun.
    #[error("the backup holds no cluster")]
    Empty,
    /// Its records contradict each other.
    #[error(transparent)]
    Invalid(#[from] InvalidRecords),
}

impl State {
    /// The state as the only member of a new lineage begins with it. `revision` is that of the backup.
    ///
    /// # Errors
    /// Why it cannot be restored.
    pub fn restore(&self, revision: u64, restoration: Restoration) -> Result<Self, NotRestorable> {
        let Restoration { lineage, restore_id, record, member_name, member_address } = restoration;
        let cluster = self.cluster().clone();
        if !self.is_initialized() {
            return Err(NotRestorable::Empty);
        }
        if cluster.feature_level > FEATURE_LEVEL {
            return Err(NotRestorable::Newer { backup: cluster.feature_level });
        }
        let skipped = lineage.saturating_sub(cluster.lineage);
        if !(1..=MOST_SKIPPED).contains(&skipped) {
            return Err(NotRestorable::Lineage { asked: lineage, backup: cluster.lineage });
        }
        let revision = revision.max(cluster.revision);
        // Two restores of one backup begin at different places, or else have the same lineage, of which a satellite
        // takes one.
        let base = skipped.checked_mul(LINEAGE_DISTANCE).and_then(|distance| distance.checked_add(revision));
        let base = base.filter(|base| *base < u64::MAX / 2).ok_or(NotRestorable::NoRoom(revision))?;

        let settling = self.nodes().any(|node| !node.is_lost());
        let restored = Restored {
            record: Some(record),
            restore_id,
            from_lineage: cluster.lineage,
            from_revision: revision,
            base,
            settling,
        };
        let member = Member {
            raft_id: base,
            name: member_name,
            address: member_address,
            store_incarnation: restore_id,
        };
        let records = self.records().filter_map(|record| record.record).filter_map(|record| match record {
            Record::Cluster(cluster) => {
                let mut cluster = cluster;
                cluster.lineage = lineage;
                cluster.revision = base;
                cluster.restored = Some(restored.clone());
                Some(Record::Cluster(cluster))
            }
            // Nodes report anew all that they hold.
            Record::Member(_) | Record::Held(_) => None,
            Record::Node(node) => Some(Record::Node(Node { document_revision: base, ..node })),
            // Whoever asked for a take-over asked another cluster.
            Record::Resource(mut resource) => {
                if let Some(arbitration) = &mut resource.arbitration {
                    arbitration.claim = None;
                }
                Some(Record::Resource(resource))
            }
            other => Some(other),
        });
        let records = records.map(|record| hawser_proto::v1::SnapshotRecord { record: Some(record) });
        let mut state = Self::from_records(records)?;
        state.members.insert(member.raft_id, Arc::new(member));
        Ok(state)
    }

    /// How this lineage began; `None` in a cluster that never was restored.
    pub fn restored(&self) -> Option<&Restored> {
        self.cluster().restored.as_ref()
    }

    /// Whether some node has neither reported what it holds since the restore nor was declared lost.
    pub fn is_settling(&self) -> bool {
        self.restored().is_some_and(|restored| restored.settling)
    }

    /// Whether a node has reported all that it holds since the cluster was restored.
    pub fn has_reported(&self, node: &Node) -> bool {
        self.restored().is_none() || node.held_lineage == self.cluster().lineage
    }

    /// The nodes that have to report before anything is removed or handed out.
    pub fn waits_for(&self) -> impl Iterator<Item = &Node> {
        let settling = self.is_settling();
        self.nodes().filter(move |node| settling && !node.is_lost() && !self.has_reported(node))
    }

    /// Why nothing is removed or handed out yet, in words.
    pub fn settling_words(&self) -> String {
        let waits_for: Vec<&str> = self.waits_for().map(|node| node.name.as_str()).collect();
        let more = waits_for.len().saturating_sub(MOST_NAMED);
        let named = waits_for.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "the cluster was restored from a backup, and nothing is removed or handed out before every node has said what it \
             holds: it waits for {named}{and_more}. Bring them up, or declare one that never comes back lost with `hawser node \
             lost`"
        )
    }

    /// What nodes hold and this state does not know, by resource, node and incarnation.
    pub fn unknown(&self) -> impl Iterator<Item = &HeldReplica> {
        self.held.values().map(AsRef::as_ref).filter(|held| !self.knows(held))
    }

    /// What nodes hold that this state does not know, of resources of a name.
    pub fn unknown_of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a HeldReplica> {
        self.held_of(resource).filter(|held| !self.knows(held))
    }

    /// All that nodes said they hold of resources of a name.
    pub(crate) fn held_of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a HeldReplica> {
        self.held
            .range((resource.to_owned(), String::new(), 0)..)
            .take_while(move |((of, ..), _)| of == resource)
            .map(|(_, held)| held.as_ref())
    }

    /// All that a node said it holds.
    pub fn held_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a HeldReplica> {
        self.held.values().map(AsRef::as_ref).filter(move |held| held.node == node)
    }

    /// Whether the resource and its replica are this state's own.
    pub(crate) fn knows(&self, held: &HeldReplica) -> bool {
        let resource = self.resource(&held.resource);
        resource.is_some_and(|resource| {
            resource.incarnation == held.resource_incarnation
                && resource.replicas.iter().any(|replica| {
                    replica.node == held.node && replica.incarnation == held.replica_incarnation
                })
        })
    }

    /// A replica of this very resource that a node holds and this state does not know. As long as there is one, nothing
    /// of the resource is touched: that replica may have what the others lack.
    pub fn contested_by(&self, resource: &Resource) -> Option<&HeldReplica> {
        if self.held.is_empty() {
            return None;
        }
        // The name lives as long as the resource does.
        self.held
            .range((resource.name.clone(), String::new(), 0)..)
            .take_while(|((of, ..), _)| *of == resource.name)
            .map(|(_, held)| held.as_ref())
            .find(|held| {
                held.resource_incarnation == resource.incarnation && !held.removing && !self.knows(held)
            })
    }

    pub(crate) fn is_contested(&self, resource: &Resource) -> bool {
        self.contested_by(resource).is_some()
    }

    /// Minors of what is unknown, on any node.
    pub(crate) fn unknown_minors(&self) -> Vec<NumberRange> {
        ranges(self.unknown().flat_map(|held| &held.volumes).map(|volume| volume.minor))
    }

    /// Ports of what is unknown on a node.
    pub(crate) fn unknown_ports(&self, node: &str) -> Vec<NumberRange> {
        ranges(self.unknown().filter(|held| held.node == node).map(|held| held.port))
    }
}

/// Numbers in as few ranges as they need; 0 is none.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<NumberRange> {
    let numbers: BTreeSet<u32> = numbers.filter(|number| *number != 0).collect();
    let mut ranges: Vec<NumberRange> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(number) => range.last = number,
            _ => ranges.push(NumberRange { first: number, last: number }),
        }
    }
    ranges
}

/// Whether a replica should be on its node, as far as the state says.
pub(crate) fn is_wanted(replica: &Replica) -> bool {
    matches!(replica.lifecycle(), ReplicaLifecycle::Creating | ReplicaLifecycle::Ready)
}
