//! `hawser cluster`: the certificates, made where the authority's key lies, and the controllers.

use clap::Subcommand;

use crate::{context::Context, failure::Failure, output::Screen};

mod add_member;
mod certificate;
mod create_store;
mod init;
mod remove_member;
mod status;
mod transfer_leader;

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
}

/// What a controller is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteVerb {
    AddMember(add_member::AddMember),
    RemoveMember(remove_member::RemoveMember),
    TransferLeader(transfer_leader::TransferLeader),
    Status(status::Status),
}

impl LocalVerb {
    pub(crate) fn run(self, screen: &Screen) -> Result<(), Failure> {
        match self {
            Self::Init(verb) => verb.run(screen),
            Self::Certificate(verb) => verb.run(screen),
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
        }
    }
}
