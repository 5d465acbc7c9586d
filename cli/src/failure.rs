//! How a command ends that was not done: one line on standard error and an exit code.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use hawser_client::{ClientError, WaitError};
use hawser_process::{
    configuration::ConfigurationError,
    tls::{AuthorityError, IdentityError},
};
use hawser_proto::names::InvalidField;

use crate::view::operation::Operation;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}{option}{remedy}", option = option(.0), remedy = remedy(.0))]
    Client(#[from] ClientError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(
        "there is no client configuration (looked for {}); name one with --config or {}; \
         `hawser cluster init` writes one",
        shown(.looked_at), crate::configuration::VARIABLE
    )]
    NoConfiguration { looked_at: Vec<PathBuf> },
    #[error(
        "the identity in {} is that of {found}, but only an administrator gives orders; \
         name an administrator's identity as tls_directory in the client configuration", .directory.display()
    )]
    NotAnAdministrator { directory: PathBuf, found: String },
    /// A value on the command line that no controller was asked about.
    #[error("{0}")]
    Field(#[from] InvalidField),
    /// A value on the command line that contradicts another.
    #[error("{0}")]
    Usage(String),
    #[error("{what} does not exist; `{list}` shows what there is")]
    NotFound { what: String, list: &'static str },
    #[error("operation {id} ({title}) {state}{why}", id = .0.id, title = .0.title(), state = .0.state, why = because(.0))]
    Ended(Box<Operation>),
    #[error(
        "operation {id}{} has not ended within {seconds} s{}; it goes on: follow it with \
         `hawser operation wait {id}`", title(.last), waiting(.last)
    )]
    StillRunning { id: u64, seconds: f64, last: Option<Box<Operation>> },
    #[error("{} exists already and is not overwritten; choose another place or move it away", .0.display())]
    Exists(PathBuf),
    #[error("{} {reason}", .path.display())]
    NoBackup { path: PathBuf, reason: String },
    #[error("the backup broke off: {reason}; nothing was written, try again")]
    BrokeOff { reason: String },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the answer of the cluster lacks {0}; the controller may be of another version than this command"
    )]
    Incomplete(&'static str),
    #[error("cannot write the answer: {0}")]
    Screen(#[from] io::Error),
    #[error("the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the answer cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser_error::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    /// What became of waiting, with the operation as it was last seen.
    pub(crate) fn of_wait(error: WaitError) -> Self {
        match error {
            WaitError::Client(error) => Self::Client(error),
            WaitError::TimedOut { id, within, last } => Self::StillRunning {
                id,
                seconds: within.as_secs_f64(),
                last: last.map(|view| Box::new(Operation::from(&*view))),
            },
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Unreachable { .. } | ClientError::NotTrusted { .. }) => 3,
            Self::StillRunning { .. } => 4,
            Self::Client(ClientError::NoEndpoint | ClientError::BadEndpoint { .. })
            | Self::Configuration(_)
            | Self::Identity(_)
            | Self::NoConfiguration { .. }
            | Self::NotAnAdministrator { .. }
            | Self::Field(_)
            | Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Says it on standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Whoever closed the pipe has read what they wanted.
        if let Self::Screen(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        // Where standard error is gone too, only the exit code is left to tell.
        let _unreported = writeln!(io::stderr(), "error: {self}");
        ExitCode::from(self.code())
    }
}

/// The option that a refused value was typed with. What stands alone on the command line has no name there, and the
/// refusal shows the value.
fn option(error: &ClientError) -> String {
    let ClientError::Rejected(rejection) = error else { return String::new() };
    let mut parts = rejection.field.split(['.', '[']);
    let option = match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        ("volume_sizes", _) => "--size",
        ("replicas", _) => "--replicas",
        ("nodes", _) => "--node",
        ("pool", _) => "--pool",
        ("group", _) => "--group",
        ("layers", _) => "--layers",
        ("addresses", _) => "--address",
        ("lvm_thin", _) => "--lvm-thin",
        ("lvm", _) => "--lvm",
        ("directory", _) => "--directory",
        ("overcommit_percent", _) => "--overcommit",
        ("accept_data_loss", _) => "--accept-data-loss",
        ("options", "net") => "--net",
        ("options", "disk") => "--disk",
        ("options", "resource") => "--resource",
        _ => return String::new(),
    };
    format!(" ({option})")
}

fn remedy(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => {
            "; check that a controller runs there, and that --controllers or the client configuration names it; \
             `hawser cluster status` shows whether they have a quorum"
        }
        ClientError::NotTrusted { .. } => {
            "; check that tls_directory in the client configuration belongs to this cluster"
        }
        _ => "",
    }
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn because(operation: &Operation) -> String {
    operation.waiting().map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn title(last: &Option<Box<Operation>>) -> String {
    last.as_ref().map(|operation| format!(" ({})", operation.title())).unwrap_or_default()
}

fn waiting(last: &Option<Box<Operation>>) -> String {
    let Some(operation) = last else { return String::new() };
    let phase = operation.phase.as_ref().map(|phase| format!(": phase {phase}")).unwrap_or_default();
    let reason = operation.waiting().map(|reason| format!(", waits for {reason}")).unwrap_or_default();
    phase + &reason
}

#[cfg(test)]
mod tests {
    use hawser_client::Rejection;

    use super::*;

    #[test]
    fn a_refusal_names_the_option_that_was_typed_and_no_field_of_the_api() {
        for (field, expected) in [
            ("volume_sizes[0]", "cannot create it: it is wrong (--size)"),
            ("options.net.protocol", "cannot create it: it is wrong (--net)"),
            ("options.disk", "cannot create it: it is wrong (--disk)"),
            ("nodes[1]", "cannot create it: it is wrong (--node)"),
            ("lvm_thin.volume_group", "cannot create it: it is wrong (--lvm-thin)"),
            ("name", "cannot create it: it is wrong"),
            ("", "cannot create it: it is wrong"),
        ] {
            let rejection = Rejection {
                what: "create it".into(),
                code: tonic::Code::InvalidArgument,
                reason: "INVALID".into(),
                field: field.into(),
                message: "it is wrong".into(),
            };
            assert_eq!(Failure::from(ClientError::Rejected(rejection)).to_string(), expected, "{field}");
        }
    }
}
