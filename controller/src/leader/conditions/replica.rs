//! Of resources and their replicas: there, connected, in sync, or why not.
//!
//! It must never call a copy behind that Raft does not call so, nor in order because nothing was heard of it.

use std::time::Duration;

use hawser_proto::{sizes, v1};
use hawser_state::State;

use super::{
    condition,
    node::{of_document, unreachable, unreported},
};
use crate::leader::{
    loops::{
        evidence::{connected, disk, is_diskful, is_replicated, outdated},
        release::{self, has_usable_copy_beside, staying},
    },
    observed::{Observed, Sight, differing::is_worked_on},
};

/// A resync that a new connection leads to has begun by then.
const RESYNC_BEGINS: Duration = Duration::from_secs(5);

/// Of a resource and all its replicas.
#[must_use]
pub fn of_resource(
    state: &State,
    observed: Option<&Observed>,
    resource: &v1::Resource,
) -> Vec<v1::Condition> {
    if let Some(held) = state.contested_by(resource) {
        return vec![contested(resource, held)];
    }
    resource.replicas.iter().flat_map(|replica| of_replica(state, observed, resource, replica)).collect()
}

fn contested(resource: &v1::Resource, held: &v1::HeldReplica) -> v1::Condition {
    condition(
        "Contested",
        &held.node,
        format!(
            "node {} holds a replica of {} that was made after the backup which the cluster was restored from, and may have \
             what the others lack: nothing of the resource is touched before that replica has been removed by hand; see \
             `hawser cluster unknown`",
            held.node, resource.name
        ),
    )
}

/// Of a replica of which its node had nothing when the cluster was restored.
fn missing(resource: &v1::Resource, replica: &v1::Replica) -> v1::Condition {
    let (name, node) = (&resource.name, &replica.node);
    condition(
        "Missing",
        node,
        format!(
            "node {node} held nothing of {name} when the cluster was restored: the replica was removed since the backup, or \
             never made there, and is not made empty; `hawser resource delete {name}` or `hawser replica delete {name} {node}` ends it"
        ),
    )
}

/// Of one replica.
#[must_use]
pub fn of_replica(
    state: &State,
    observed: Option<&Observed>,
    resource: &v1::Resource,
    replica: &v1::Replica,
) -> Vec<v1::Condition> {
    let mut found = Vec::new();
    if replica.is_missing() {
        use v1::ReplicaLifecycle::{Creating, Ready};
        if matches!(replica.lifecycle(), Creating | Ready) {
            return vec![missing(resource, replica)];
        }
    }
    if let Some(leaves) = of_leaving(observed, resource, replica) {
        found.push(leaves);
    } else if let Some(mark) = outdated(resource, &replica.node) {
        found.push(condition(
            "Outdated",
            &replica.node,
            format!(
                "the replica of {} on node {} is behind since revision {}; it counts again once it has synced",
                resource.name, replica.node, mark.number
            ),
        ));
    }
    let Some(observed) = observed else { return found };
    let present = if replica.lifecycle() == v1::ReplicaLifecycle::Removed {
        Vec::new()
    } else {
        Look { state, resource, replica, node: &replica.node }.conditions(observed)
    };
    // What the node says comes first: it explains why the replica is behind.
    found.splice(0..0, present);
    found
}

/// Of a replica that the others have to let go of.
pub(super) fn of_leaving(
    observed: Option<&Observed>,
    resource: &v1::Resource,
    replica: &v1::Replica,
) -> Option<v1::Condition> {
    if replica.lifecycle() != v1::ReplicaLifecycle::Leaving {
        return None;
    }
    let (name, node) = (&resource.name, &replica.node);
    let lets_go = |observed: &Observed, peer: &v1::Replica| {
        release::has_let_go(observed, resource, peer, replica).is_some()
    };
    let waits_for: Vec<&str> = staying(resource, node)
        .filter(|peer| !observed.is_some_and(|observed| lets_go(observed, peer)))
        .map(|peer| peer.node.as_str())
        .collect();
    Some(match observed {
        Some(observed) if waits_for.is_empty() && !has_usable_copy_beside(observed, resource, node) => {
            condition(
                "LastUsableCopy",
                node,
                format!(
                    "the replica of {name} on node {node} is to be removed, but no other one has a disk that can be used: it \
                 keeps its data until one has"
                ),
            )
        }
        _ => condition(
            "Leaving",
            node,
            format!(
                "the replica of {name} on node {node} is removed once {} has let go of it",
                if waits_for.is_empty() {
                    "everybody".to_owned()
                } else {
                    format!("node {}", waits_for.join(" and "))
                }
            ),
        ),
    })
}

/// One replica, looked at.
struct Look<'a> {
    state: &'a State,
    resource: &'a v1::Resource,
    replica: &'a v1::Replica,
    node: &'a str,
}

