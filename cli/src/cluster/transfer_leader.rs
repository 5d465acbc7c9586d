//! `hawser cluster transfer-leader`: lets another controller lead, e.g. before a machine is serviced.

use clap::Args;
use hawser_proto::v1;
use serde::Serialize;

use crate::{context::Context, failure::Failure};

/// Let the named controller lead
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster transfer-leader n2

A controller that is stopped in order (SIGTERM) hands the leadership over by itself.")]
pub(crate) struct TransferLeader {
    /// Name of the controller; it has to vote and to answer
    name: String,
}

/// What the JSON form says.
#[derive(Serialize)]
struct Leads {
    leader: String,
    term: u64,
}

impl TransferLeader {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = v1::TransferLeadershipRequest { name: self.name.clone() };
        // Asked again, the next leader answers that it leads already.
        let answer = context
            .call(&format!("transfer the leadership to {}", self.name), async |controller| {
                controller.cluster().transfer_leadership(request.clone()).await
            })
            .await?;
        let leads = Leads { leader: answer.leader, term: answer.term };
        context.screen.answer(&format!("controller {} leads", leads.leader), &leads)
    }
}
