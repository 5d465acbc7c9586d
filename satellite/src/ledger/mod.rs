//! The satellite's memory on its own disk: the last document it accepted, and what it has learnt and done.
//!
//! Nothing is obeyed before it is here. An order that is older than one that was seen is refused, for ever:
//! that alone makes a deposed leader harmless. The ledger keeps and hashes the bytes that it received, never
//! its own encoding of them. It must never act on the system.

mod earlier;
mod facts;
mod file;
mod queue;

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering as AtomicOrdering},
    },
};

use hawser_plan::{Note, situation::Remembered};
use hawser_planted::{Defect, is_planted};
use hawser_process::beside::beside;
use hawser_proto::{
    ids::{DocumentVersion, Lineage, Revision},
    v1::{DesiredDocument, HeldReplica},
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

pub use earlier::Unknown;
pub use facts::{OrderProgress, ReplicaKey, Restore};
pub use file::FileError;

use facts::Facts;
use file::SealedFile;
use queue::{Queue, Written};

/// A document that is on this node's disk.
#[derive(Debug)]
pub struct Accepted {
    /// Decoded.
    pub document: DesiredDocument,
    /// Hash of the bytes that were received.
    pub sha256: [u8; 32],
    /// It came from a controller in this run of the satellite and was newer than what was here at its start.
    pub fresh: bool,
}

/// Why a document was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The bytes are no document.
    #[error("the document cannot be decoded: {0}")]
    Undecodable(prost::DecodeError),
    /// Meant for somebody else.
    #[error("the document is for {field} {got:?}, but this is {own:?}")]
    NotForUs {
        /// "cluster" or "node".
        field: &'static str,
        /// What the document says.
        got: String,
        /// Who this is.
        own: String,
    },
    /// Older than what was accepted before.
    #[error("the document has revision {got}, but {have} was accepted before")]
    Older {
        /// Its revision.
        got: Revision,
        /// The accepted one.
        have: Revision,
    },
    /// The same revision with other bytes: a defect of the controllers.
    #[error(
        "revision {revision} was accepted before with other content; two controllers disagree, report this"
    )]
    Differs {
        /// The revision.
        revision: Revision,
    },
    /// From before a restore of the cluster.
    #[error("the document has lineage {got}, but {have} was accepted before")]
    OlderLineage {
        /// Its lineage.
        got: Lineage,
        /// The accepted one.
        have: Lineage,
    },
    /// From after a restore that nobody has proven.
    #[error(
        "the document has lineage {got}, but {have} was accepted before; a higher lineage needs the restore \
         record that the administrator's key signed, and none for it was shown here"
    )]
    NewerLineage {
        /// Its lineage.
        got: Lineage,
        /// The accepted one.
        have: Lineage,
    },
    /// From after another restore to the same lineage.
    #[error(
        "lineage {lineage} was begun by the restore {have:016x} here, and this is another one, {got:016x}: their orders \
         would be taken for each other. If the first one is given up, run `hawser cluster restore` again with a --lineage \
         that is higher than any that was ever used"
    )]
    OtherRestore {
        /// The lineage of both.
        lineage: Lineage,
        /// Which restore it names.
        got: u64,
        /// The accepted one.
        have: u64,
    },
    /// It could not be written down.
    #[error(transparent)]
    Unwritten(#[from] FileError),
}

/// Why the ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be made.
    #[error("cannot make the ledger's directory {}: {source}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is damaged or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It belongs to another node or cluster.
    #[error(
        "the ledger in {} holds a document for {field} {got:?}, but this is {own:?}; use the identity that \
         belongs to it, or an empty data directory", .path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// "cluster" or "node".
        field: &'static str,
        /// Whose it is.
        got: String,
        /// Who this is.
        own: String,
    },
}

/// The ledger. Cheap to share.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    cluster_id: String,
    node: String,
    boot: String,
    document_file: SealedFile,
    facts_file: SealedFile,
    /// Held only for a moment, so that nobody who reads waits for the disk.
    facts: Mutex<Facts>,
    /// Held while the file is written too, so that the files' order is the order of the decisions.
    changing: Mutex<()>,
    /// A write failed since: what the file holds is not known.
    unsure: AtomicBool,
    queue: Queue,
    accepting: Mutex<()>,
    accepted: watch::Sender<Option<Arc<Accepted>>>,
}

