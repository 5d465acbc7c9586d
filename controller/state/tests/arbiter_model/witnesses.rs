//! What has to be reachable in the model: the good ends that the rules are there for.

use stateright::Property;

use crate::{
    steps::Arbiter,
    world::{Disk, Lineage, World},
};

pub fn the_owner_goes_on_alone() -> Property<Arbiter> {
    Property::sometimes("the owner goes on without its peer", |_, world: &World| {
        world.raft.generation == 1 && world.serves(0) && !world.nodes[0].connected && world.acknowledged != 0
    })
}

pub fn the_peer_takes_over() -> Property<Arbiter> {
    Property::sometimes("the peer takes over and writes alone", |_, world: &World| {
        world.nodes[1].primary == Some(2) && !world.nodes[1].connected && world.acknowledged != 0
    })
}

pub fn the_owner_is_not_kept_away_any_more() -> Property<Arbiter> {
    Property::sometimes("a claim was withdrawn, and the owner goes on with its peer", |_, world: &World| {
        world.left.withdrawals == 0
            && world.raft.generation == 1
            && world.raft.claim.is_none()
            && world.serves(0)
            && is_whole(world)
    })
}

pub fn the_loser_has_returned() -> Property<Arbiter> {
    Property::sometimes("the loser has returned and synced", |_, world: &World| {
        world.nodes[1].primary == Some(2) && is_whole(world) && world.nodes[0].primary.is_none()
    })
}

pub fn it_came_back_to_the_first_owner() -> Property<Arbiter> {
    Property::sometimes("the first owner has it again", |_, world: &World| {
        world.nodes[0].primary == Some(3) && is_whole(world)
    })
}

pub fn an_owner_goes_on_through_its_peer() -> Property<Arbiter> {
    Property::sometimes("an owner without a disk writes through its peer", |_, world: &World| {
        world.serves(0) && world.nodes[0].disk == Disk::Detached && world.acknowledged != 0
    })
}

pub fn one_met_the_other_after_a_boot() -> Property<Arbiter> {
    Property::sometimes("a write was acknowledged alone when a booted peer came", |_, world: &World| {
        world.nodes[1].met && !world.nodes[1].connected && world.acknowledged != 0 && world.nodes[1].data == 0
    })
}

pub fn one_left_in_order_and_the_other_went_on() -> Property<Arbiter> {
    Property::sometimes("one left in order and the other went on", |_, world: &World| {
        !world.nodes[1].up && world.raft.outdated[1] != 0 && world.serves(0) && world.acknowledged != 0
    })
}

pub fn nobody_owns_it() -> Property<Arbiter> {
    Property::sometimes("it was detached", |_, world: &World| world.raft.owner.is_none())
}

pub fn the_peer_owns_it() -> Property<Arbiter> {
    Property::sometimes("it was attached on the other node", |_, world: &World| {
        world.nodes[1].primary == Some(2) && world.raft.attachments[0].is_none() && world.acknowledged != 0
    })
}

/// Connected, equal, nobody outdated, something written.
fn is_whole(world: &World) -> bool {
    world.reaches_peer(0)
        && world.lineage == Lineage::Same
        && world.raft.outdated == [0; 2]
        && world.acknowledged != 0
        && world.nodes[0].data == world.nodes[1].data
}
