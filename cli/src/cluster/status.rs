//! `hawser cluster status`: every controller is asked and each says what it knows, with or without a quorum.

use std::time::Duration;

use clap::Args;
use hawser_client::{ClientError, Tried, Unanswered};
use hawser_proto::{numbers, v1};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    context::Context,
    failure::Failure,
    output::table::{columns, pairs},
    view::word,
};

/// Show the controllers, who leads, and whether they have a quorum
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hawser cluster status\n  hawser cluster status -o json")]
pub(crate) struct Status {}

/// What the controllers that answered say.
#[derive(Debug, Serialize)]
pub(super) struct ClusterStatus {
    cluster_id: String,
    cluster_name: String,
    lineage: u64,
    feature_level: u32,
    term: u64,
    leader: Option<String>,
    has_quorum: bool,
    /// What the cluster may hand out for DRBD; null before it has begun.
    numbers: Option<Numbers>,
    /// After a restore: nodes that have not said yet what they hold, and were not declared lost.
    waits_for_nodes: Vec<String>,
    /// Replicas on nodes that the restored cluster does not know.
    unknown_replicas: u32,
    members: Vec<Member>,
    asked: Vec<Asked>,
}

/// Ranges as people write them.
#[derive(Debug, Serialize)]
struct Numbers {
    minors: String,
    ports: String,
    reserved_ports: Vec<String>,
}

impl From<&v1::Numbers> for Numbers {
    fn from(said: &v1::Numbers) -> Self {
        let (minors, ports, reserved) = numbers::or_default(Some(said));
        Self {
            minors: numbers::written(&minors),
            ports: numbers::written(&ports),
            reserved_ports: reserved.iter().map(numbers::written).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Member {
    raft_id: u64,
    name: String,
    address: String,
    role: String,
    /// Why it does not vote; null for a voter that stays.
    reason: Option<String>,
    leads: bool,
    /// As the leader sees it; null where the leader was not asked or does not know.
    matched_revision: Option<u64>,
    /// As the member itself says; null where it did not answer.
    applied_revision: Option<u64>,
}

/// An endpoint of the configuration.
#[derive(Debug, Serialize)]
struct Asked {
    endpoint: String,
    member: Option<String>,
    term: Option<u64>,
    has_quorum: Option<bool>,
    error: Option<String>,
}

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let limit = context.request_limit();
        let answers = context
            .client
            .ask_each(limit, |controller| async move {
                controller.cluster().get_status(v1::GetStatusRequest {}).await
            })
            .await;
        let Some(status) = ClusterStatus::of(&answers) else {
            return Err(nobody_answered(answers, limit).into());
        };
        let revision = status.members.iter().filter_map(|member| member.applied_revision).max();
        context.screen.single(&status, revision.unwrap_or_default(), ClusterStatus::describe)
    }
}

fn nobody_answered<T>(answers: Vec<(String, Result<T, Unanswered>)>, within: Duration) -> ClientError {
    let what = "ask for the status".to_owned();
    let mut untrusted = true;
    let mut tried = Vec::with_capacity(answers.len());
    for (endpoint, answer) in answers {
        if let Err(error) = answer {
            untrusted &= error.untrusted;
            tried.push(Tried { endpoint, outcome: error.outcome });
        }
    }
    if untrusted {
        ClientError::NotTrusted { what, tried }
    } else {
        ClientError::Unreachable { what, within, tried, perhaps_done: false }
    }
}

impl ClusterStatus {
    /// From each endpoint's answer; `None` if there is none.
    fn of(answers: &[(String, Result<v1::GetStatusResponse, Unanswered>)]) -> Option<Self> {
        // Who knows of the highest term knows most; at the same term, who has a quorum, and then who has applied most.
        let given = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let best = given().max_by_key(|answer| {
            (answer.term, answer.has_quorum, answer.leader != 0, answer.applied_revision)
        })?;
        let leader = best
            .members
            .iter()
            .filter_map(|view| view.member.as_ref())
            .find(|member| best.leader != 0 && member.raft_id == best.leader);
        let members = best.members.iter().map(|view| {
            let member = view.member.clone().unwrap_or_default();
            let own = given().find(|answer| answer.member == member.name);
            let matched = given()
                .filter(|answer| answer.term == best.term)
                .flat_map(|answer| &answer.members)
                .filter(|other| other.member.as_ref().is_some_and(|other| other.raft_id == member.raft_id))
                .map(|other| other.matched_revision)
                .max();
            Member {
                raft_id: member.raft_id,
                role: word::member_role(view.role),
                reason: word::text(&view.reason),
                leads: best.leader != 0 && best.leader == member.raft_id,
                matched_revision: matched.filter(|revision| *revision > 0),
                applied_revision: own.map(|answer| answer.applied_revision),
                name: member.name,
                address: member.address,
            }
        });
        let asked = answers.iter().map(|(endpoint, answer)| {
            let given = answer.as_ref().ok();
            Asked {
                endpoint: endpoint.clone(),
                member: given.map(|answer| answer.member.clone()),
                term: given.map(|answer| answer.term),
                has_quorum: given.map(|answer| answer.has_quorum),
                error: answer.as_ref().err().map(|error| error.outcome.clone()),
            }
        });
        Some(Self {
            cluster_id: best.cluster_id.clone(),
            cluster_name: best.cluster_name.clone(),
            lineage: best.lineage,
            feature_level: best.feature_level,
            term: best.term,
            leader: leader.map(|member| member.name.clone()),
            has_quorum: given().any(|answer| answer.term == best.term && answer.has_quorum),
            numbers: best.numbers.as_ref().map(Numbers::from),
            waits_for_nodes: best.waits_for_nodes.clone(),
            unknown_replicas: best.unknown_replicas,
            members: members.collect(),
            asked: asked.collect(),
        })
    }