impl Ledger {
    /// Opens the ledger in `directory` for `node` of cluster `cluster_id`. `boot` is the id of this boot of
    /// the machine.
    ///
    /// # Errors
    /// If a file is damaged or belongs to somebody else: the satellite must not start then.
    pub fn open(directory: &Path, cluster_id: &str, node: &str, boot: &str) -> Result<Self, OpenError> {
        fs::create_dir_all(directory)
            .map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
        let document_file = SealedFile::new(directory, "document", b"HAWSERD1");
        let facts_file = SealedFile::new(directory, "facts", b"HAWSERF1");
        let damaged =
            |name: &str, problem: String| FileError::Damaged { path: directory.join(name), problem };
        let accepted = match document_file.read()? {
            None => None,
            Some(bytes) => {
                let accepted =
                    accepted(&bytes, false).map_err(|error| damaged("document", error.to_string()))?;
                if let Err((field, got, own)) = for_us(&accepted.document, cluster_id, node) {
                    return Err(OpenError::NotOurs { path: directory.to_owned(), field, got, own });
                }
                Some(Arc::new(accepted))
            }
        };
        let facts = match facts_file.read()? {
            Some(bytes) => Facts::decode(&bytes).map_err(|error| damaged("facts", error.to_string()))?,
            None if accepted.is_some() => {
                let problem = "it is missing, but a document was accepted here".to_owned();
                return Err(damaged("facts", problem).into());
            }
            None => Facts::default(),
        };
        if accepted.is_none() && facts.came_of_a_document() {
            let problem = "it is missing, but there are facts that came of one".to_owned();
            return Err(damaged("document", problem).into());
        }
        Ok(Self {
            shared: Arc::new(Shared {
                cluster_id: cluster_id.to_owned(),
                node: node.to_owned(),
                boot: boot.to_owned(),
                document_file,
                facts_file,
                facts: Mutex::new(facts),
                changing: Mutex::new(()),
                unsure: AtomicBool::new(false),
                queue: Queue::default(),
                accepting: Mutex::new(()),
                accepted: watch::Sender::new(accepted),
            }),
        })
    }

    /// The accepted document, now and whenever it changes.
    pub fn document(&self) -> watch::Receiver<Option<Arc<Accepted>>> {
        self.shared.accepted.subscribe()
    }

    /// Which document is accepted; neither number where none is.
    pub fn version(&self) -> DocumentVersion {
        let accepted = self.shared.accepted.borrow();
        accepted.as_ref().map(|accepted| accepted.document.version()).unwrap_or_default()
    }

    /// Accepts the encoded document `bytes` if it may be obeyed. `Ok` means that it is on the disk.
    ///
    /// # Errors
    /// If it is refused or could not be written; nothing changed then.
    pub async fn accept(&self, bytes: Vec<u8>) -> Result<Arc<Accepted>, Refused> {
        let shared = Arc::clone(&self.shared);
        beside(move || shared.accept(&bytes)).await
    }

    /// The restore that was proven to this node last.
    pub fn restore(&self) -> Restore {
        self.shared.facts().restore()
    }

