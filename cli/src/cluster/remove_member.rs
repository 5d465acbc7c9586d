//! `hawser cluster remove-member`: takes a controller out of the cluster for good.

use clap::Args;
use hawser_client::request_key;
use hawser_proto::v1;
use serde::Serialize;

use crate::{context::Context, failure::Failure, view::word};

/// Take a controller out of the cluster for good, also one that is lost
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster remove-member n3

A controller that is lost can be removed as long as a majority of the others answers. The number of voters stays
odd: of two that would be left one keeps the log without a vote, until a further controller has joined.
Its id and its store are never let in again. For a new controller of that name:
  hawser cluster add-member n3 10.77.0.3:6470")]
pub(crate) struct RemoveMember {
    /// Name of the controller
    name: String,
}

/// What the JSON form says beyond the write itself.
#[derive(Serialize)]
struct Removed {
    raft_id: u64,
    /// False: that Raft lets it go still waits for a majority of the voters.
    has_left: bool,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    name: String,
    role: String,
    /// Why it does not vote; null for a voter.
    reason: Option<String>,
}

impl RemoveMember {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let name = &self.name;
        let request = v1::RemoveMemberRequest { request_key: request_key(), name: name.clone() };
        let answer = context
            .call(&format!("remove member {name}"), async |controller| {
                controller.cluster().remove_member(request.clone()).await
            })
            .await?;
        let members = answer.members.into_iter().map(|view| Member {
            name: view.member.unwrap_or_default().name,
            role: word::member_role(view.role),
            reason: word::text(&view.reason),
        });
        let removed =
            Removed { raft_id: answer.raft_id, has_left: answer.has_left, members: members.collect() };
        context.finish(answer.result, &removed.describe(name), removed).await
    }
}

impl Removed {
    fn describe(&self, name: &str) -> String {
        let mut text = format!("controller {name} is removed");
        if !self.has_left {
            text.push_str(
                "; Raft lets it go as soon as a majority of the voters agrees, see `hawser cluster status`",
            );
        }
        let voters: Vec<_> =
            self.members.iter().filter(|member| member.role == "voter").map(|it| it.name.as_str()).collect();
        text.push_str(&format!("; these vote: {}", voters.join(", ")));
        for member in &self.members {
            if let Some(reason) = &member.reason {
                text.push_str(&format!("\n{} {reason}", member.name));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_votes_and_why_others_do_not() {
        let member = |name: &str, role: &str, reason: Option<&str>| Member {
            name: name.into(),
            role: role.into(),
            reason: reason.map(str::to_owned),
        };
        let removed = Removed {
            raft_id: 7,
            has_left: true,
            members: vec![
                member("n1", "voter", None),
                member("n2", "learner", Some("keeps the log but does not vote")),
            ],
        };
        assert_eq!(
            removed.describe("n3"),
            "controller n3 is removed; these vote: n1\nn2 keeps the log but does not vote"
        );
        let waits = Removed { has_left: false, ..removed };
        assert!(waits.describe("n3").contains("as soon as a majority of the voters agrees"));
    }
}
