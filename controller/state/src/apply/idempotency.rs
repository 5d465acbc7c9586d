//! Request keys: the same request of the same caller is carried out once.
//!
//! Only final outcomes are kept, for 24 hours of the cluster's committed clock. It must never evict one
//! early: a full table refuses new requests instead.

use std::sync::Arc;

use hawser_proto::v1::{IdempotencyRecord, Outcome, RejectionReason, RequestKey, outcome};

use crate::{
    state::State,
    transaction::Transaction,
    verdict::{Denial, outcome as committed},
};

/// How long an outcome is kept.
pub(crate) const KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// Outcomes that are kept at most, of all callers together.
pub(crate) const LARGEST_TABLE: usize = 100_000;

/// Longest caller and longest key, in bytes.
const LONGEST_PART: usize = 256;

/// The answer that a request has already, or that its key earns it; `None` if it is to be carried out.
pub(super) fn recall(state: &State, request: Option<&RequestKey>) -> Option<Outcome> {
    recall_within(state, request?, LARGEST_TABLE)
}

fn recall_within(state: &State, request: &RequestKey, largest_table: usize) -> Option<Outcome> {
    let denied = |denial| Some(committed(Err(denial), state.revision()));
    let part_is_valid = |part: &str| (1..=LONGEST_PART).contains(&part.len());
    if !part_is_valid(&request.caller) || !part_is_valid(&request.key) {
        return denied(Denial::invalid(
            "request_key",
            format!("a request key has 1 to {LONGEST_PART} characters"),
        ));
    }
    if request.request_sha256.len() != 32 {
        return denied(Denial::invalid("request_key", "the request's hash is not a SHA-256"));
    }
    let Some(kept) = state.idempotency.get(&(request.caller.clone(), request.key.clone())) else {
        if state.idempotency.len() < largest_table {
            return None;
        }
        return denied(Denial::new(
            RejectionReason::TableFull,
            "request_key",
            format!(
                "the outcomes of {largest_table} requests are kept and none is old enough to be forgotten: try again later"
            ),
        ));
    };
    if kept.request_sha256 == request.request_sha256 {
        return kept.outcome.clone();
    }
    denied(Denial::new(
        RejectionReason::RequestKeyReused,
        "request_key",
        "this key was used for another request: use a new key for a new request",
    ))
}

impl State {
    /// What applying a command with this request key would answer without carrying anything out: the outcome that is
    /// kept for the key, or why the key cannot be used. `None` if the command would be carried out.
    ///
    /// A door asks this before it decides anything else: a repeated request is answered as the first one was.
    pub fn answer_to(&self, request: &RequestKey) -> Option<Outcome> {
        recall(self, Some(request))
    }
}

/// Keeps a final outcome.
pub(super) fn remember(state: &mut State, request: &RequestKey, outcome: &Outcome) {
    if matches!(outcome.outcome, None | Some(outcome::Outcome::Stale(_))) {
        return;
    }
    let record = IdempotencyRecord {
        caller: request.caller.clone(),
        key: request.key.clone(),
        request_sha256: request.request_sha256.clone(),
        outcome: Some(outcome.clone()),
        expires_at_elapsed_ms: state.cluster().elapsed_ms.saturating_add(KEPT_MS),
    };
    state.index.expiry.insert((record.expires_at_elapsed_ms, record.caller.clone(), record.key.clone()));
    state.idempotency.insert((record.caller.clone(), record.key.clone()), Arc::new(record));
}

/// Forgets what has been kept long enough.
pub(super) fn expire(transaction: &mut Transaction<'_>) {
    transaction.expire_requests();
}
