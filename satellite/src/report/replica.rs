//! What was found of a replica, in the words of the report.
//!
//! Only translating, but for one thing: a disk that this node knows may be behind is not called usable.

use hawser_plan::{
    desired::Desired,
    observed::{
        ConnectionState, DiskState, GateTable, KernelPeer, KernelResource, Looked, ReplicaFound, Role,
        Suspended,
    },
};
use hawser_proto::{ids::Incarnation, v1};

use crate::observe::Observation;

/// The report on one replica. `is_doubtful`: its disk, alone, must not pass for one that can be used.
pub fn observed(
    desired: &Desired,
    observation: &Observation,
    is_doubtful: bool,
    failure: Option<v1::StepFailure>,
    waits_for: Option<&str>,
) -> v1::ReplicaObserved {
    let found = &observation.found;
    let kernel = found.kernel.present();
    v1::ReplicaObserved {
        resource: desired.resource().to_owned(),
        replica_incarnation: desired.incarnation().get(),
        revision: observation.version.revision.get(),
        lineage: observation.version.lineage.get(),
        presence: presence(desired, found).into(),
        role: match &found.kernel {
            Looked::Present(kernel) => role(kernel.role),
            Looked::Unknown(_) => v1::DrbdRole::Unknown,
            Looked::Absent => v1::DrbdRole::Unspecified,
        }
        .into(),
        volumes: desired
            .volumes()
            .iter()
            .map(|volume| {
                let observed = volume_observed(volume, found, kernel);
                if is_doubtful && !is_connected(kernel) { doubted(observed) } else { observed }
            })
            .collect(),
        peers: kernel
            .map(|kernel| kernel.peers.iter().map(|(node, peer)| peer_observed(node, peer)).collect())
            .unwrap_or_default(),
        suspended: kernel.map(|kernel| suspended(kernel.suspended)).unwrap_or_default(),
        gate_open: !desired.volumes().is_empty()
            && desired.volumes().iter().all(|volume| {
                let gate = found.gates.get(&volume.number).and_then(Looked::present);
                gate.is_some_and(|gate| gate.table == GateTable::Linear)
            }),
        failure,
        openers: found
            .openers
            .present()
            .into_iter()
            .flatten()
            .map(|opener| v1::Opener { pid: opener.pid, name: opener.name.clone() })
            .collect(),
        waits_for: waits_for.unwrap_or_default().to_owned(),
        in_kernel: part(Some(&found.kernel)).into(),
        gates: together(desired.volumes().iter().map(|volume| part(found.gates.get(&volume.number)))).into(),
        follows_document: follows_document(desired, found),
    }
}

/// Whether DRBD is as the document says, and connects to nobody else. What is certainly not in the kernel connects to
/// nobody, and comes up as the document says.
fn follows_document(desired: &Desired, found: &ReplicaFound) -> bool {
    let Desired::Replica(replica) = desired else { return false };
    let Some(drbd) = &replica.drbd else { return true };
    match &found.kernel {
        Looked::Absent => true,
        Looked::Unknown(_) => false,
        Looked::Present(kernel) => {
            found.configuration.present() == Some(&drbd.fingerprint()) && !kernel.to_a_stranger
        }
    }
}

/// The report on a replica of which nothing is known yet, and why.
pub fn unknown(resource: &str, incarnation: Incarnation, waits_for: &str) -> v1::ReplicaObserved {
    v1::ReplicaObserved {
        resource: resource.to_owned(),
        replica_incarnation: incarnation.get(),
        presence: v1::Presence::Unknown.into(),
        gates: v1::Presence::Unknown.into(),
        in_kernel: v1::Presence::Unknown.into(),
        waits_for: waits_for.to_owned(),
        ..v1::ReplicaObserved::default()
    }
}

/// Whether anything of a replica is there.
pub(crate) fn presence(desired: &Desired, found: &ReplicaFound) -> v1::Presence {
    let mut parts = Vec::new();
    if desired.drbd_name().is_some() {
        parts.push(part(Some(&found.kernel)));
        parts.push(part(Some(&found.configuration)));
    }
    for volume in desired.volumes() {
        parts.push(part(found.gates.get(&volume.number)));
        if volume.backing.is_some() {
            parts.push(part(found.backing.get(&volume.number)));
        }
    }
    together(parts)
}

