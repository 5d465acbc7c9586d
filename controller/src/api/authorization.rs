//! Which role may call which service: one table, and no call that it does not name.
//!
//! It knows certificates' roles and gRPC paths only. What a satellite may say about which node is checked where
//! the message is known: in the session and in the arbiter.

use super::error::ApiError;

/// What a certificate admits its bearer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A member of the cluster, or a relayed call's carrier.
    Controller,
    /// A node's satellite.
    Satellite,
    /// A person or a program that gives orders.
    Administrator,
}

impl Role {
    /// The role by the word that certificates carry.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "controller" => Some(Self::Controller),
            "satellite" => Some(Self::Satellite),
            "administrator" => Some(Self::Administrator),
            _ => None,
        }
    }

    /// The word that certificates carry.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Satellite => "satellite",
            Self::Administrator => "administrator",
        }
    }
}

/// Service names without the package, and who may call them.
const TABLE: [(&str, &[Role]); 12] = [
    ("RaftService", &[Role::Controller]),
    ("SessionService", &[Role::Satellite]),
    ("ArbiterService", &[Role::Satellite]),
    ("ClusterService", &[Role::Administrator]),
    ("NodeService", &[Role::Administrator]),
    ("PoolService", &[Role::Administrator]),
    ("ResourceGroupService", &[Role::Administrator]),
    ("ResourceService", &[Role::Administrator]),
    ("ReplicaService", &[Role::Administrator]),
    ("AttachmentService", &[Role::Administrator]),
    ("OperationService", &[Role::Administrator]),
    ("WatchService", &[Role::Administrator]),
];

const PACKAGE: &str = "hawser.v1.";

/// The service's name in a path such as `/hawser.v1.NodeService/ListNodes`, and the method's.
#[must_use]
pub fn service_and_method(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.strip_prefix(PACKAGE)?.split_once('/')
}

/// Allows or refuses a call.
///
/// # Errors
/// [`ApiError::Forbidden`] names the caller, the service and who may call it.
pub fn authorize(role: Role, name: &str, path: &str) -> Result<(), ApiError> {
    let service = service_and_method(path).map_or("", |(service, _)| service);
    let allowed = TABLE.iter().find(|(known, _)| *known == service).map_or(&[][..], |(_, roles)| roles);
    if allowed.contains(&role) {
        return Ok(());
    }
    let who = allowed.iter().map(|role| role.word()).collect::<Vec<_>>().join(" or ");
    let who = if who.is_empty() { "nobody: there is no such service".to_owned() } else { who };
    Err(ApiError::Forbidden {
        reason: "WRONG_ROLE",
        message: format!(
            "the certificate of {} {name} may not call {path}; it is for the role {who}",
            role.word()
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_role_reaches_its_own_services_only() {
        use Role::{Administrator, Controller, Satellite};
        let table = [
            ("/hawser.v1.RaftService/Vote", [true, false, false]),
            ("/hawser.v1.SessionService/Open", [false, true, false]),
            ("/hawser.v1.ArbiterService/Outdate", [false, true, false]),
            ("/hawser.v1.ResourceService/CreateResource", [false, false, true]),
            ("/hawser.v1.ClusterService/GetStatus", [false, false, true]),
            ("/hawser.v1.UnknownService/Get", [false, false, false]),
            ("/hawser.v2.NodeService/ListNodes", [false, false, false]),
            ("/", [false, false, false]),
        ];
        for (path, expected) in table {
            let allowed =
                [Controller, Satellite, Administrator].map(|role| authorize(role, "x", path).is_ok());
            assert_eq!(allowed, expected, "{path}");
        }
    }

    #[test]
    fn a_refusal_names_caller_call_and_who_may() {
        let error = authorize(Role::Satellite, "n1", "/hawser.v1.NodeService/CreateNode").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate of satellite n1 may not call /hawser.v1.NodeService/CreateNode; \
             it is for the role administrator"
        );
    }
}