    /// Notes that an administrator has signed a restore. From then on no document from before it is accepted, and one of
    /// its lineage only if it names it. `Ok` means that it is on the disk.
    ///
    /// # Errors
    /// If it is refused or could not be written; nothing changed then.
    pub async fn accept_restore(&self, restore: Restore) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        beside(move || shared.accept_restore(restore)).await
    }

    /// All that this node holds by documents of lineages before the restore that was proven last.
    pub fn inventory(&self) -> Vec<HeldReplica> {
        let accepted = self.shared.accepted.borrow().clone();
        let facts = self.shared.facts();
        let now = accepted.as_ref().map(|accepted| accepted.document.clone()).unwrap_or_default();
        let mut held: Vec<HeldReplica> =
            facts.earlier().flat_map(|earlier| earlier::held(&earlier::without(earlier, &now))).collect();
        if now.version().lineage < facts.restore().lineage {
            held.extend(earlier::held(&now));
        }
        // Of one that several documents name, the last says most.
        held.sort_by(|one, other| {
            let key = |held: &HeldReplica| (held.resource.clone(), held.replica_incarnation);
            key(one).cmp(&key(other)).then(other.version().cmp(&one.version()))
        });
        held.dedup_by(|later, first| {
            (&later.resource, later.replica_incarnation) == (&first.resource, first.replica_incarnation)
        });
        held
    }

    /// What only documents of earlier lineages name, once one of a later lineage was accepted.
    pub fn unknown(&self) -> Vec<Unknown> {
        let accepted = self.shared.accepted.borrow().clone();
        let facts = self.shared.facts();
        let now = accepted.as_ref().map(|accepted| accepted.document.clone()).unwrap_or_default();
        let earlier = facts.earlier().filter(|earlier| earlier.version().lineage < now.version().lineage);
        earlier.flat_map(|earlier| earlier::unknown(&earlier::without(earlier, &now))).collect()
    }

    /// What is remembered of one replica.
    pub fn remembered(&self, key: &ReplicaKey) -> Remembered {
        self.shared.facts().remembered(key, &self.shared.boot)
    }

    /// Writes a note on one replica down. `Ok` means that it is on the disk.
    ///
    /// # Errors
    /// If it could not be written; it is not remembered then.
    pub async fn note(&self, key: &ReplicaKey, note: Note) -> Result<(), Arc<FileError>> {
        let key = key.clone();
        self.change(move |facts, boot| facts.note(&key, note, boot)).await
    }

    /// Forgets a replica of which nothing is left.
    ///
    /// # Errors
    /// If that could not be written; it is still remembered then, which does no harm.
    pub async fn forget(&self, key: &ReplicaKey) -> Result<(), Arc<FileError>> {
        let key = key.clone();
        self.change(move |facts, _| facts.forget(&key)).await
    }

    /// How far the one-shot order `id` came; `None` if it was never started.
    pub fn order(&self, id: u64) -> Option<OrderProgress> {
        self.shared.facts().order(id)
    }

    /// Writes down how far an order came: [`OrderProgress::Started`] before it runs, its end afterwards.
    ///
    /// # Errors
    /// If it could not be written; an order may then not be started.
    pub async fn note_order(&self, id: u64, progress: OrderProgress) -> Result<(), Arc<FileError>> {
        self.change(move |facts, _| facts.set_order(id, progress)).await
    }

    /// Forgets the orders that the accepted document does not have any more.
    ///
    /// # Errors
    /// If that could not be written; they are still remembered then, which does no harm.
    pub async fn forget_ended_orders(&self) -> Result<(), Arc<FileError>> {
        let accepted = self.shared.accepted.borrow().clone();
        self.change(move |facts, _| {
            facts.retain_orders(|id| {
                accepted
                    .as_ref()
                    .is_none_or(|accepted| accepted.document.orders.iter().any(|order| order.id == id))
            });
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Facts, &str) + Send + 'static) -> Written {
        let (is_first, answered) = self.shared.queue.add(Box::new(change));
        if is_first {
            let shared = Arc::clone(&self.shared);
            // From here on it is written, even if nobody waits for it any more.
            beside(move || shared.write_queued()).await;
        }
        answered.await.unwrap_or_else(|_| Err(Arc::new(self.shared.facts_file.not_written())))
    }
}

