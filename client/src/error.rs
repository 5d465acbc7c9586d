//! Why a call was not done: refused by the cluster, by trust, or by nobody answering.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::verdict::Verdict;

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The cluster refused it. Final: trying again gives the same answer.
    #[error("cannot {what}: {0}", what = .0.what)]
    Rejected(Rejection),
    /// No controller could serve it in time.
    #[error(
        "cannot {what}: no controller could serve it within {} s; tried {}{}",
        .within.as_secs_f64(), list(.tried), if *.perhaps_done { "; the request may have been carried out all the same" } else { "" }
    )]
    Unreachable {
        /// What was asked for, as a verb and its object.
        what: String,
        /// How long it was tried.
        within: Duration,
        /// The endpoints, each with what became of the last try.
        tried: Vec<Tried>,
        /// A request was sent whose answer never came.
        perhaps_done: bool,
    },
    /// Every endpoint failed the check of certificates, on their side or on ours.
    #[error("cannot {what}: TLS does not trust the other side; tried {}", list(.tried))]
    NotTrusted {
        /// What was asked for, as a verb and its object.
        what: String,
        /// The endpoints, each with what TLS says.
        tried: Vec<Tried>,
    },
    /// There is nobody to ask.
    #[error("no controller is named; give at least one as host:port")]
    NoEndpoint,
    /// An endpoint cannot be understood.
    #[error("controller {endpoint:?} is not usable: {reason}; write host:port, an IPv6 host in brackets")]
    BadEndpoint {
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why one endpoint gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// What went wrong there.
    pub outcome: String,
    /// It was a certificate that was refused, theirs or ours.
    pub untrusted: bool,
}

impl Unanswered {
    pub(crate) fn from_status(status: &Status) -> Self {
        match Verdict::of(status) {
            Verdict::Final => Self { outcome: status.message().to_owned(), untrusted: false },
            Verdict::Again { outcome, .. } => Self { outcome, untrusted: false },
            Verdict::Untrusted(outcome) => Self { outcome, untrusted: true },
        }
    }
}

/// One endpoint and what became of the last try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// host:port.
    pub endpoint: String,
    /// What went wrong there.
    pub outcome: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.endpoint, self.outcome)
    }
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join(", ")
}

/// A refusal, as the cluster stated it in its `google.rpc` details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What was asked for, as a verb and its object.
    pub what: String,
    /// gRPC's coarse word.
    pub code: Code,
    /// The cluster's append-only word, e.g. `NOT_FOUND`; empty where a proxy or an older peer answered.
    pub reason: String,
    /// The field that is wrong, in the API's spelling; empty if it is not one field.
    pub field: String,
    /// Names the object, what was tried, what is wrong and what to do.
    pub message: String,
}

impl Rejection {
    pub(crate) fn from_status(what: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let field = details
            .bad_request()
            .and_then(|request| request.field_violations.first())
            .map(|violation| violation.field.clone());
        Self {
            what: what.to_owned(),
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            field: field.unwrap_or_default(),
            message: status.message().to_owned(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return write!(formatter, "the cluster refused it without a word ({:?})", self.code);
        }
        formatter.write_str(&self.message)
    }
}
