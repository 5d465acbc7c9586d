//! The lowest layer: backing volumes and the metadata on them.
//!
//! It must never make storage anew for an incarnation that the ledger knows as created: what is missing
//! then is missing data, and only a person may say that it is lost. So is what a restored cluster wants and the node did
//! not have.

use crate::{
    desired::Replica,
    drbd::all_disks,
    observed::{BackingFound, DiskState, Looked, ReplicaFound},
    plan::{Next, Note, Plan},
    situation::Situation,
    step::{BackingVolume, Metadata, Step},
};

/// Plans backing volumes and metadata.
pub(crate) fn plan(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) -> Next {
    let created = situation.remembered.created;
    if runs_on_its_disk(replica, situation.found) {
        // The kernel has it in use: nothing has to be looked for, nor may a slow look hold up what runs.
        if !created {
            plan.note(Note::Created);
        }
        return Next::Above;
    }
    for volume in &replica.volumes {
        let Some(backing) = &volume.backing else { continue };
        match situation.found.backing.get(&volume.number) {
            None => return plan.wait(format!("{} has not been looked for yet", backing.name)),
            Some(Looked::Unknown(why)) => {
                return plan.wait(format!("cannot tell whether {} is there: {why}", backing.name));
            }
            Some(Looked::Absent) if created => {
                return plan.wait(format!(
                    "{} is missing though this replica was made on it; it is not made again, remove the replica",
                    backing.name
                ));
            }
            Some(Looked::Absent) if replica.not_made_anew => {
                return plan.wait(format!(
                    "{} was removed after the backup that the cluster was restored from, or never made, and is not made empty; \
                     remove the replica",
                    backing.name
                ));
            }
            Some(Looked::Absent) => plan.run(Step::EnsureBackingVolume(backing.clone())),
            Some(Looked::Present(found)) => {
                if let Some(problem) = foreign(backing, found) {
                    return plan.wait(problem);
                }
                if created && found.size_bytes < backing.size_bytes {
                    return plan.wait(format!(
                        "{} has {} bytes where {} are wanted",
                        backing.name, found.size_bytes, backing.size_bytes
                    ));
                }
                if !found.active || found.size_bytes < backing.size_bytes {
                    plan.run(Step::EnsureBackingVolume(backing.clone()));
                }
            }
        }
    }
    if created || replica.volumes.iter().all(|volume| volume.backing.is_none()) {
        return Next::Above;
    }
    if replica.not_made_anew {
        return plan.wait(
            "nobody remembers that this replica was made, and after a restore it is not made anew; remove the replica"
                .to_owned(),
        );
    }
    if let Some(drbd) = &replica.drbd {
        for volume in &replica.volumes {
            let Some(backing) = &volume.backing else { continue };
            plan.run(Step::CreateMetadata(Metadata {
                drbd_name: drbd.drbd_name.clone(),
                volume: volume.number,
                minor: volume.minor,
                backing: backing.clone(),
                size_bytes: volume.size_bytes,
                generation: drbd.generation,
                maximum_peers: replica.maximum_peers,
                day0: replica.day0.filter(|_| replica.outdated_number.is_none()),
                equal_peers: replica.peers.iter().any(|peer| peer.diskful && peer.outdated_number.is_none()),
            }));
        }
    }
    plan.note(Note::Created);
    Next::Above
}

/// Whether the kernel has the disks attached: their storage is there and their metadata was made, whatever
/// became of the ledger's note.
pub(crate) fn runs_on_its_disk(replica: &Replica, found: &ReplicaFound) -> bool {
    replica.drbd.is_some()
        && found
            .kernel
            .present()
            .is_some_and(|kernel| all_disks(replica, kernel, |disk| disk > DiskState::Failed))
}

/// Why `found` is not the replica's own, if it is not.
pub(crate) fn foreign(wanted: &BackingVolume, found: &BackingFound) -> Option<String> {
    match &found.mark {
        Some(mark) if *mark == wanted.mark => None,
        Some(mark) => Some(format!(
            "{} is marked as volume {} of {} (incarnation {}), not as this replica's; it is left alone",
            wanted.name, mark.volume, mark.resource, mark.replica_incarnation
        )),
        None => Some(format!("{} does not carry Hawser's mark; it is left alone", wanted.name)),
    }
}