    /// What a restored cluster waits for; empty where it does not.
    fn settling(&self) -> String {
        if self.waits_for_nodes.is_empty() {
            return String::new();
        }
        format!(
            "waits for {} to say what they hold; nothing is removed or handed out before (`hawser node lost` for one that \
             never comes back)",
            self.waits_for_nodes.join(", ")
        )
    }

    fn unknown(&self) -> String {
        match self.unknown_replicas {
            0 => String::new(),
            count => {
                format!("{count} replicas that were made after the backup; see `hawser cluster unknown`")
            }
        }
    }

    fn describe(&self, width: Option<u16>, _now: Timestamp) -> String {
        let quorum =
            if self.has_quorum { "yes" } else { "no: changes wait until a majority of voters is back" };
        let mut facts = vec![
            ("cluster", format!("{} ({})", self.cluster_name, self.cluster_id)),
            ("leader", self.leader.clone().unwrap_or_else(|| "none known".to_owned())),
            ("quorum", quorum.to_owned()),
            ("term", self.term.to_string()),
            ("lineage", self.lineage.to_string()),
        ];
        let restored = [("settling", self.settling()), ("unknown", self.unknown())];
        facts.extend(restored.into_iter().filter(|(_, text)| !text.is_empty()));
        let facts = pairs(&facts);
        let rows = self.members.iter().map(|member| {
            let role = if member.leads { "leader".to_owned() } else { member.role.clone() };
            let revision = |revision: Option<u64>| revision.map(|it| it.to_string()).unwrap_or_default();
            let applied = revision(member.applied_revision);
            vec![
                member.name.clone(),
                member.address.clone(),
                role,
                applied,
                revision(member.matched_revision),
            ]
        });
        let headers = ["NAME", "ADDRESS", "ROLE", "APPLIED", "MATCHED"];
        let mut text = format!("{facts}\n{}\n", columns(&headers, rows.collect(), width));
        for member in &self.members {
            if let Some(reason) = &member.reason {
                text.push_str(&format!("\n{} {reason}", member.name));
            }
        }
        for asked in &self.asked {
            if let Some(error) = &asked.error {
                text.push_str(&format!("\n{} did not answer: {error}", asked.endpoint));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(member: &str, term: u64, leader: u64, quorum: bool) -> v1::GetStatusResponse {
        let view = |raft_id: u64, name: &str| v1::MemberView {
            member: Some(v1::Member {
                raft_id,
                name: name.into(),
                address: format!("10.77.0.{raft_id}:6470"),
                store_incarnation: 9,
            }),
            role: v1::MemberRole::Voter.into(),
            matched_revision: if leader == 2 && member == "n2" { 40 + raft_id } else { 0 },
            reason: String::new(),
        };
        let learner = v1::MemberView {
            role: v1::MemberRole::Learner.into(),
            reason: "keeps the log but does not vote: it is the third".into(),
            ..view(3, "n3")
        };
        v1::GetStatusResponse {
            cluster_id: "c1".into(),
            cluster_name: "prod".into(),
            lineage: 1,
            member: member.into(),
            term,
            leader,
            applied_revision: 40,
            members: vec![view(1, "n1"), view(2, "n2"), learner],
            feature_level: 1,
            has_quorum: quorum,
            numbers: Some(v1::Numbers {
                reserved_ports: vec![v1::NumberRange { first: 7010, last: 7019 }],
                ..Default::default()
            }),
            waits_for_nodes: Vec::new(),
            unknown_replicas: 0,
        }
    }

    fn gone(outcome: &str) -> Unanswered {
        Unanswered { outcome: outcome.to_owned(), untrusted: false }
    }

    #[test]
    fn who_knows_the_newest_term_is_believed() {
        let answers = [
            ("h1:1".to_owned(), Ok(answer("n1", 3, 1, false))),
            ("h2:1".to_owned(), Ok(answer("n2", 4, 2, true))),
            ("h3:1".to_owned(), Err(gone("connection refused"))),
        ];
        let status = ClusterStatus::of(&answers).unwrap();
        assert_eq!(status.leader.as_deref(), Some("n2"));
        assert!(status.has_quorum);
        insta::assert_snapshot!(status.describe(None, Timestamp::UNIX_EPOCH));
        insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap());
    }

    #[test]
    fn of_equals_the_one_that_has_applied_most_is_believed() {
        let ahead = v1::GetStatusResponse { applied_revision: 41, ..answer("n1", 4, 2, true) };
        let behind = || {
            let mut answer = answer("n3", 4, 2, true);
            answer.members.pop();
            answer
        };
        for answers in [[ahead.clone(), behind()], [behind(), ahead]] {
            let answers = answers.map(|answer| (answer.member.clone(), Ok(answer)));
            assert_eq!(ClusterStatus::of(&answers).unwrap().members.len(), 3);
        }
    }

    #[test]
    fn a_restored_cluster_says_whom_it_waits_for_and_what_it_does_not_know() {
        let restored = v1::GetStatusResponse {
            waits_for_nodes: vec!["n2".into(), "n3".into()],
            unknown_replicas: 2,
            ..answer("n1", 3, 1, true)
        };
        let text = ClusterStatus::of(&[("h1:1".to_owned(), Ok(restored))])
            .unwrap()
            .describe(None, Timestamp::UNIX_EPOCH);
        assert!(text.contains("settling  waits for n2, n3 to say what they hold"), "{text}");
        assert!(text.contains("unknown   2 replicas that were made after the backup"), "{text}");
    }

    #[test]
    fn without_a_leader_it_says_so() {
        let answers = [("h1:1".to_owned(), Ok(answer("n1", 3, 0, false)))];
        let text = ClusterStatus::of(&answers).unwrap().describe(None, Timestamp::UNIX_EPOCH);
        assert!(text.contains("leader   none known"), "{text}");
        assert!(text.contains("quorum   no"), "{text}");
        assert!(ClusterStatus::of(&[("h1:1".to_owned(), Err(gone("gone")))]).is_none());
    }
}