impl Look<'_> {
    fn conditions(&self, observed: &Observed) -> Vec<v1::Condition> {
        let Some(seen) = observed.node(self.node).filter(|seen| seen.online) else {
            return vec![unreachable(self.node)];
        };
        if !seen.complete {
            return vec![unreported(self.node, seen)];
        }
        let document = self.state.node(self.node).and_then(|node| of_document(self.node, node, seen));
        let mut found: Vec<_> = document.into_iter().collect();
        let removing = self.replica.lifecycle() == v1::ReplicaLifecycle::Removing;
        match observed.replica(self.node, &self.resource.name, self.replica.incarnation()) {
            Sight::Unknown => found.push(self.say(
                "Unknown",
                format!("node {} cannot tell whether it has a replica of {}", self.node, self.resource.name),
            )),
            Sight::Absent if removing => found.push(self.say(
                "Removing",
                format!(
                    "node {} has not yet confirmed that nothing of {} is left",
                    self.node, self.resource.name
                ),
            )),
            Sight::Absent => found.push(self.say(
                "NotCreated",
                format!("the replica of {} on node {} is not there yet", self.resource.name, self.node),
            )),
            Sight::Known(report) => {
                found.extend(self.trouble(report));
                if removing {
                    found.push(self.say(
                        "Removing",
                        format!(
                            "the replica of {} on node {} is being removed",
                            self.resource.name, self.node
                        ),
                    ));
                } else if self.replica.lifecycle() != v1::ReplicaLifecycle::Leaving
                    && is_replicated(self.resource)
                {
                    found.extend(self.replication(report, observed));
                }
            }
        }
        found
    }

    fn say(&self, reason: &str, message: String) -> v1::Condition {
        condition(reason, self.node, message)
    }

    /// What the satellite itself complains about.
    fn trouble(&self, report: &v1::ReplicaObserved) -> Vec<v1::Condition> {
        let mut found = Vec::new();
        let (resource, node) = (&self.resource.name, self.node);
        if let Some(failure) = &report.failure {
            let command =
                if failure.command.is_empty() { String::new() } else { format!(" (`{}`)", failure.command) };
            found.push(self.say(
                "StepFailed",
                format!("{resource} on node {node}: {} failed{command}: {}", failure.step, failure.message),
            ));
        }
        if !report.suspended.is_empty() {
            found.push(self.say(
                "Frozen",
                format!(
                    "all I/O of {resource} on node {node} is frozen ({}); it goes on once the arbiter or the peer answers",
                    report.suspended
                ),
            ));
        }
        if !report.waits_for.is_empty() {
            found.push(self.say("Waiting", format!("{resource} on node {node} waits: {}", report.waits_for)));
        }
        let attachment = self.state.attachment(resource, node);
        let must_let_go = attachment.is_none_or(|attachment| {
            use v1::AttachmentLifecycle::{Detaching, Revoked};
            matches!(attachment.lifecycle(), Detaching | Revoked)
        });
        if must_let_go && !report.openers.is_empty() {
            // What is no process, e.g. a mounted file system, has no id.
            let openers: Vec<_> = report
                .openers
                .iter()
                .map(|opener| match opener.pid {
                    0 => opener.name.clone(),
                    pid => format!("{} (pid {pid})", opener.name),
                })
                .collect();
            found.push(self.say(
                "HeldOpen",
                format!("{resource} on node {node} is held open by {}; end it there", openers.join(", ")),
            ));
        }
        found
    }

    /// Of a volume that differs from a connected peer's.
    fn difference(&self, peer: &str, volume: &v1::PeerVolumeObserved, observed: &Observed) -> v1::Condition {
        let (resource, node, number) = (&self.resource.name, self.node, volume.number);
        let left = sizes::format(volume.out_of_sync_bytes);
        if is_worked_on(&volume.replication) {
            let done = volume.done_permyriad / 100;
            let message = format!(
                "volume {number} of {resource} on node {node} syncs with node {peer}: {done} %, {left} left"
            );
            return self.say("Syncing", message);
        }
        let replica = (resource.as_str(), self.replica.incarnation());
        if observed.differing_for(node, replica, peer, number) < RESYNC_BEGINS {
            let message = format!(
                "volume {number} of {resource} on node {node} differs from node {peer} by {left}; a resync is about to \
                 begin"
            );
            return self.say("Syncing", message);
        }
        let message = format!(
            "ALARM: volume {number} of {resource} on node {node} differs from node {peer} by {left} and no resync runs"
        );
        self.say("OutOfSync", message)
    }

    fn replication(&self, report: &v1::ReplicaObserved, observed: &Observed) -> Vec<v1::Condition> {
        let mut found = Vec::new();
        let (resource, node) = (&self.resource.name, self.node);
        let peers = self.resource.replicas.iter().filter(|peer| peer.node != self.node && !peer.is_going());
        for peer in peers {
            let Some(seen) = connected(report, &peer.node) else {
                let word = report.peers.iter().find(|seen| seen.node == peer.node);
                let word = word.map_or("not configured", |seen| seen.connection.as_str());
                found.push(self.say(
                    "NotConnected",
                    format!("{resource} on node {node} is not connected to node {}: {word}", peer.node),
                ));
                continue;
            };
            let differing = seen.volumes.iter().filter(|volume| volume.out_of_sync_bytes > 0);
            found.extend(differing.map(|volume| self.difference(&peer.node, volume, observed)));
        }
        if is_diskful(self.replica) {
            found.extend(self.resource.volumes.iter().filter_map(|volume| {
                let disk = disk(report, volume.number);
                (disk != v1::DiskState::UpToDate).then(|| {
                    self.say(
                        "DiskNotUpToDate",
                        format!(
                            "volume {} of {resource} on node {node} is {}",
                            volume.number,
                            disk_word(disk)
                        ),
                    )
                })
            }));
        }
        found
    }
}

/// DRBD's own spelling.
#[must_use]
pub fn disk_word(disk: v1::DiskState) -> &'static str {
    use v1::DiskState as D;
    match disk {
        D::Unspecified => "not there yet",
        D::Diskless => "Diskless",
        D::Attaching => "Attaching",
        D::Detaching => "Detaching",
        D::Failed => "Failed",
        D::Negotiating => "Negotiating",
        D::Inconsistent => "Inconsistent",
        D::Outdated => "Outdated",
        D::Unknown => "DUnknown",
        D::Consistent => "Consistent",
        D::UpToDate => "UpToDate",
    }
}
