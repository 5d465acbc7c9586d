//! Controllers are removed and made to lead, by whoever is asked; what cannot be is refused and changes nothing.

use hawser_proto::v1::{self, RejectionReason};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    bad_input::field,
    cluster::{Cluster, Member, key, node_request, soon},
    relaying::leader_and_followers,
};

fn remove(name: &str) -> v1::RemoveMemberRequest {
    v1::RemoveMemberRequest { request_key: key(), name: name.into() }
}

fn lead(name: &str) -> v1::TransferLeadershipRequest {
    v1::TransferLeadershipRequest { name: name.into() }
}

fn revision(member: &Member) -> u64 {
    member.controller.as_ref().unwrap().consensus.view().revision()
}

/// Asks again, as a client does, until the answer is not that the leader has changed.
async fn removed(
    cluster: &Cluster,
    asked: usize,
    request: v1::RemoveMemberRequest,
) -> v1::RemoveMemberResponse {
    let mut client = cluster.cluster_client(asked);
    let answer = async {
        loop {
            match client.remove_member(request.clone()).await {
                Ok(answer) => return answer.into_inner(),
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
    };
    soon("the removal", answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_controller_ends_and_a_repeated_request_is_answered_alike() {
    let mut cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;
    let (leaving, other) = (followers[0], followers[1]);
    let name = cluster.members[leaving].name.clone();
    let controller = cluster.members[leaving].controller.take().unwrap();
    let ended = tokio::spawn(controller.run(CancellationToken::new()));

    // When another one that does not lead is asked to remove it.
    let request = remove(&name);
    let answer = removed(&cluster, other, request.clone()).await;

    // Then Raft has let it go, the answer says who votes, and its process ends with words.
    assert!(answer.has_left);
    let names: Vec<_> = answer.members.iter().map(|view| view.member.clone().unwrap().name).collect();
    assert!(names.len() == 2 && !names.contains(&name), "{names:?}");
    let voters = answer.members.iter().filter(|view| view.role() == v1::MemberRole::Voter).count();
    let reasons = answer.members.iter().filter(|view| !view.reason.is_empty()).count();
    assert_eq!((voters, reasons), (1, 1));
    let error = soon("its end", ended).await.unwrap().unwrap_err().to_string();
    assert!(error.contains(&format!("controller {name} (member {}) was removed", answer.raft_id)), "{error}");

    // The same request again has the same answer, another one finds nothing to remove.
    let again = removed(&cluster, other, request).await;
    assert_eq!((again.result, again.raft_id), (answer.result, answer.raft_id));
    let before = revision(&cluster.members[leader]);
    let refused = cluster.cluster_client(other).remove_member(remove(&name)).await.unwrap_err();
    assert_eq!((refused.code(), field(&refused).as_str()), (Code::NotFound, "name"));
    assert!(refused.message().contains("has been removed already"), "{}", refused.message());
    assert_eq!(revision(&cluster.members[leader]), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leading_controller_is_removed_by_its_successor() {
    let mut cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;
    let name = cluster.members[leader].name.clone();
    let controller = cluster.members[leader].controller.take().unwrap();
    let ended = tokio::spawn(controller.run(CancellationToken::new()));

    let answer = removed(&cluster, followers[0], remove(&name)).await;

    assert!(answer.has_left);
    let error = soon("its end", ended).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("was removed from the cluster"), "{error}");
    let mut nodes = cluster.nodes(followers[1]);
    let written = async {
        loop {
            match nodes.create_node(node_request("n1")).await {
                Ok(_) => return,
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
    };
    soon("a write under the next leader", written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_goes_to_whom_a_person_names() {
    let cluster = Cluster::of_three().await;
    let (leader, followers) = leader_and_followers(&cluster).await;
    let successor = cluster.members[followers[0]].name.clone();

    // Asked at another follower; the answer may get lost with the old leader, and is the same the next time.
    let mut client = cluster.cluster_client(followers[1]);
    let answer = async {
        loop {
            match client.transfer_leadership(lead(&successor)).await {
                Ok(answer) => return answer.into_inner(),
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
    };
    let answer = soon("the hand-over", answer).await;

    assert_eq!(answer.leader, successor);
    let (now, _) = leader_and_followers(&cluster).await;
    assert!(now == followers[0] && now != leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_or_lead_is_refused_by_its_field() {
    let cluster = Cluster::single().await;
    let announced =
        v1::AddMemberRequest { request_key: key(), name: "c2".into(), address: "127.0.0.1:1".into() };
    soon("the announcement", cluster.cluster_client(0).add_member(announced)).await.unwrap();
    let before = revision(&cluster.members[0]);

    let no_key = v1::RemoveMemberRequest { request_key: String::new(), ..remove("c2") };
    let removals = [
        (no_key, Code::InvalidArgument, "request_key", "a request key has"),
        (remove(""), Code::InvalidArgument, "name", ""),
        (remove("C 2"), Code::InvalidArgument, "name", ""),
        (remove("c9"), Code::NotFound, "name", "hawser cluster status"),
        (remove(&cluster.members[0].name), Code::FailedPrecondition, "", "cannot be removed now"),
    ];
    for (request, code, named, words) in removals {
        let status = cluster.cluster_client(0).remove_member(request.clone()).await.unwrap_err();
        expect(&status, code, named, words);
    }
    let transfers = [
        (lead(""), Code::InvalidArgument, "name", ""),
        (lead("C 2"), Code::InvalidArgument, "name", ""),
        (lead("c9"), Code::NotFound, "name", "hawser cluster status"),
        (lead("c2"), Code::FailedPrecondition, "", "does not vote, so it cannot lead"),
    ];
    for (request, code, named, words) in transfers {
        let status = cluster.cluster_client(0).transfer_leadership(request.clone()).await.unwrap_err();
        expect(&status, code, named, words);
    }
    assert_eq!(revision(&cluster.members[0]), before);
    let state = cluster.members[0].controller.as_ref().unwrap().consensus.view().state();
    assert_eq!(state.members().count(), 2);

    // Without the announced one it is the last, which is said by the state itself.
    removed(&cluster, 0, remove("c2")).await;
    let status = cluster.cluster_client(0).remove_member(remove(&cluster.members[0].name)).await.unwrap_err();
    expect(&status, Code::FailedPrecondition, "", "is the last one of this cluster");
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!(
        info.reason,
        RejectionReason::Precondition.as_str_name().trim_start_matches("REJECTION_REASON_")
    );
}

fn expect(status: &Status, code: Code, named: &str, words: &str) {
    assert_eq!((status.code(), field(status).as_str()), (code, named), "{status:?}");
    assert!(!status.message().is_empty() && status.message().contains(words), "{}", status.message());
}
