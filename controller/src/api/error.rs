//! The one place where an error becomes a gRPC status with `google.rpc` details.
//!
//! Every status carries an `ErrorInfo` with an append-only reason in the domain "hawser"; a wrong field adds a
//! `BadRequest`, and what may be tried again adds a `RetryInfo`. Nothing else in this crate makes a status.

use std::{collections::HashMap, time::Duration};

use hawser_proto::{names::InvalidField, v1};
use hawser_state::placement::Refusal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    consensus::{ProposeError, ReadError},
    leader::session::SessionError,
};

/// Domain of every `ErrorInfo` that Hawser sends.
pub const ERROR_DOMAIN: &str = "hawser";

/// After this time a client may try again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why a call was not done, in the words of whoever refused it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ApiError {
    /// A field of the request is wrong; nothing was proposed.
    #[error("{message}")]
    Invalid {
        /// In the API's spelling.
        field: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// A committed no, or one that applying would give.
    #[error("{}", .0.message)]
    Rejected(v1::Rejected),
    /// The cluster kept changing under the request.
    #[error("the cluster changed each time while this was being decided ({0}); try again")]
    Stale(String),
    /// No member can serve it now. It may have been committed all the same: retry with the same key.
    #[error("{0}")]
    Unavailable(String),
    /// The command does not fit into a log entry.
    #[error("the request is too large: it encodes to {size} bytes, and {limit} are possible")]
    TooLarge {
        /// Encoded bytes.
        size: usize,
        /// The most that is possible.
        limit: usize,
    },
    /// The caller shows no certificate of this cluster.
    #[error("{0}")]
    Unauthenticated(String),
    /// The certificate does not allow this call.
    #[error("{message}")]
    Forbidden {
        /// `WRONG_ROLE`, `WRONG_NODE` or `WRONG_CLUSTER`.
        reason: &'static str,
        /// Who asked for what, and who may.
        message: String,
    },
    /// The caller has as many calls under way as one may have.
    #[error(
        "{caller} has {limit} calls under way, and more are not worked on at once; try again when some have ended"
    )]
    TooManyCalls {
        /// `role/name`.
        caller: String,
        /// How many those are.
        limit: usize,
    },
    /// The start of a watch is older than what the member keeps.
    #[error("{0}")]
    Compacted(String),
    /// The peer broke the protocol of a stream.
    #[error("{0}")]
    Protocol(String),
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// A wrong field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// A refusal as applying would give it.
    #[must_use]
    pub fn rejected(reason: v1::RejectionReason, message: impl Into<String>) -> Self {
        Self::Rejected(v1::Rejected { reason: reason.into(), field: String::new(), message: message.into() })
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::Rejected(rejected) => code_of(rejected.reason()),
            Self::Stale(_) => Code::Aborted,
            Self::Unavailable(_) => Code::Unavailable,
            Self::TooLarge { .. } => Code::InvalidArgument,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Forbidden { .. } => Code::PermissionDenied,
            Self::TooManyCalls { .. } => Code::ResourceExhausted,
            Self::Compacted(_) => Code::OutOfRange,
            Self::Protocol(_) => Code::InvalidArgument,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Invalid { .. } => "INVALID".into(),
            Self::Rejected(rejected) => {
                let word = rejected.reason().as_str_name();
                word.strip_prefix("REJECTION_REASON_").unwrap_or(word).into()
            }
            Self::Stale(_) => "STALE".into(),
            Self::Unavailable(_) => "UNAVAILABLE".into(),
            Self::TooLarge { .. } => "TOO_LARGE".into(),
            Self::Unauthenticated(_) => "UNAUTHENTICATED".into(),
            Self::Forbidden { reason, .. } => (*reason).into(),
            Self::TooManyCalls { .. } => "TOO_MANY_CALLS".into(),
            // The contract of WatchService spells it so.
            Self::Compacted(_) => "compacted".into(),
            Self::Protocol(_) => "PROTOCOL".into(),
            Self::Internal(_) => "INTERNAL".into(),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Rejected(rejected) if !rejected.field.is_empty() => Some(&rejected.field),
            _ => None,
        }
    }
}

fn code_of(reason: v1::RejectionReason) -> Code {
    use v1::RejectionReason as Reason;
    match reason {
        Reason::Invalid | Reason::RequestKeyReused => Code::InvalidArgument,
        Reason::NotFound => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::Precondition | Reason::InUse | Reason::NotOwner | Reason::Outdated => {
            Code::FailedPrecondition
        }
        Reason::NoCapacity | Reason::TableFull => Code::ResourceExhausted,
        Reason::Unspecified => Code::Internal,
    }
}

impl From<InvalidField> for ApiError {
    fn from(invalid: InvalidField) -> Self {
        Self::Invalid { field: invalid.field, message: invalid.message }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, field, message, .. } = refusal;
        Self::Rejected(v1::Rejected { reason: reason.into(), field, message })
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::TooLarge { size, limit } => Self::TooLarge { size, limit },
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::WrongNode { .. } => Self::Forbidden { reason: "WRONG_NODE", message },
            SessionError::WrongCluster { .. } => Self::Forbidden { reason: "WRONG_CLUSTER", message },
            SessionError::NotRegistered(_) => Self::rejected(v1::RejectionReason::NotFound, message),
            SessionError::Ahead { .. } | SessionError::OtherRestore { .. } | SessionError::Lost(_) => {
                Self::rejected(v1::RejectionReason::Precondition, message)
            }
            SessionError::NoHello | SessionError::Report(_) => Self::Protocol(message),
            SessionError::Superseded | SessionError::ReignEnded | SessionError::Broken(_) => {
                Self::Unavailable(message)
            }
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        let mut details = ErrorDetails::with_error_info(error.reason(), ERROR_DOMAIN, HashMap::new());
        if let Some(field) = error.field() {
            details.add_bad_request_violation(field, &message);
        }
        if matches!(error, ApiError::Stale(_) | ApiError::Unavailable(_) | ApiError::TooManyCalls { .. }) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(error.code(), message, details)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rejections_become_codes_with_their_word() {
        use v1::RejectionReason as Reason;
        let table = [
            (Reason::Invalid, Code::InvalidArgument, "INVALID"),
            (Reason::NotFound, Code::NotFound, "NOT_FOUND"),
            (Reason::AlreadyExists, Code::AlreadyExists, "ALREADY_EXISTS"),
            (Reason::Precondition, Code::FailedPrecondition, "PRECONDITION"),
            (Reason::InUse, Code::FailedPrecondition, "IN_USE"),
            (Reason::NotOwner, Code::FailedPrecondition, "NOT_OWNER"),
            (Reason::Outdated, Code::FailedPrecondition, "OUTDATED"),
            (Reason::NoCapacity, Code::ResourceExhausted, "NO_CAPACITY"),
            (Reason::TableFull, Code::ResourceExhausted, "TABLE_FULL"),
            (Reason::RequestKeyReused, Code::InvalidArgument, "REQUEST_KEY_REUSED"),
        ];
        for (reason, code, word) in table {
            let status = Status::from(ApiError::rejected(reason, "resource data: no"));
            assert_eq!(status.code(), code, "{word}");
            assert_eq!(status.message(), "resource data: no");
            let info = status.get_error_details().error_info().unwrap().clone();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (word, ERROR_DOMAIN));
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let status = Status::from(ApiError::invalid("volume_sizes[0]", "a size must not be 0"));
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "volume_sizes[0]");
        assert!(details.retry_info().is_none());
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        let status = Status::from(ApiError::Unavailable("no leader".into()));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_error_details().retry_info().unwrap().retry_delay.is_some());
    }
}
