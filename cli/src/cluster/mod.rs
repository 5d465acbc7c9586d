//! `hawser cluster`: the certificates, made where the authority's key lies, and the controllers.

use clap::Subcommand;

use crate::{context::Context, failure::Failure, output::Screen};

mod add_member;
mod backup;
mod backup_file;
mod certificate;
mod create_store;
mod init;
mod remove_member;
mod restore;
mod status;
mod transfer_leader;
mod unknown;

/// The verbs, by whether they talk to the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    Local(LocalVerb),
    #[command(flatten)]
    Remote(RemoteVerb),
}

/// What is done on the administrator's machine alone.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalVerb {
    Init(init::Init),
    Certificate(certificate::Certificate),
    Restore(restore::Restore),
}

/// What a controller is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteVerb {
    AddMember(add_member::AddMember),
    RemoveMember(remove_member::RemoveMember),
    TransferLeader(transfer_leader::TransferLeader),
    Status(status::Status),
    Backup(backup::Backup),
    Unknown(unknown::Unknown),
}

impl LocalVerb {
    pub(crate) fn run(self, screen: &Screen) -> Result<(), Failure> {
        match self {
            Self::Init(verb) => verb.run(screen),
            Self::Certificate(verb) => verb.run(screen),
            Self::Restore(verb) => verb.run(screen),
        }
    }
}

impl RemoteVerb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::AddMember(verb) => verb.run(context).await,
            Self::RemoveMember(verb) => verb.run(context).await,
            Self::TransferLeader(verb) => verb.run(context).await,
            Self::Status(verb) => verb.run(context).await,
            Self::Backup(verb) => verb.run(context).await,
            Self::Unknown(verb) => verb.run(context).await,
        }
    }
}
