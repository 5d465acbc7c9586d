//! Replicas.

use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{condition::Condition, word};
use crate::output::{age, table::Row};

/// A replica as a resource shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Replica {
    pub(crate) desired: ReplicaDesired,
    pub(crate) observed: Option<ReplicaObserved>,
    pub(crate) observed_age_ms: Option<u64>,
}

/// A replica in a table across resources.
#[derive(Debug, Serialize)]
pub(crate) struct NamedReplica {
    pub(crate) resource: String,
    #[serde(flatten)]
    pub(crate) replica: Replica,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplicaDesired {
    pub(crate) node: String,
    pub(crate) incarnation: u64,
    pub(crate) kind: String,
    pub(crate) lifecycle: String,
    pub(crate) pool: Option<String>,
    pub(crate) node_id: u32,
    pub(crate) port: u32,
    pub(crate) backing_volumes: Vec<BackingVolume>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BackingVolume {
    pub(crate) volume: u32,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplicaObserved {
    pub(crate) presence: String,
    pub(crate) revision: u64,
    pub(crate) role: String,
    pub(crate) volumes: Vec<VolumeObserved>,
    pub(crate) peers: Vec<PeerObserved>,
    /// Why I/O is frozen; null: it flows.
    pub(crate) suspended: Option<String>,
    pub(crate) gate_open: bool,
    pub(crate) failure: Option<StepFailure>,
    pub(crate) openers: Vec<Opener>,
    pub(crate) waits_for: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct VolumeObserved {
    pub(crate) number: u32,
    pub(crate) disk: String,
    pub(crate) size_bytes: u64,
    pub(crate) device_path: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PeerObserved {
    pub(crate) node: String,
    /// DRBD's word.
    pub(crate) connection: String,
    pub(crate) role: String,
    pub(crate) volumes: Vec<PeerVolumeObserved>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PeerVolumeObserved {
    pub(crate) number: u32,
    pub(crate) disk: String,
    /// DRBD's word.
    pub(crate) replication: String,
    pub(crate) out_of_sync_bytes: u64,
    /// Of a resync under way, in hundredths of a percent.
    pub(crate) done_permyriad: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct StepFailure {
    pub(crate) step: String,
    pub(crate) command: String,
    pub(crate) message: String,
    pub(crate) attempts: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Opener {
    /// None of what is no process, e.g. a mounted file system.
    pub(crate) pid: Option<i32>,
    pub(crate) name: String,
}

impl From<&v1::ReplicaView> for Replica {
    fn from(view: &v1::ReplicaView) -> Self {
        Self {
            desired: ReplicaDesired::from(&view.desired.clone().unwrap_or_default()),
            observed: view.observed.as_ref().map(ReplicaObserved::from),
            observed_age_ms: view.observed.as_ref().map(|_| view.observed_age_ms),
        }
    }
}

impl From<&v1::NamedReplicaView> for NamedReplica {
    fn from(view: &v1::NamedReplicaView) -> Self {
        Self {
            resource: view.resource.clone(),
            replica: Replica::from(&view.replica.clone().unwrap_or_default()),
            conditions: Condition::all(&view.conditions),
        }
    }
}

impl From<&v1::Replica> for ReplicaDesired {
    fn from(replica: &v1::Replica) -> Self {
        let backing = |volume: &v1::BackingVolume| BackingVolume {
            volume: volume.volume,
            name: volume.name.clone(),
            size_bytes: volume.size_bytes,
        };
        Self {
            node: replica.node.clone(),
            incarnation: replica.incarnation,
            kind: word::replica_kind(replica.kind),
            lifecycle: word::replica_lifecycle(replica.lifecycle),
            pool: word::text(&replica.pool),
            node_id: replica.node_id,
            port: replica.port,
            backing_volumes: replica.backing_volumes.iter().map(backing).collect(),
        }
    }
}

impl From<&v1::ReplicaObserved> for ReplicaObserved {
    fn from(observed: &v1::ReplicaObserved) -> Self {
        let volume = |volume: &v1::VolumeObserved| VolumeObserved {
            number: volume.number,
            disk: word::disk_state(volume.disk),
            size_bytes: volume.size_bytes,
            device_path: word::text(&volume.device_path),
        };
        let failure = |failure: &v1::StepFailure| StepFailure {
            step: failure.step.clone(),
            command: failure.command.clone(),
            message: failure.message.clone(),
            attempts: failure.attempts,
        };
        let opener = |opener: &v1::Opener| Opener {
            pid: (opener.pid != 0).then_some(opener.pid),
            name: opener.name.clone(),
        };
        Self {
            presence: word::presence(observed.presence),
            revision: observed.revision,
            role: word::drbd_role(observed.role),
            volumes: observed.volumes.iter().map(volume).collect(),
            peers: observed.peers.iter().map(PeerObserved::from).collect(),
            suspended: word::text(&observed.suspended),
            gate_open: observed.gate_open,
            failure: observed.failure.as_ref().map(failure),
            openers: observed.openers.iter().map(opener).collect(),
            waits_for: word::text(&observed.waits_for),
        }
    }
}

impl From<&v1::PeerObserved> for PeerObserved {
    fn from(peer: &v1::PeerObserved) -> Self {
        let volume = |volume: &v1::PeerVolumeObserved| PeerVolumeObserved {
            number: volume.number,
            disk: word::disk_state(volume.disk),
            replication: volume.replication.clone(),
            out_of_sync_bytes: volume.out_of_sync_bytes,
            done_permyriad: volume.done_permyriad,
        };
        Self {
            node: peer.node.clone(),
            connection: peer.connection.clone(),
            role: word::drbd_role(peer.role),
            volumes: peer.volumes.iter().map(volume).collect(),
        }
    }
}

impl ReplicaObserved {
    /// The disk states, one per volume; one word where they are equal.
    fn disks(&self) -> String {
        let mut words: Vec<String> =
            self.volumes.iter().map(|volume| word::in_drbd_spelling(&volume.disk)).collect();
        words.dedup();
        words.join(",")
    }

    /// Whether each volume is there and UpToDate.
    pub(crate) fn is_up_to_date(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.iter().all(|volume| volume.disk == "up_to_date")
    }

    /// Whom it is connected to, or DRBD's word why not, with a resync's progress.
    fn connections(&self) -> String {
        let shown = |peer: &PeerObserved| {
            let resync = peer
                .volumes
                .iter()
                .filter(|volume| volume.done_permyriad > 0)
                .map(|volume| format!(" {} {}%", volume.replication, volume.done_permyriad / 100));
            format!("{} {}{}", peer.node, peer.connection, resync.collect::<String>())
        };
        self.peers.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn io(&self) -> String {
        match (&self.suspended, self.gate_open) {
            (Some(reason), _) => format!("frozen ({reason})"),
            (None, true) => "open".to_owned(),
            (None, false) => String::new(),
        }
    }
}

impl Replica {
    /// Headers of what a replica shows of itself.
    pub(crate) const COLUMNS: &'static [&'static str] =
        &["NODE", "STATE", "ROLE", "DISK", "PEERS", "IO", "SEEN", "KIND", "POOL"];

    /// Cells below these headers.
    pub(crate) fn cells(&self) -> Vec<String> {
        let desired = &self.desired;
        let observed = self.observed.as_ref().filter(|observed| observed.presence == "present");
        let seen = match (&self.observed, self.observed_age_ms) {
            (Some(observed), Some(milliseconds)) if observed.presence == "present" => {
                format!("{} ago", age::milliseconds(milliseconds))
            }
            (Some(observed), Some(milliseconds)) => {
                format!("{} {} ago", observed.presence, age::milliseconds(milliseconds))
            }
            _ => "unknown".to_owned(),
        };
        let role = |it: &ReplicaObserved| word::in_drbd_spelling(&it.role);
        vec![
            desired.node.clone(),
            desired.lifecycle.clone(),
            observed.map(role).unwrap_or_default(),
            observed.map(ReplicaObserved::disks).unwrap_or_default(),
            observed.map(ReplicaObserved::connections).unwrap_or_default(),
            observed.map(ReplicaObserved::io).unwrap_or_default(),
            seen,
            desired.kind.clone(),
            desired.pool.clone().unwrap_or_default(),
        ]
    }

    /// What a person should know about it beyond the table.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let Some(observed) = &self.observed else { return Vec::new() };
        let node = &self.desired.node;
        let mut remarks = Vec::new();
        if let Some(failure) = &observed.failure {
            let StepFailure { step, command, message, attempts } = failure;
            remarks.push(format!("{node}: {step} failed {attempts} times, last: {message} (`{command}`)"));
        }
        if let Some(waits_for) = &observed.waits_for {
            remarks.push(format!("{node}: waits for {waits_for}"));
        }
        if !observed.openers.is_empty() {
            let openers: Vec<String> = observed
                .openers
                .iter()
                .map(|opener| match opener.pid {
                    None => opener.name.clone(),
                    Some(pid) => format!("{} (pid {pid})", opener.name),
                })
                .collect();
            remarks.push(format!("{node}: opened by {}", openers.join(", ")));
        }
        for volume in observed.peers.iter().flat_map(|peer| {
            peer.volumes
                .iter()
                .filter(|volume| volume.out_of_sync_bytes > 0)
                .map(move |volume| (peer, volume))
        }) {
            let (peer, volume) = volume;
            remarks.push(format!(
                "{node}: volume {} is out of sync with {} by {}",
                volume.number,
                peer.node,
                hawser_proto::sizes::format(volume.out_of_sync_bytes)
            ));
        }
        remarks
    }
}

impl Row for NamedReplica {
    const COLUMNS: &'static [&'static str] =
        &["RESOURCE", "NODE", "STATE", "ROLE", "DISK", "PEERS", "IO", "SEEN", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let mut cells = vec![self.resource.clone()];
        // Kind and pool stand in `resource show`; nine columns fill a terminal.
        cells.extend(self.replica.cells().into_iter().take(Self::COLUMNS.len() - 2));
        cells.push(Condition::reasons(&self.conditions));
        cells
    }

    fn amount(&self, column: &str) -> Option<u64> {
        self.replica.observed_age_ms.filter(|_| column == "SEEN")
    }
}