/// What was not looked at may be there.
fn part<T>(looked: Option<&Looked<T>>) -> v1::Presence {
    match looked {
        Some(Looked::Present(_)) => v1::Presence::Present,
        Some(Looked::Absent) => v1::Presence::Absent,
        Some(Looked::Unknown(_)) | None => v1::Presence::Unknown,
    }
}

/// Present wins over unknown, unknown over absent, as in the order of their numbers.
fn together(parts: impl IntoIterator<Item = v1::Presence>) -> v1::Presence {
    parts.into_iter().fold(v1::Presence::Absent, |one, other| if other > one { other } else { one })
}

fn volume_observed(
    volume: &hawser_plan::desired::Volume,
    found: &ReplicaFound,
    kernel: Option<&KernelResource>,
) -> v1::VolumeObserved {
    let in_kernel = kernel.and_then(|kernel| kernel.volumes.get(&volume.number));
    let backing = found.backing.get(&volume.number).and_then(Looked::present);
    v1::VolumeObserved {
        number: volume.number,
        disk: in_kernel.map_or(v1::DiskState::Unspecified, |found| disk(found.disk)).into(),
        size_bytes: in_kernel
            .map_or_else(|| backing.map_or(0, |backing| backing.size_bytes), |found| found.size_bytes),
        device_path: if found.gates.get(&volume.number).and_then(Looked::present).is_some() {
            format!("/dev/mapper/{}", volume.gate.name)
        } else {
            String::new()
        },
    }
}

fn is_connected(kernel: Option<&KernelResource>) -> bool {
    kernel
        .is_some_and(|kernel| kernel.peers.values().any(|peer| peer.connection == ConnectionState::Connected))
}

/// The kernel goes by its metadata; this node knows more.
fn doubted(observed: v1::VolumeObserved) -> v1::VolumeObserved {
    match observed.disk() {
        v1::DiskState::Consistent | v1::DiskState::UpToDate => {
            v1::VolumeObserved { disk: v1::DiskState::Outdated.into(), ..observed }
        }
        _ => observed,
    }
}

fn peer_observed(node: &str, peer: &KernelPeer) -> v1::PeerObserved {
    v1::PeerObserved {
        node: node.to_owned(),
        connection: peer.connection_word.clone(),
        role: role(peer.role).into(),
        volumes: peer
            .volumes
            .iter()
            .map(|(number, volume)| v1::PeerVolumeObserved {
                number: *number,
                disk: disk(volume.disk).into(),
                replication: volume.replication.clone(),
                out_of_sync_bytes: volume.out_of_sync_bytes,
                done_permyriad: volume.done_permyriad,
            })
            .collect(),
    }
}

fn role(role: Role) -> v1::DrbdRole {
    match role {
        Role::Unknown => v1::DrbdRole::Unknown,
        Role::Secondary => v1::DrbdRole::Secondary,
        Role::Primary => v1::DrbdRole::Primary,
    }
}

fn disk(disk: DiskState) -> v1::DiskState {
    match disk {
        DiskState::Diskless => v1::DiskState::Diskless,
        DiskState::Attaching => v1::DiskState::Attaching,
        DiskState::Detaching => v1::DiskState::Detaching,
        DiskState::Failed => v1::DiskState::Failed,
        DiskState::Negotiating => v1::DiskState::Negotiating,
        DiskState::Inconsistent => v1::DiskState::Inconsistent,
        DiskState::Outdated => v1::DiskState::Outdated,
        DiskState::Unknown => v1::DiskState::Unknown,
        DiskState::Consistent => v1::DiskState::Consistent,
        DiskState::UpToDate => v1::DiskState::UpToDate,
    }
}

fn suspended(suspended: Suspended) -> String {
    let reasons = [
        (suspended.user, "user"),
        (suspended.fencing, "fencing"),
        (suspended.no_data, "no-data"),
        (suspended.quorum, "quorum"),
    ];
    let named: Vec<_> = reasons.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect();
    named.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_may_be_there() {
        use v1::Presence::{Absent, Present, Unknown};
        let unknown = || Looked::Unknown("it hangs".to_owned());
        for (gates, expected) in [
            (vec![], Absent),
            (vec![Some(Looked::Absent)], Absent),
            (vec![None], Unknown),
            (vec![Some(Looked::Absent), Some(unknown())], Unknown),
            (vec![Some(unknown()), Some(Looked::Present(()))], Present),
            (vec![Some(Looked::Present(())), None, Some(Looked::Absent)], Present),
        ] {
            assert_eq!(together(gates.iter().map(|gate| part(gate.as_ref()))), expected, "{gates:?}");
        }
    }
}
