//! Leaving nothing: gate, DRBD, configuration, storage, from the top down.
//!
//! It must never remove what it could not look at, what somebody uses, or what carries no mark of this
//! replica.

use crate::{
    desired::Removal,
    observed::{KernelResource, Looked, Role},
    plan::{Next, Plan},
    release,
    situation::Situation,
    step::Step,
    storage,
};

/// Plans the removal, or says that it is done.
pub(crate) fn plan(situation: &Situation<'_>, removal: &Removal, plan: &mut Plan) {
    let found = situation.found;
    if let (Some(name), Looked::Unknown(why)) = (&removal.drbd_name, &found.kernel) {
        plan.wait(format!("cannot see {name} in the kernel: {why}"));
        return;
    }
    if release::let_go(found, removal.drbd_name.as_deref(), &removal.volumes, plan) == Next::Stop {
        return;
    }
    if let Some(name) = &removal.drbd_name {
        if let Some(kernel) = found.kernel.present() {
            take_down(kernel, name, removal, plan);
        }
        match &found.configuration {
            Looked::Absent => {}
            Looked::Present(_) => plan.run(Step::RemoveConfiguration { drbd_name: name.clone() }),
            Looked::Unknown(why) => {
                plan.wait(format!("cannot read the configuration of {name}: {why}"));
                return;
            }
        }
    }
    for volume in &removal.volumes {
        let Some(backing) = &volume.backing else { continue };
        match found.backing.get(&volume.number) {
            Some(Looked::Absent) => {}
            Some(Looked::Present(there)) => match storage::foreign(backing, there) {
                None => plan.run(Step::RemoveBackingVolume(backing.clone())),
                Some(problem) => {
                    plan.wait(problem);
                }
            },
            Some(Looked::Unknown(why)) => {
                plan.wait(format!("cannot tell whether {} is there: {why}", backing.name));
            }
            None => {
                plan.wait(format!("{} has not been looked for yet", backing.name));
            }
        }
    }
    plan.removed = plan.actions.is_empty() && plan.waits_for.is_none();
}

fn take_down(kernel: &KernelResource, name: &str, removal: &Removal, plan: &mut Plan) {
    if kernel.role == Role::Primary {
        plan.run(Step::Demote {
            drbd_name: name.to_owned(),
            minors: removal.volumes.iter().map(|volume| volume.minor).collect(),
        });
    }
    plan.run(Step::TakeDown { drbd_name: name.to_owned() });
}
