//! What the satellite has learnt and done by itself and must not forget, in its stored form.
//!
//! Every change of the form is additive: a field number keeps its meaning for ever.

use std::collections::BTreeMap;

use hawser_plan::{
    Note,
    situation::{Remembered, Reunion},
};
use hawser_planted::{Defect, is_planted};
use hawser_proto::{
    ids::{Incarnation, Lineage},
    v1::DesiredDocument,
};
use prost::Message;

use super::earlier;

/// Names one incarnation of a replica: resource and incarnation.
pub type ReplicaKey = (String, Incarnation);

/// How far a one-shot order came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderProgress {
    /// About to run, or running.
    Started,
    /// Ran, and said so.
    Done,
    /// Ran, and failed.
    Failed,
    /// Found started when the ledger was opened: whether it ran is not known. Never run again by itself.
    Unknown,
}

/// Everything remembered, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    replicas: BTreeMap<ReplicaKey, ReplicaFacts>,
    orders: BTreeMap<u64, OrderProgress>,
    /// The restore that was proven last.
    restore: Restore,
    /// Encoded documents of earlier lineages, without what a later one names.
    earlier: Vec<Vec<u8>>,
}

/// A restore of the cluster that an administrator has signed; both numbers 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restore {
    /// The lineage that it began.
    pub lineage: Lineage,
    /// Tells it from another restore to the same lineage.
    pub id: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ReplicaFacts {
    created: bool,
    /// Boot id under which it was made; empty: not known.
    made_in_boot: String,
    behind: bool,
    /// Boot id under which the disk was seen UpToDate; empty: never.
    current_in_boot: String,
    /// What it was let out to. A watch ends with the program that watched: read back, it is unwatched.
    reunion: Reunion,
}

impl Facts {
    /// What is remembered of one replica, in the boot with id `boot`.
    pub(super) fn remembered(&self, key: &ReplicaKey, boot: &str) -> Remembered {
        self.replicas.get(key).map_or_else(Remembered::default, |facts| Remembered {
            created: facts.created,
            made_in_boot: is_this(boot, &facts.made_in_boot),
            behind: facts.behind,
            current_in_boot: is_this(boot, &facts.current_in_boot),
            reunion: facts.reunion,
        })
    }

    /// Adds a note on one replica.
    pub(super) fn note(&mut self, key: &ReplicaKey, note: Note, boot: &str) {
        let facts = self.replicas.entry(key.clone()).or_default();
        facts.reunion = match note {
            Note::Created => facts.reunion,
            Note::Reunion(watch) => Reunion::Watched(watch),
            Note::Current | Note::Behind | Note::CaughtUp | Note::MetNobody => Reunion::None,
        };
        match note {
            Note::Created => (facts.created, facts.made_in_boot) = (true, boot.to_owned()),
            Note::Current => facts.current_in_boot = boot.to_owned(),
            Note::Behind => facts.behind = true,
            Note::CaughtUp => facts.behind = false,
            Note::Reunion(_) | Note::MetNobody => {}
        }
    }

    /// Forgets a replica of which nothing is left.
    pub(super) fn forget(&mut self, key: &ReplicaKey) {
        self.replicas.remove(key);
    }

    /// How far order `id` came; `None` if it was never started.
    pub(super) fn order(&self, id: u64) -> Option<OrderProgress> {
        self.orders.get(&id).copied()
    }

    /// Notes how far order `id` came.
    pub(super) fn set_order(&mut self, id: u64, progress: OrderProgress) {
        self.orders.insert(id, progress);
    }

    /// Forgets the orders that `keep` does not want.
    pub(super) fn retain_orders(&mut self, keep: impl Fn(u64) -> bool) {
        self.orders.retain(|id, _| keep(*id));
    }

    /// The restore that was proven last.
    pub(super) fn restore(&self) -> Restore {
        self.restore
    }

    /// Notes that a restore was proven.
    pub(super) fn set_restore(&mut self, restore: Restore) {
        self.restore = restore;
    }

    /// The documents of earlier lineages, oldest first.
    pub(super) fn earlier(&self) -> impl Iterator<Item = DesiredDocument> {
        // They were decoded when they were read, and encoded here before that.
        self.earlier.iter().filter_map(|bytes| DesiredDocument::decode(bytes.as_slice()).ok())
    }

