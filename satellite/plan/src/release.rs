//! Letting go of a resource that another node owns now, without a reboot.
//!
//! It must never complete a frozen write while its writer can still see the result: on release, DRBD 8.4
//! completes frozen writes that had reached the local disk as successes, and the new owner has not got them.
//! So nothing happens before every opener is dead or has SIGKILL pending.

use crate::{
    attachment::{close_gates, holders},
    desired::{Attachment, Replica, Volume},
    drbd::fall_behind_first,
    observed::{DiskState, GateTable, KernelResource, Looked, OpenerState, ReplicaFound, Role},
    plan::{Next, Plan},
    situation::Situation,
    step::{Configuration, Step},
};

/// Plans the release of a replica that is revoked, or Primary while somebody else is the owner.
pub(crate) fn plan(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) -> Next {
    let found = situation.found;
    let primary = found.kernel.present().filter(|kernel| kernel.role == Role::Primary);
    let usurped = primary.is_some() && !replica.owner.is_empty() && replica.owner != situation.node;
    if replica.attachment != Attachment::Revoked && !usurped {
        return Next::Above;
    }
    if let (Some(_), Looked::Unknown(why)) = (&replica.drbd, &found.kernel) {
        return plan.wait(format!("cannot see {} in the kernel: {why}", replica.resource));
    }
    let drbd_name = replica.drbd.as_ref().map(|drbd| drbd.drbd_name.as_str());
    if let_go(found, drbd_name, &replica.volumes, plan) == Next::Stop {
        return Next::Stop;
    }
    match (&replica.drbd, primary) {
        (Some(drbd), Some(kernel)) => {
            if fall_behind_first(situation, replica, kernel, plan) == Next::Above {
                rejoin(drbd, &replica.volumes, plan);
            }
            Next::Stop
        }
        _ => Next::Above,
    }
}

/// Takes the gates from consumers that are gone, ends frozen I/O below them, and closes them. `Above`: the
/// gates are gone or about to be closed by the plan, and the device is not frozen.
pub(crate) fn let_go(
    found: &ReplicaFound,
    drbd_name: Option<&str>,
    volumes: &[Volume],
    plan: &mut Plan,
) -> Next {
    let primary = found.kernel.present().filter(|kernel| kernel.role == Role::Primary);
    let frozen = primary.filter(|kernel| kernel.suspended.any());
    let held = volumes.iter().any(|volume| match found.gates.get(&volume.number) {
        Some(Looked::Present(gate)) => gate.open_count > 0,
        Some(Looked::Absent) => false,
        Some(Looked::Unknown(_)) | None => true,
    });
    if !held && frozen.is_none() {
        return close_gates(found, volumes, plan);
    }
    match &found.openers {
        Looked::Unknown(why) => {
            return plan.wait(format!("cannot tell who holds the gate: {why}"));
        }
        Looked::Present(openers) if !openers.is_empty() => {
            if openers.iter().any(|opener| opener.state == OpenerState::Living) {
                return plan.wait(format!(
                    "another node has taken over; frozen until {} is gone, end it to let this replica rejoin",
                    holders(found)
                ));
            }
        }
        Looked::Absent | Looked::Present(_) => {}
    }
    if let Some(reason) = held_by_the_unknown(found, volumes) {
        return plan.wait(reason);
    }
    let failing = fail_gates(found, volumes, plan);
    if let (Some(kernel), Some(drbd_name)) = (frozen, drbd_name) {
        end_frozen_writes(kernel, drbd_name, volumes, plan);
        return Next::Stop;
    }
    if failing {
        return Next::Stop;
    }
    close_gates(found, volumes, plan)
}

/// Why a gate that still leads to its device may have a living holder that was not found, e.g. a process that mapped
/// it into its memory and closed it, or something of the kernel's that nobody knows here.
fn held_by_the_unknown(found: &ReplicaFound, volumes: &[Volume]) -> Option<String> {
    volumes.iter().find_map(|volume| {
        let gate = found.gates.get(&volume.number)?.present()?;
        let opens_found = found.opens_found.get(&volume.number).copied().unwrap_or(0);
        if gate.table == GateTable::Error || gate.open_count <= opens_found {
            return None;
        }
        let known = match found.openers.present() {
            Some(openers) if !openers.is_empty() => holders(found),
            _ => "nobody".to_owned(),
        };
        Some(format!(
            "another node has taken over; frozen because something that was not found has {} open (the kernel counts {}, \
             found: {known}): end it, or restart this node, to let this replica rejoin",
            volume.gate.name, gate.open_count
        ))
    })
}

/// Whether any gate had to be failed.
fn fail_gates(found: &ReplicaFound, volumes: &[Volume], plan: &mut Plan) -> bool {
    let mut failing = false;
    for volume in volumes {
        if let Some(Looked::Present(gate)) = found.gates.get(&volume.number)
            && gate.table != GateTable::Error
        {
            plan.run(Step::FailGate { name: volume.gate.name.clone() });
            failing = true;
        }
    }
    failing
}

fn end_frozen_writes(kernel: &KernelResource, drbd_name: &str, volumes: &[Volume], plan: &mut Plan) {
    for volume in volumes {
        let disk = kernel.volumes.get(&volume.number).map_or(DiskState::Diskless, |found| found.disk);
        if disk != DiskState::Diskless {
            plan.run(Step::DetachForce { drbd_name: drbd_name.to_owned(), minor: volume.minor });
        }
    }
    for volume in volumes {
        plan.run(Step::ResumeIo { drbd_name: drbd_name.to_owned(), minor: volume.minor });
    }
}

/// From a Primary that nobody uses to a Secondary that resyncs: its disk is attached once a peer is there.
fn rejoin(drbd: &Configuration, volumes: &[Volume], plan: &mut Plan) {
    plan.run(Step::Demote {
        drbd_name: drbd.drbd_name.clone(),
        minors: volumes.iter().map(|volume| volume.minor).collect(),
    });
    plan.run(Step::TakeDown { drbd_name: drbd.drbd_name.clone() });
    plan.run(Step::BringUp { configuration: drbd.clone(), attach: false, connect: true });
}
