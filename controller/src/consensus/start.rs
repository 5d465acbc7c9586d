//! Starts this member: finds or makes its store, verifies it, and runs openraft on it.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hawser_process::beside::beside;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    StartError,
    engine::Engines,
    handle::{Consensus, Inner},
    join,
    leadership::{self, Heard, Leadership, Role},
    log_store::LogStore,
    machine::Machine,
    membership,
    network::Network,
    parties::Myself,
    snapshot::Snapshots,
    store_order::{self, Place, Store},
    transport::Transport,
    types::{Node, Seeded},
    witness::Witness,
};
use crate::view::{CHANGES_KEPT, View};

const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(10);

/// How soon a silent leader is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Shortest election time-out. A follower stands when it has heard nothing for the longest one and a
    /// random one.
    pub election_min: Duration,
    /// Longest election time-out; also the leader's lease.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
        }
    }
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries between two snapshots.
    pub snapshot_interval: u64,
    /// Entries that stay in the log although a snapshot contains them, for members that are a little behind.
    pub entries_kept: u64,
    /// A member that is further behind is sent a snapshot. Above the interval, or it would be sent one after
    /// another.
    pub lag_limit: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { snapshot_interval: 20_000, entries_kept: 5_000, lag_limit: 30_000 }
    }
}

/// What a member needs to start.
pub struct Options {
    /// Where the store lies, and the order to make one.
    pub data_directory: PathBuf,
    /// The cluster that this controller's certificate is for.
    pub cluster_id: String,
    /// This controller's name, as in its certificate.
    pub name: String,
    /// How soon a silent leader is replaced.
    pub timing: Timing,
    /// How much of the log is kept.
    pub retention: Retention,
    /// How members reach and recognise each other.
    pub transport: Arc<dyn Transport>,
    /// What keeps the log.
    pub engines: Arc<dyn Engines>,
    /// Seed of what consensus draws by chance: how long it waits before it stands for election.
    pub seed: u64,
    /// A random number other than 0: what a store is known by, if one has to be made.
    pub fresh_incarnation: u64,
}

impl Consensus {
    /// Starts this member. It leads, follows or asks to join by itself from then on.
    ///
    /// The caller has to serve [`Consensus::raft_service`] at the member's address.
    ///
    /// # Errors
    /// See [`StartError`]. A store that is damaged, lost or another's is never replaced.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let view = View::new(CHANGES_KEPT);
        let Options {
            data_directory,
            cluster_id,
            name,
            timing,
            retention,
            transport,
            engines,
            seed,
            fresh_incarnation,
        } = options;
        let place = Place { data_directory: data_directory.clone(), cluster_id, name, engines };
        let of_view = view.clone();
        let opened = beside(move || {
            // sled panics at some kinds of damage.
            panic::catch_unwind(AssertUnwindSafe(|| open(&place, fresh_incarnation, of_view)))
        });
        let Opened { store, log, machine, snapshots } = opened.await.map_err(|_| StartError::Damaged {
            path: data_directory,
            reason: "reading it ended in a panic; an earlier message says where".to_owned(),
        })??;

        let myself = Arc::new(Myself { identity: store.identity });
        let network = Network { myself: Arc::clone(&myself), transport: Arc::clone(&transport) };
        let config = config(&myself.identity.cluster_id, timing, retention)?;
        let raft_id = myself.identity.raft_id;
        let raft = Raft::new(raft_id, Arc::new(config), network, log.clone(), machine);
        let raft = Seeded::scope(seed, raft).await.map_err(|error| StartError::Raft(error.to_string()))?;
        if myself.identity.began_the_cluster
            && !raft.is_initialized().await.map_err(|error| StartError::Raft(error.to_string()))?
        {
            let first = std::collections::BTreeMap::from([(raft_id, Node::from(myself.member()))]);
            raft.initialize(first).await.map_err(|error| StartError::Raft(error.to_string()))?;
        }

        let heard = Arc::new(Heard::default());
        let (publisher, leadership) =
            watch::channel(Leadership { term: 0, role: Role::Follower { leader: None } });
        let consensus = Self {
            inner: Arc::new(Inner {
                raft: raft.clone(),
                log,
                view,
                snapshots,
                myself,
                transport,
                timing,
                heard: Arc::clone(&heard),
                leadership,
                membership_changed: Notify::new(),
                given_up: watch::Sender::default(),
                tasks: TaskTracker::new(),
                ending: CancellationToken::new(),
            }),
        };
        let inner = &consensus.inner;
        inner.spawn(leadership::publish(raft, inner.view.clone(), heard, timing, publisher));
        inner.spawn(membership::lead_changes(consensus.clone()));
        if inner.myself.identity.began_the_cluster {
            inner.spawn(membership::begin_cluster(consensus.clone()));
        }
        inner.spawn(join::ask_while_unheard(consensus.clone()));
        Ok(consensus)
    }
}

struct Opened {
    store: Store,
    log: LogStore,
    machine: Machine,
    snapshots: Snapshots,
}

/// Opens and verifies the store, or makes it if that was ordered.
fn open(place: &Place, fresh_incarnation: u64, view: View) -> Result<Opened, StartError> {
    let store = store_order::find_or_make(place, fresh_incarnation)?;
    let at = |source: io::Error, path: PathBuf| match source.kind() {
        io::ErrorKind::InvalidData => StartError::Damaged { path, reason: source.to_string() },
        _ => StartError::Io { action: "open the store in", path, source },
    };
    let identity = &store.identity;
    let read = || -> io::Result<(LogStore, Machine, Snapshots)> {
        let snapshots = Snapshots::open(&store.snapshots_directory, &identity.cluster_id, identity.lineage)?;
        let newest = snapshots.newest()?;
        let snapshot_end = newest.as_ref().map(|snapshot| snapshot.meta()).transpose()?;
        let machine = Machine::restore(view, snapshots.clone(), newest)?;
        let engine = Arc::clone(&store.engine);
        let witness = Witness::open(&store.witness_path)?;
        let log = LogStore::paced(
            engine,
            place.engines.pace(),
            witness,
            snapshot_end.and_then(|meta| meta.last_log_id),
        )?;
        Ok((log, machine, snapshots))
    };
    let (log, machine, snapshots) = read().map_err(|error| at(error, store.directory.clone()))?;
    Ok(Opened { store, log, machine, snapshots })
}

fn config(cluster_id: &str, timing: Timing, retention: Retention) -> Result<Config, StartError> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: milliseconds(timing.heartbeat),
        election_timeout_min: milliseconds(timing.election_min),
        election_timeout_max: milliseconds(timing.election_max),
        enable_pre_vote: Some(true),
        // A leader's entry is committed once a majority of the others has it on disk, be it on its own or not. Were one
        // that is killed before that to lead on in its term, it could give that entry's place to another.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: milliseconds(SNAPSHOT_DEADLINE),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(retention.snapshot_interval),
        max_in_snapshot_log_to_keep: retention.entries_kept,
        replication_lag_threshold: retention.lag_limit,
        // A member that comes back is noticed within half a second.
        backoff: "100ms 200ms 400ms ..500ms".to_owned(),
        ..Config::default()
    }
    .validate()
    .map_err(|error| {
        StartError::Raft(format!(
            "the times of [raft] do not fit together: heartbeat_ms must be below election_min_ms, and that \
             below election_max_ms ({error})"
        ))
    })
}