    /// Keeps a document of an earlier lineage beside the others, all of them without what `now` names.
    pub(super) fn keep_earlier(&mut self, document: DesiredDocument, now: &DesiredDocument) {
        let all: Vec<_> = self.earlier().chain([document]).collect();
        self.earlier = all
            .into_iter()
            .map(|document| earlier::without(document, now))
            .filter(|left| !left.replicas.is_empty() || !left.removed.is_empty())
            .map(|left| left.encode_to_vec())
            .collect();
    }

    /// Whether there is anything that can only have come of a document.
    pub(super) fn came_of_a_document(&self) -> bool {
        !(self.replicas.is_empty() && self.orders.is_empty() && self.earlier.is_empty())
    }

    /// The stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = StoredFacts {
            replicas: self
                .replicas
                .iter()
                .map(|((resource, incarnation), facts)| StoredReplica {
                    resource: resource.clone(),
                    incarnation: incarnation.get(),
                    created: facts.created,
                    behind: facts.behind,
                    current_in_boot: facts.current_in_boot.clone(),
                    let_out: facts.reunion != Reunion::None,
                    made_in_boot: facts.made_in_boot.clone(),
                })
                .collect(),
            orders: self
                .orders
                .iter()
                .map(|(id, progress)| StoredOrder { id: *id, progress: stored(*progress) })
                .collect(),
            restore: (self.restore != Restore::default())
                .then(|| StoredRestore { lineage: self.restore.lineage.get(), id: self.restore.id }),
            earlier: self.earlier.clone(),
        };
        stored.encode_to_vec()
    }

    /// Reads the stored form. An order that is found started becomes unknown.
    ///
    /// # Errors
    /// If the bytes are not such a form.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let stored = StoredFacts::decode(bytes)?;
        for document in &stored.earlier {
            DesiredDocument::decode(document.as_slice())?;
        }
        let restore = stored.restore.unwrap_or_default();
        Ok(Self {
            restore: Restore { lineage: Lineage::new(restore.lineage), id: restore.id },
            earlier: stored.earlier,
            replicas: stored
                .replicas
                .into_iter()
                .map(|replica| {
                    let facts = ReplicaFacts {
                        created: replica.created,
                        made_in_boot: replica.made_in_boot,
                        behind: replica.behind,
                        current_in_boot: replica.current_in_boot,
                        reunion: if replica.let_out { Reunion::Unwatched } else { Reunion::None },
                    };
                    ((replica.resource, Incarnation::new(replica.incarnation)), facts)
                })
                .collect(),
            orders: stored
                .orders
                .into_iter()
                .map(|order| (order.id, found(order.progress)))
                .filter(|(_, found)| !(is_planted(Defect::OrderRunTwice) && *found == OrderProgress::Unknown))
                .collect(),
        })
    }
}

/// Whether what is stored is the id of the boot `boot`. An empty one is none.
fn is_this(boot: &str, stored: &str) -> bool {
    !stored.is_empty() && stored == boot
}

const DONE: u32 = 2;
const FAILED: u32 = 3;

fn stored(progress: OrderProgress) -> u32 {
    match progress {
        OrderProgress::Started => 1,
        OrderProgress::Done => DONE,
        OrderProgress::Failed => FAILED,
        OrderProgress::Unknown => 4,
    }
}