impl Shared {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        // The value is replaced as a whole: a panic elsewhere cannot leave half of it.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all changes that wait, in one go.
    fn write_queued(&self) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.facts().clone();
        let mut changed = present.clone();
        let asking = self.queue.apply(&mut changed, &self.boot);
        let is_there = changed == present && !self.unsure.load(AtomicOrdering::Relaxed);
        let written = if is_there { Ok(()) } else { self.replace_facts(changed) };
        asking.tell(&written.map_err(Arc::new));
    }

    /// The file first: what is read from here is on the disk.
    fn replace_facts(&self, changed: Facts) -> Result<(), FileError> {
        self.unsure.store(true, AtomicOrdering::Relaxed);
        self.facts_file.replace(&changed.encode())?;
        self.unsure.store(false, AtomicOrdering::Relaxed);
        *self.facts() = changed;
        Ok(())
    }

    fn accept(&self, bytes: &[u8]) -> Result<Arc<Accepted>, Refused> {
        let _one_at_a_time = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let new = accepted(bytes, true).map_err(Refused::Undecodable)?;
        for_us(&new.document, &self.cluster_id, &self.node)
            .map_err(|(field, got, own)| Refused::NotForUs { field, got, own })?;
        let held = self.accepted.borrow().clone();
        let restore = self.facts().restore();
        proven(held.as_deref(), &new, restore)?;
        match held {
            Some(held) if !newer(&held, &new)? => return Ok(held),
            Some(held) if held.document.lineage < new.document.lineage => {
                self.keep_earlier(&held.document, &new.document)?;
            }
            Some(_) => {}
            None => self.write_first_facts()?,
        }
        self.document_file.replace(bytes)?;
        let new = Arc::new(new);
        self.accepted.send_replace(Some(Arc::clone(&new)));
        Ok(new)
    }

    fn accept_restore(&self, restore: Restore) -> Result<(), Refused> {
        let _one_at_a_time = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.accepted.borrow().clone();
        let document = held.as_ref().map(|held| held.document.version().lineage).unwrap_or_default();
        let proven = self.facts().restore();
        let have = document.max(proven.lineage);
        if restore.lineage < have {
            return Err(Refused::OlderLineage { got: restore.lineage, have });
        }
        let same_lineage = if restore.lineage == proven.lineage {
            Some(proven.id)
        } else {
            held.filter(|_| restore.lineage == document).map(|held| held.document.restore_id)
        };
        match same_lineage {
            Some(have) if have == restore.id => Ok(()),
            Some(have) => Err(Refused::OtherRestore { lineage: restore.lineage, got: restore.id, have }),
            None => {
                let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
                let mut changed = self.facts().clone();
                changed.set_restore(restore);
                self.replace_facts(changed).map_err(Refused::from)
            }
        }
    }

    /// Before a document of a later lineage takes the place of another, what that one named is written down: the later
    /// one may not know of it.
    fn keep_earlier(&self, held: &DesiredDocument, new: &DesiredDocument) -> Result<(), FileError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.facts().clone();
        changed.keep_earlier(held.clone(), new);
        self.replace_facts(changed)
    }

    /// Before there is a document there are facts, though none in them: whichever file a disk loses later is missed.
    fn write_first_facts(&self) -> Result<(), FileError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = self.facts().encode();
        self.facts_file.replace(&facts)
    }
}

/// Refuses a document of a lineage that nobody has proven, or of another restore than the proven one.
fn proven(held: Option<&Accepted>, new: &Accepted, restore: Restore) -> Result<(), Refused> {
    let (got, id) = (new.document.version().lineage, new.document.restore_id);
    let have = held.map(|held| held.document.version().lineage).unwrap_or_default();
    match got.cmp(&restore.lineage) {
        Ordering::Less => Err(Refused::OlderLineage { got, have: restore.lineage.max(have) }),
        Ordering::Equal if id == restore.id => Ok(()),
        Ordering::Equal => Err(Refused::OtherRestore { lineage: got, got: id, have: restore.id }),
        // The first document of a node may be of any lineage that no restore began.
        Ordering::Greater if id == 0 && (held.is_none() || got <= have) => Ok(()),
        Ordering::Greater => Err(Refused::NewerLineage { got, have: restore.lineage.max(have) }),
    }
}

/// Whether `new`, whose lineage is proven, is to replace `held`; false where they are the same.
fn newer(held: &Accepted, new: &Accepted) -> Result<bool, Refused> {
    let (have, got) = (held.document.version(), new.document.version());
    match got.lineage.cmp(&have.lineage) {
        Ordering::Less => return Err(Refused::OlderLineage { got: got.lineage, have: have.lineage }),
        Ordering::Greater => return Ok(true),
        Ordering::Equal => {}
    }
    if got < have {
        if is_planted(Defect::OlderOrderObeyed) {
            return Ok(true);
        }
        return Err(Refused::Older { got: got.revision, have: have.revision });
    }
    if got == have && held.sha256 != new.sha256 {
        return Err(Refused::Differs { revision: got.revision });
    }
    Ok(got > have)
}

fn accepted(bytes: &[u8], fresh: bool) -> Result<Accepted, prost::DecodeError> {
    Ok(Accepted { document: DesiredDocument::decode(bytes)?, sha256: Sha256::digest(bytes).into(), fresh })
}

fn for_us(
    document: &DesiredDocument,
    cluster_id: &str,
    node: &str,
) -> Result<(), (&'static str, String, String)> {
    for (field, got, own) in [("cluster", &document.cluster_id, cluster_id), ("node", &document.node, node)] {
        if got != own {
            return Err((field, got.clone(), own.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
