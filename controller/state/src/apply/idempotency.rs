//! Request keys: the same request of the same caller is carried out once.
//!
//! Only final outcomes are kept, for 24 hours of the cluster's committed clock. It must never evict one
//! early: a full table refuses new requests instead.

use hawser_proto::v1::{Command, IdempotencyRecord, Outcome, RejectionReason, RequestKey, command, outcome};

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

/// Whether a repeated request gets the first answer. Not so the question whether to go on without a peer: an
/// old yes may have been cleared by a sync since, so it is decided anew each time, which is harmless.
pub(super) fn keeps_its_answer(command: &Command) -> bool {
    !matches!(command.command, Some(command::Command::Outdate(_)))
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
    state.keep_answer(record);
}

/// Forgets what has been kept long enough.
pub(super) fn expire(transaction: &mut Transaction<'_>) {
    transaction.expire_requests();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{Outdate, Synced, Tick, command::Command as Kind};

    use super::*;
    use crate::fixture::{Cluster, RESOURCE, applied, create_node, rejected};

    fn key(caller: &str, key: &str, request: u8) -> Option<RequestKey> {
        Some(RequestKey { caller: caller.into(), key: key.into(), request_sha256: vec![request; 32] })
    }

    #[test]
    fn a_repeated_request_gets_the_first_answer_and_is_not_carried_out_again() {
        let mut cluster = Cluster::initialized();
        let first = cluster.commit_as(key("administrator/ann", "k1", 1), create_node("n1", "10.0.0.1"));
        let again = cluster.commit_as(key("administrator/ann", "k1", 1), create_node("n1", "10.0.0.1"));
        assert_eq!(first.outcome, again.outcome);
        assert_eq!(again.changes, Vec::new());

        let refused = cluster.commit_as(key("administrator/ann", "k2", 2), create_node("n1", "10.0.0.1"));
        let again = cluster.commit_as(key("administrator/ann", "k2", 2), create_node("n1", "10.0.0.1"));
        assert_eq!(rejected(refused.outcome.clone()).reason(), RejectionReason::AlreadyExists);
        assert_eq!(refused.outcome, again.outcome);
    }

    #[test]
    fn a_key_belongs_to_one_request_of_one_caller() {
        let mut cluster = Cluster::initialized();
        cluster.commit_as(key("administrator/ann", "k1", 1), create_node("n1", "10.0.0.1"));
        let reused = cluster.commit_as(key("administrator/ann", "k1", 2), create_node("n2", "10.0.0.2"));
        assert_eq!(rejected(reused.outcome).reason(), RejectionReason::RequestKeyReused);
        applied(cluster.commit_as(key("administrator/bob", "k1", 2), create_node("n2", "10.0.0.2")).outcome);
    }

    #[test]
    fn a_key_or_hash_that_can_be_none_is_refused() {
        let long = "k".repeat(LONGEST_PART + 1);
        for (caller, name) in [("", "k"), ("c", ""), (long.as_str(), "k"), ("c", long.as_str())] {
            let effect =
                Cluster::initialized().commit_as(key(caller, name, 1), create_node("n1", "10.0.0.1"));
            assert_eq!(rejected(effect.outcome).field, "request_key");
        }
        let short = RequestKey { request_sha256: vec![1; 31], ..key("c", "k", 1).unwrap() };
        let effect = Cluster::initialized().commit_as(Some(short), create_node("n1", "10.0.0.1"));
        assert_eq!(rejected(effect.outcome).field, "request_key");
    }

    #[test]
    fn what_is_stale_may_be_tried_again_with_the_same_key() {
        let mut cluster = Cluster::with_nodes(2);
        let mut create = cluster.create_resource("web", &["n1", "n2"]);
        create.placed[0].node_incarnation += 1;
        create.computed_at_revision -= 1;
        let request = key("administrator/ann", "k1", 1);
        let stale = cluster.commit_as(request.clone(), Kind::CreateResource(create.clone())).outcome;
        assert!(matches!(stale.outcome, Some(outcome::Outcome::Stale(_))));
        create.placed[0].node_incarnation -= 1;
        applied(cluster.commit_as(request, Kind::CreateResource(create)).outcome);
    }

    #[test]
    fn a_question_to_the_arbiter_is_answered_anew_each_time() {
        let mut cluster = Cluster::attached();
        let resource_incarnation = cluster.state.resource(RESOURCE).unwrap().incarnation;
        let outdate = Kind::Outdate(Outdate {
            resource: RESOURCE.into(),
            resource_incarnation,
            node: "n2".into(),
            owner: "n1".into(),
            generation: 1,
        });
        let first = applied(cluster.commit_as(key("satellite/n1", "k", 1), outdate.clone()).outcome).number;
        cluster.applied(Kind::Synced(Synced {
            resource: RESOURCE.into(),
            resource_incarnation,
            node: "n2".into(),
            number: first,
        }));
        let again = applied(cluster.commit_as(key("satellite/n1", "k", 1), outdate).outcome).number;
        assert_eq!(again, cluster.index);
    }

    #[test]
    fn an_answer_is_kept_for_a_day_of_committed_time() {
        let mut cluster = Cluster::initialized();
        cluster.commit_as(key("c", "k", 1), create_node("n1", "10.0.0.1"));
        let hour = 60 * 60 * 1000;
        for _ in 0..23 {
            cluster.applied(Kind::Tick(Tick { elapsed_ms: hour }));
        }
        assert_eq!(cluster.state.idempotency.len(), 1);
        cluster.applied(Kind::Tick(Tick { elapsed_ms: hour }));
        assert_eq!(cluster.state.idempotency.len(), 0);
        assert_eq!(cluster.state.index.expiry.len(), 0);
    }

    #[test]
    fn a_full_table_refuses_new_requests_and_answers_old_ones() {
        let mut cluster = Cluster::initialized();
        let first = cluster.commit_as(key("c", "k1", 1), create_node("n1", "10.0.0.1")).outcome;
        let (old, new) = (key("c", "k1", 1).unwrap(), key("c", "k2", 1).unwrap());
        assert_eq!(recall_within(&cluster.state, &new, 2), None);
        let refused = recall_within(&cluster.state, &new, 1).unwrap();
        assert_eq!(rejected(refused).reason(), RejectionReason::TableFull);
        assert_eq!(recall_within(&cluster.state, &old, 1), Some(first));
    }
}