fn found(progress: u32) -> OrderProgress {
    match progress {
        DONE => OrderProgress::Done,
        FAILED => OrderProgress::Failed,
        // Started before a crash, unknown already, or a word of a later release.
        _ => OrderProgress::Unknown,
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredFacts {
    #[prost(message, repeated, tag = "1")]
    replicas: Vec<StoredReplica>,
    #[prost(message, repeated, tag = "2")]
    orders: Vec<StoredOrder>,
    #[prost(message, optional, tag = "3")]
    restore: Option<StoredRestore>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    earlier: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRestore {
    #[prost(uint64, tag = "1")]
    lineage: u64,
    #[prost(fixed64, tag = "2")]
    id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredReplica {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    behind: bool,
    #[prost(string, tag = "5")]
    current_in_boot: String,
    #[prost(bool, tag = "6")]
    let_out: bool,
    #[prost(string, tag = "7")]
    made_in_boot: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOrder {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint32, tag = "2")]
    progress: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check};
    use hawser_plan::observed::Watch;

    use super::*;

    fn key(resource: &str, incarnation: u64) -> ReplicaKey {
        (resource.to_owned(), Incarnation::new(incarnation))
    }

    #[test]
    fn notes_survive_the_stored_form() {
        let mut facts = Facts::default();
        facts.note(&key("a", 7), Note::Created, "boot-1");
        facts.note(&key("a", 7), Note::Current, "boot-1");
        facts.note(&key("b", 9), Note::Behind, "boot-1");
        facts.set_order(3, OrderProgress::Done);
        facts.set_restore(Restore { lineage: Lineage::new(2), id: 77 });

        let read = Facts::decode(&facts.encode()).unwrap();

        assert_eq!(read, facts);
        let created =
            Remembered { created: true, made_in_boot: true, current_in_boot: true, ..Remembered::default() };
        assert_eq!(read.remembered(&key("a", 7), "boot-1"), created);
        assert_eq!(read.remembered(&key("a", 8), "boot-1"), Remembered::default());
        assert!(read.remembered(&key("b", 9), "boot-2").behind);
    }

    #[test]
    fn hostile_facts() {
        let mut facts = Facts::default();
        facts.note(&key("data", 7), Note::Created, "boot-1");
        facts.note(&key("data", 7), Note::Current, "boot-1");
        facts.note(&key("other", 9), Note::Behind, "boot-1");
        for (id, progress) in
            [(3, OrderProgress::Done), (4, OrderProgress::Started), (5, OrderProgress::Failed)]
        {
            facts.set_order(id, progress);
        }
        facts.set_restore(Restore { lineage: Lineage::new(2), id: 77 });
        let removed = hawser_proto::v1::RemovedReplica { resource: "old".into(), ..Default::default() };
        let before = DesiredDocument { lineage: 1, removed: vec![removed], ..Default::default() };
        facts.keep_earlier(before, &DesiredDocument::default());
        check(&bytes(&[&facts.encode()], &["boot-1"]), |bytes| {
            if let Ok(read) = Facts::decode(&bytes) {
                assert_eq!(Facts::decode(&read.encode()).unwrap(), read, "it changes by being stored");
                assert!(read.orders.values().all(|progress| *progress != OrderProgress::Started));
            }
        });
    }

    #[test]
    fn what_was_made_or_current_before_a_reboot_is_not_called_so_after_it() {
        let mut facts = Facts::default();
        facts.note(&key("a", 7), Note::Created, "boot-1");
        facts.note(&key("a", 7), Note::Current, "boot-1");

        let remembered = facts.remembered(&key("a", 7), "boot-2");
        assert_eq!(remembered, Remembered { created: true, ..Remembered::default() });
        assert!(!Facts::default().remembered(&key("a", 7), "").current_in_boot);
    }

    #[test]
    fn a_reunion_outlives_the_program_and_its_watch_does_not() {
        let (mut facts, key) = (Facts::default(), key("a", 7));
        let watch = Watch { number: 3, ..Watch::default() };
        facts.note(&key, Note::Reunion(watch), "boot-2");
        assert_eq!(facts.remembered(&key, "boot-2").reunion, Reunion::Watched(watch));

        let read = Facts::decode(&facts.encode()).unwrap();

        assert_eq!(read.remembered(&key, "boot-2").reunion, Reunion::Unwatched);
        for note in [Note::Current, Note::Behind, Note::CaughtUp, Note::MetNobody] {
            let mut ended = read.clone();
            ended.note(&key, note, "boot-2");
            assert_eq!(ended.remembered(&key, "boot-2").reunion, Reunion::None, "{note:?}");
        }
    }

    #[test]
    fn an_order_found_started_is_unknown_ever_after() {
        let mut facts = Facts::default();
        for (id, progress) in
            [(1, OrderProgress::Started), (2, OrderProgress::Done), (3, OrderProgress::Failed)]
        {
            facts.set_order(id, progress);
        }

        let once = Facts::decode(&facts.encode()).unwrap();
        let twice = Facts::decode(&once.encode()).unwrap();

        for read in [once, twice] {
            assert_eq!(read.order(1), Some(OrderProgress::Unknown));
            assert_eq!(read.order(2), Some(OrderProgress::Done));
            assert_eq!(read.order(3), Some(OrderProgress::Failed));
            assert_eq!(read.order(4), None);
        }
    }

    #[test]
    fn a_synced_replica_is_not_behind_any_more() {
        let mut facts = Facts::default();
        facts.note(&key("a", 7), Note::Behind, "boot-1");
        facts.note(&key("a", 7), Note::CaughtUp, "boot-1");

        assert!(!facts.remembered(&key("a", 7), "boot-1").behind);
    }
}
