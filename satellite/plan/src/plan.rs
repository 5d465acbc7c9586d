//! What comes out: actions in order, questions to the arbiter, and why nothing more is done.

use hawser_proto::ids::{OutdateNumber, OwnerGeneration};

use crate::{
    attachment, behind, desired::Desired, drbd, observed::Watch, release, removal, situation::Situation,
    step::Step, storage,
};

/// A fact that the ledger has to hold on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The metadata of all volumes was made; never again for this incarnation.
    Created,
    /// The disk was seen UpToDate in this boot. Ends a reunion.
    Current,
    /// The disk left UpToDate, or a Primary may have gone on without it. Ends a reunion.
    Behind,
    /// The disk has synced, and both sides' reports say so.
    CaughtUp,
    /// It is about to meet its peer after a boot, and this was counted before.
    Reunion(Watch),
    /// It has met no Primary, and nothing tries to meet any more. Ends a reunion.
    MetNobody,
}

/// One thing to do. Actions run in their order; one that fails ends the sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write down before going on.
    Note(Note),
    /// Change the system.
    Run(Step),
}

/// What only the controllers can answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// May `peer` be taken for behind? Asked as the owner at `generation`, or about this node itself.
    Outdate {
        /// Node of the replica that is behind.
        peer: String,
        /// Generation of the owner.
        generation: OwnerGeneration,
    },
    /// Does this node still own the resource at `generation`?
    ConfirmOwner {
        /// Generation of the owner.
        generation: OwnerGeneration,
    },
}

/// What to do next for one replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In order, without looking again in between.
    pub actions: Vec<Action>,
    /// To be asked beside the actions.
    pub questions: Vec<Question>,
    /// Why more is not done, in one line, for people.
    pub waits_for: Option<String>,
    /// Only for a removal: nothing of the replica is left.
    pub removed: bool,
    /// The actions take a connection down: what was seen before them must not pass for seen under this log entry,
    /// or the `Outdate` that it is would be taken back while its replica falls behind.
    pub proves_nothing_since: Option<OutdateNumber>,
}

/// Whether the layer above may be planned in the same go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// As if what this layer put into the plan had been done.
    Above,
    /// Not before a new look.
    Stop,
}

impl Plan {
    pub(crate) fn run(&mut self, step: Step) {
        self.actions.push(Action::Run(step));
    }

    pub(crate) fn note(&mut self, note: Note) {
        if !self.actions.contains(&Action::Note(note)) {
            self.actions.push(Action::Note(note));
        }
    }

    pub(crate) fn ask(&mut self, question: Question) {
        if !self.questions.contains(&question) {
            self.questions.push(question);
        }
    }

    /// Whether the system is to be changed.
    pub(crate) fn runs(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Run(_)))
    }

    /// The first reason stands.
    pub(crate) fn wait(&mut self, reason: String) -> Next {
        self.waits_for.get_or_insert(reason);
        Next::Stop
    }
}

/// Plans what is next for one replica.
///
/// What serves a consumer comes first, from the top: letting go, unfreezing, the gates of a Primary. Then the
/// layers from below, and the promotion last.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan::default();
    match situation.desired {
        Desired::Removal(removal) => removal::plan(situation, removal, &mut plan),
        Desired::Replica(replica) => {
            behind::latch(situation, replica, &mut plan);
            behind::say_who_is_behind(situation, replica, &mut plan);
            if release::plan(situation, replica, &mut plan) == Next::Above
                && attachment::keep(situation, replica, &mut plan) == Next::Above
                && storage::plan(situation, replica, &mut plan) == Next::Above
                && drbd::plan(situation, replica, &mut plan) == Next::Above
            {
                attachment::promote(situation, replica, &mut plan);
            }
        }
    }
    plan
}
