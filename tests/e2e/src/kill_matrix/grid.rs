//! What is killed, in which operation, and when: the cells of the matrix, and those that a seed chooses.
//!
//! It must never leave a phase out because it is hard to meet: whoever runs a cell says that it was missed.

use std::fmt;

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// An operation on a volume, in the order of a volume's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A resource with two replicas is made.
    Create,
    /// It is detached from the node where it was written to.
    Detach,
    /// It is attached on the other node.
    Attach,
    /// The replica that is not attached leaves while the other is written to.
    Remove,
    /// One joins in its place.
    Add,
    /// The resource is deleted.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Detach, Self::Attach, Self::Remove, Self::Add, Self::Delete];

    /// Its name in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Detach => "detach",
            Self::Attach => "attach",
            Self::Remove => "remove",
            Self::Add => "add",
            Self::Delete => "delete",
        }
    }

    /// The phases that it goes through where nothing goes wrong, in the API's words.
    pub fn phases(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["store-orders", "create-replicas", "connect", "confirm"],
            Self::Detach => &["store-orders", "close-gate", "demote", "confirm"],
            Self::Attach => &["store-orders", "promote", "open-gate", "confirm"],
            Self::Remove => &["store-orders", "disconnect", "remove-replicas", "confirm"],
            Self::Add => &["store-orders", "create-replicas", "connect", "sync", "confirm"],
            Self::Delete => &["store-orders", "remove-replicas", "confirm"],
        }
    }

    /// When something is killed: after the one phase is before the next, so that one moment for each phase and one
    /// for the end are before and after every phase.
    pub fn moments(self) -> impl Iterator<Item = Moment> {
        self.phases().iter().map(|phase| Moment::Phase(phase)).chain([Moment::Ended])
    }
}

/// When something is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// As soon as the operation, or the kernel of its node, shows this phase: all before it are done, it is not.
    Phase(&'static str),
    /// As soon as the operation has ended: its last phase is done.
    Ended,
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Phase(phase) => phase,
            Self::Ended => "ended",
        })
    }
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The controller that leads, with -9.
    LeadingController,
    /// One that follows, with -9.
    FollowingController,
    /// The satellite of the node that the operation is about, with -9.
    OwnSatellite,
    /// The satellite of the node with the other replica, with -9.
    PeerSatellite,
    /// The power of the node whose controller leads.
    LeadersPower,
    /// The power of the node that the operation is about.
    OwnPower,
    /// The power of the node with the other replica.
    PeerPower,
}

impl Victim {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Self; 7] = [
        Self::LeadingController,
        Self::FollowingController,
        Self::OwnSatellite,
        Self::PeerSatellite,
        Self::LeadersPower,
        Self::OwnPower,
        Self::PeerPower,
    ];

    /// Its name in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::LeadingController => "leading controller",
            Self::FollowingController => "following controller",
            Self::OwnSatellite => "satellite here",
            Self::PeerSatellite => "satellite there",
            Self::LeadersPower => "power of the leader",
            Self::OwnPower => "power here",
            Self::PeerPower => "power there",
        }
    }

    /// Whether a node loses its power.
    pub fn is_power_cut(self) -> bool {
        matches!(self, Self::LeadersPower | Self::OwnPower | Self::PeerPower)
    }
}

/// One field of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The operation that is disturbed.
    pub operation: Operation,
    /// When.
    pub moment: Moment,
    /// By whose death.
    pub victim: Victim,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}, {}", self.operation.word(), self.moment, self.victim.word())
    }
}

/// Every cell, shuffled, so that one volume's life meets a different death in each of its operations.
pub fn full(seed: u64) -> Vec<Cell> {
    let rows = Operation::ALL
        .into_iter()
        .flat_map(|operation| operation.moments().map(move |moment| (operation, moment)).collect::<Vec<_>>());
    let mut cells: Vec<Cell> = rows
        .flat_map(|(operation, moment)| Victim::ALL.map(|victim| Cell { operation, moment, victim }))
        .collect();
    cells.shuffle(&mut StdRng::seed_from_u64(seed));
    cells
}

/// Each phase of each operation once, with a victim that the seed chooses. A node takes long to come back: of eleven
/// deaths three are power cuts.
pub fn short(seed: u64) -> Vec<Cell> {
    let processes = Victim::ALL.into_iter().filter(|victim| !victim.is_power_cut());
    let urn: Vec<Victim> =
        processes.flat_map(|victim| [victim; 2]).chain(Victim::ALL[4..].to_vec()).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    let mut cells = Vec::new();
    for operation in Operation::ALL {
        for phase in operation.phases() {
            if drawn.is_empty() {
                drawn.clone_from(&urn);
                drawn.shuffle(&mut random);
            }
            let Some(victim) = drawn.pop() else { continue };
            cells.push(Cell { operation, moment: Moment::Phase(phase), victim });
        }
    }
    cells.shuffle(&mut random);
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_full_matrix_has_every_victim_in_every_moment_once() {
        let cells = full(1);
        let moments: usize = Operation::ALL.iter().map(|operation| operation.moments().count()).sum();
        assert_eq!(cells.len(), moments * Victim::ALL.len());
        assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), cells.len());
    }

    #[test]
    fn a_selection_has_each_phase_once_and_everybody_dies_in_it() {
        for seed in 0..20 {
            let cells = short(seed);
            let rows: BTreeSet<_> = cells.iter().map(|cell| (cell.operation, cell.moment)).collect();
            let phases: usize = Operation::ALL.iter().map(|operation| operation.phases().len()).sum();
            assert_eq!((rows.len(), cells.len()), (phases, phases), "seed {seed}");
            let victims: BTreeSet<_> = cells.iter().map(|cell| cell.victim).collect();
            assert_eq!(victims.len(), Victim::ALL.len(), "seed {seed}");
            assert_eq!(cells, short(seed), "seed {seed}");
        }
        assert_ne!(short(1), short(2));
    }
}
