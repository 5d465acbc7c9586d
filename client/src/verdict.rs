//! What a failed attempt means: final, worth another try, or a matter of certificates.
//!
//! It must never look at the text of a message.

use std::{error::Error, io, time::Duration};

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

use crate::client::NO_ANSWER;

/// What to do after a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The cluster has answered.
    Final,
    /// Another endpoint, or this one later, may do it.
    Again {
        /// Not before this time has passed, says the server.
        after: Option<Duration>,
        /// The request may have reached the server.
        perhaps_done: bool,
        /// Why, in short.
        outcome: String,
    },
    /// A certificate was refused, here or there.
    Untrusted(String),
}

impl Verdict {
    pub(crate) fn of(status: &Status) -> Self {
        // Only statuses made on this side have a source; those of the server came over the wire.
        if let Some(source) = status.source() {
            if let Some(reason) = find(source, tls_refusal) {
                return Self::Untrusted(reason);
            }
            // The deadline, as the channel of this side sees it.
            let outcome = match status.code() {
                Code::Cancelled => NO_ANSWER.to_owned(),
                _ => innermost(source),
            };
            let not_sent = find(source, |cause| cause.downcast_ref::<ConnectError>().map(|_| ())).is_some();
            return Self::Again { after: None, perhaps_done: !not_sent, outcome };
        }
        let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        // A server that gives up at our own deadline, or ends, says Cancelled or DeadlineExceeded.
        let passing = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded);
        if passing || after.is_some() {
            let outcome = match (status.code(), status.message()) {
                (Code::Cancelled | Code::DeadlineExceeded, _) => NO_ANSWER.to_owned(),
                (code, "") => format!("answered {code:?}"),
                (_, message) => message.to_owned(),
            };
            return Self::Again { after, perhaps_done: true, outcome };
        }
        Self::Final
    }
}

/// The first cause for which `pick` has an answer, from the outside in. Errors that `std::io::Error` wraps
/// count, although it does not name them as its source.
fn find<T>(error: &(dyn Error + 'static), pick: impl Fn(&(dyn Error + 'static)) -> Option<T>) -> Option<T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = pick(cause) {
            return Some(found);
        }
        next = inner(cause);
    }
    None
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = inner(last) {
        last = cause;
    }
    last.to_string()
}

fn tls_refusal(cause: &(dyn Error + 'static)) -> Option<String> {
    use rustls::{AlertDescription as Alert, Error as Tls};
    match cause.downcast_ref::<Tls>()? {
        Tls::InvalidCertificate(reason) => {
            Some(format!("the certificate shown there is not that of a controller of this cluster: {reason}"))
        }
        Tls::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateRequired
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied
            | Alert::DecryptError),
        ) => Some(format!("it refused our certificate: {alert:?}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{bytes, check};
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_clusters_refusals_are_final() {
        for code in [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::Unimplemented,
            Code::Internal,
        ] {
            assert_eq!(Verdict::of(&Status::new(code, "no")), Verdict::Final, "{code:?}");
        }
    }

    #[test]
    fn what_says_when_to_come_back_is_tried_again_then() {
        let delay = Duration::from_millis(250);
        for code in [Code::Unavailable, Code::Aborted, Code::ResourceExhausted] {
            let status =
                Status::with_error_details(code, "later", ErrorDetails::with_retry_info(Some(delay)));
            let expected =
                Verdict::Again { after: Some(delay), perhaps_done: true, outcome: "later".to_owned() };
            assert_eq!(Verdict::of(&status), expected, "{code:?}");
        }
        assert!(matches!(Verdict::of(&Status::unavailable("")), Verdict::Again { after: None, .. }));
    }

    #[test]
    fn a_certificate_that_tls_refuses_is_a_matter_of_trust() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let refused = Status::from_error(Box::new(ConnectError(Box::new(io::Error::other(tls)))));
        let broken = Status::from_error(Box::new(ConnectError(Box::new(io::Error::other("reset")))));

        assert!(matches!(Verdict::of(&refused), Verdict::Untrusted(_)), "{refused:?}");
        let expected = Verdict::Again { after: None, perhaps_done: false, outcome: "reset".to_owned() };
        assert_eq!(Verdict::of(&broken), expected);
    }

    #[test]
    fn hostile_details_of_refusals() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(250)));
        let whole = Status::with_error_details(Code::NotFound, "no such node", details);
        check(&bytes(&[whole.details()], &["type.googleapis.com/google.rpc.RetryInfo"]), |details| {
            let status = Status::with_details(Code::NotFound, "no such node", details.into());
            match Verdict::of(&status) {
                Verdict::Final | Verdict::Again { .. } => {}
                untrusted => panic!("{untrusted:?} from what came over the wire"),
            }
            let refused = crate::Rejection::from_status("show node n1", &status);
            assert_eq!(refused.to_string(), "no such node");
        });
    }
}
