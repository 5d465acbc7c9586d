//! How applying a command can end, while it is being decided.
//!
//! A denial is an outcome like any other: it is committed, and kept for the request's key. It must
//! never be told by a panic.

use hawser_proto::{
    ids::{OperationId, OutdateNumber, OwnerGeneration},
    names::InvalidField,
    v1::{Applied, Outcome, Rejected, RejectionReason, Stale, outcome},
};

/// What a command came to, or why it came to nothing.
pub(crate) type Verdict<T = Success> = Result<T, Denial>;

/// What the outcome tells of a command that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Success {
    /// The operation that carries it out.
    pub(crate) operation: Option<OperationId>,
    /// What the command gave, see `Applied.number`.
    pub(crate) number: u64,
    /// The node that a resource was taken from; empty if it was from none.
    pub(crate) taken_over_from: String,
}

impl Success {
    /// Done, with nothing further to tell.
    pub(crate) const DONE: Self = Self { operation: None, number: 0, taken_over_from: String::new() };

    pub(crate) fn operation(operation: Option<OperationId>) -> Self {
        Self { operation, ..Self::DONE }
    }

    /// A replica was outdated by the entry of this number.
    pub(crate) fn outdated(number: OutdateNumber) -> Self {
        Self { number: number.get(), ..Self::DONE }
    }

    /// A node may write, from this generation of the owner on.
    pub(crate) fn granted(generation: OwnerGeneration, operation: Option<OperationId>) -> Self {
        Self { operation, number: generation.get(), ..Self::DONE }
    }

    /// The member under this raft id was announced or removed.
    pub(crate) fn member(raft_id: u64) -> Self {
        Self { number: raft_id, ..Self::DONE }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    Rejected(Rejected),
    Stale(String),
}

impl Denial {
    pub(crate) fn new(reason: RejectionReason, field: &str, message: impl Into<String>) -> Self {
        Self::Rejected(Rejected { reason: reason.into(), field: field.to_owned(), message: message.into() })
    }

    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::new(RejectionReason::Invalid, field, message)
    }

    pub(crate) fn not_found(field: &str, message: impl Into<String>) -> Self {
        Self::new(RejectionReason::NotFound, field, message)
    }

    pub(crate) fn already_exists(field: &str, message: impl Into<String>) -> Self {
        Self::new(RejectionReason::AlreadyExists, field, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(RejectionReason::Precondition, "", message)
    }

    pub(crate) fn no_capacity(message: impl Into<String>) -> Self {
        Self::new(RejectionReason::NoCapacity, "", message)
    }

    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new(RejectionReason::InUse, "", message)
    }

    pub(crate) fn not_owner(message: impl Into<String>) -> Self {
        Self::new(RejectionReason::NotOwner, "", message)
    }

    pub(crate) fn outdated(message: impl Into<String>) -> Self {
        Self::new(RejectionReason::Outdated, "", message)
    }

    pub(crate) fn stale(message: impl Into<String>) -> Self {
        Self::Stale(message.into())
    }
}

impl From<InvalidField> for Denial {
    fn from(error: InvalidField) -> Self {
        Self::invalid(&error.field, error.message)
    }
}

/// The committed form of a verdict reached at `revision`.
pub(crate) fn outcome(verdict: Verdict, revision: u64) -> Outcome {
    let outcome = match verdict {
        Ok(Success { operation, number, taken_over_from }) => {
            let operation = operation.map_or(0, OperationId::get);
            outcome::Outcome::Applied(Applied { revision, operation, number, taken_over_from })
        }
        Err(Denial::Rejected(rejected)) => outcome::Outcome::Rejected(rejected),
        Err(Denial::Stale(message)) => outcome::Outcome::Stale(Stale { message }),
    };
    Outcome { outcome: Some(outcome) }
}
