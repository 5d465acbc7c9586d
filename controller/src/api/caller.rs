//! Who makes a call: the holder of the connection's certificate, or whom a relaying controller speaks for.
//!
//! It must never believe a header unless the certificate says that the peer is a controller.

use hawser_process::tls::{PeerIdentity, Role};
use http::HeaderMap;

use super::error::ApiError;

/// Header of a relayed call: `<role>/<name>` of whoever made it.
pub const ON_BEHALF_OF: &str = "hawser-on-behalf-of";
/// Header of a relayed call: how often it was passed on. One hop is all there may be.
pub const HOPS: &str = "hawser-hops";

/// The one who makes a call. Every request that reaches a service carries it as an extension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// What the certificate admits to.
    pub role: Role,
    /// Name of the node, the controller or the person.
    pub name: String,
}

impl Caller {
    /// The caller of a service's request.
    ///
    /// # Errors
    /// Where the request did not come through the door; a fault of this program.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, ApiError> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::Internal("the call did not pass the door".into()))
    }

    /// `role/name`, as request keys and relayed calls name it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.role, self.name)
    }
}

/// A caller and whether another member has passed the call on already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Who made the call.
    pub caller: Caller,
    /// It must not be passed on again.
    pub relayed: bool,
}

/// Finds out who makes a call that came over a connection with this peer.
///
/// # Errors
/// Another cluster's certificate, or a relayed call that names its caller wrongly.
pub fn arrival(peer: PeerIdentity, cluster_id: &str, headers: &HeaderMap) -> Result<Arrival, ApiError> {
    if peer.cluster_id != cluster_id {
        return Err(ApiError::Forbidden {
            reason: "WRONG_CLUSTER",
            message: format!(
                "the certificate of {} {} belongs to cluster {}, but this is cluster {cluster_id}",
                peer.role, peer.name, peer.cluster_id
            ),
        });
    }
    let direct = Caller { role: peer.role, name: peer.name };
    // Anybody may send the headers; only a controller's are believed.
    let Some(named) = headers.get(ON_BEHALF_OF).filter(|_| direct.role == Role::Controller) else {
        return Ok(Arrival { caller: direct, relayed: false });
    };
    let caller = named
        .to_str()
        .ok()
        .and_then(|named| named.split_once('/'))
        .and_then(|(role, name)| Some((role.parse::<Role>().ok()?, name)))
        // A controller asks for itself, directly.
        .filter(|(role, name)| *role != Role::Controller && !name.is_empty())
        .map(|(role, name)| Caller { role, name: name.to_owned() })
        .ok_or_else(|| {
            ApiError::Protocol(format!(
                "controller {} relayed a call on behalf of {named:?}, which is not <role>/<name> of a satellite \
                 or an administrator",
                direct.name
            ))
        })?;
    Ok(Arrival { caller, relayed: true })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_hostile::{bytes, check};

    use super::*;

    fn peer(role: Role) -> PeerIdentity {
        PeerIdentity { cluster_id: "c1".into(), role, name: "x".into() }
    }

    fn headers(on_behalf_of: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(ON_BEHALF_OF), on_behalf_of.parse().unwrap())])
    }

    #[test]
    fn only_a_controller_speaks_for_others() {
        let named = headers("administrator/root");
        let relayed = arrival(peer(Role::Controller), "c1", &named).unwrap();
        assert_eq!(relayed.caller.id(), "administrator/root");
        assert!(relayed.relayed);

        for role in [Role::Satellite, Role::Administrator] {
            let direct = arrival(peer(role), "c1", &named).unwrap();
            assert_eq!(direct, Arrival { caller: Caller { role, name: "x".into() }, relayed: false });
        }
    }

    #[test]
    fn a_relayed_call_that_names_no_caller_is_refused() {
        for word in ["", "root", "administrator/", "king/root", "controller/c2"] {
            let refused = arrival(peer(Role::Controller), "c1", &headers(word));
            assert!(matches!(refused, Err(ApiError::Protocol(_))), "{word:?}");
        }
    }

    #[test]
    fn another_clusters_certificate_is_refused_and_named() {
        let error = arrival(peer(Role::Administrator), "c2", &HeaderMap::new()).unwrap_err();
        assert!(error.to_string().contains("belongs to cluster c1, but this is cluster c2"), "{error}");
    }

    #[test]
    fn hostile_headers_never_make_a_controller_of_anybody() {
        check(&bytes(&[b"administrator/root", b"satellite/n1"], &["controller", "/"]), |bytes| {
            let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { return };
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(ON_BEHALF_OF), value)]);
            for role in [Role::Controller, Role::Satellite, Role::Administrator] {
                match arrival(peer(role), "c1", &headers) {
                    Ok(Arrival { caller, relayed: true }) => {
                        assert!(role == Role::Controller && caller.role != Role::Controller, "{caller:?}");
                        assert_eq!(caller.id().as_bytes(), bytes);
                    }
                    Ok(Arrival { caller, relayed: false }) => {
                        assert_eq!(caller, Caller { role, name: "x".into() })
                    }
                    Err(error) => assert!(matches!(error, ApiError::Protocol(_)), "{error}"),
                }
            }
        });
    }
}
