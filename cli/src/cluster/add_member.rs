//! `hawser cluster add-member`: announces a further controller and writes the order to make its store.

use std::path::PathBuf;

use clap::Args;
use hawser_client::request_key;
use hawser_proto::v1;
use serde::Serialize;

use super::create_store::{self, CreateStore, Reservation};
use crate::{context::Context, failure::Failure};

/// Announce a controller; it joins when it starts with the file that this writes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster add-member n2 10.77.0.2:6470 --out controllers/n2/create-store.json

The file belongs into the new controller's data directory, /var/lib/hawser/controller/.
Until the controller has joined, the same command writes the same order again.
The controller also needs a certificate: hawser cluster certificate controller n2 --directory DIR")]
pub(crate) struct AddMember {
    /// Name of the new controller, as in its certificate
    name: String,
    /// host:port under which the others reach it
    address: String,
    /// File to write; it may not exist yet
    #[arg(long, default_value = create_store::FILE, value_name = "FILE")]
    out: PathBuf,
}

/// What the JSON form says beyond the write itself.
#[derive(Serialize)]
struct Announced<'a> {
    raft_id: u64,
    file: &'a PathBuf,
}

impl AddMember {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { name, address, out } = self;
        // Before anything is announced: an announcement without its file helps nobody.
        let reserved = Reservation::of(out.clone())?;
        let request = v1::AddMemberRequest { request_key: request_key(), name: name.clone(), address };
        let answer = context
            .call(&format!("add member {name}"), async |controller| {
                controller.cluster().add_member(request.clone()).await
            })
            .await?;
        let ticket = answer.ticket.ok_or(Failure::Incomplete("the join ticket"))?;
        let raft_id = ticket.raft_id;
        reserved.fill(&CreateStore::from(ticket))?;
        let done =
            format!("controller {name} is announced; start it with {} in its data directory", out.display());
        context.finish(answer.result, &done, Announced { raft_id, file: &out }).await
    }
}
