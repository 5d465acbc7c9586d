//! Which role may call which service: one table, and no call that it does not name.
//!
//! It knows certificates' roles and gRPC paths only. What a satellite may say about which node is checked where
//! the message is known: in the session and in the arbiter.

use hawser_process::tls::Role;

use super::{caller::Caller, error::ApiError};

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
pub fn authorize(caller: &Caller, path: &str) -> Result<(), ApiError> {
    let service = service_and_method(path).map_or("", |(service, _)| service);
    let allowed = TABLE.iter().find(|(known, _)| *known == service).map_or(&[][..], |(_, roles)| roles);
    if allowed.contains(&caller.role) {
        return Ok(());
    }
    let who = match allowed {
        [] => "there is no such service".to_owned(),
        roles => {
            let words: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
            format!("it is for the role {}", words.join(" or "))
        }
    };
    Err(ApiError::Forbidden {
        reason: "WRONG_ROLE",
        message: format!("the certificate of {} {} may not call {path}; {who}", caller.role, caller.name),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_hostile::{check, texts};

    use super::*;

    fn caller(role: Role) -> Caller {
        Caller { role, name: "n1".into() }
    }

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
                [Controller, Satellite, Administrator].map(|role| authorize(&caller(role), path).is_ok());
            assert_eq!(allowed, expected, "{path}");
        }
    }

    #[test]
    fn a_refusal_names_caller_call_and_who_may() {
        let error = authorize(&caller(Role::Satellite), "/hawser.v1.NodeService/CreateNode").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate of satellite n1 may not call /hawser.v1.NodeService/CreateNode; \
             it is for the role administrator"
        );
    }

    #[test]
    fn hostile_paths_open_no_service_of_another_role() {
        let samples = ["/hawser.v1.RaftService/AppendEntries", "/hawser.v1.NodeService/ListNodes"];
        check(&texts(&samples, &["RaftService", "hawser.v1.", "//", "SessionService"]), |path| {
            for role in [Role::Controller, Role::Satellite, Role::Administrator] {
                if authorize(&Caller { role, name: "x".into() }, &path).is_ok() {
                    let service = service_and_method(&path).map(|(service, _)| service);
                    assert!(
                        TABLE.iter().any(|(known, roles)| Some(*known) == service && roles.contains(&role))
                    );
                }
            }
        });
    }
}
