//! A resource changes hands: refused while its holder is healthy, granted when the holder cannot go on, and the
//! arbiter tells exactly one of them yes.

use hawser_process::tls::Role;
use hawser_proto::v1::{self, arbiter_service_client::ArbiterServiceClient};
use tonic::Code;

use super::{
    cluster::{Cluster, key, soon},
    lifecycle::{attach, create, two_nodes},
    satellite::Satellite,
};

async fn resource(cluster: &Cluster) -> v1::Resource {
    let consensus = &cluster.members[0].controller.as_ref().unwrap().consensus;
    consensus.view().state().resource("data").unwrap().clone()
}

async fn ask_to_outdate(cluster: &Cluster, node: &str, peer: &str, generation: u64) -> v1::OutdateResponse {
    let mut arbiter = ArbiterServiceClient::new(cluster.channel(0, Role::Satellite, node));
    let request = v1::OutdateRequest {
        node: node.into(),
        resource: "data".into(),
        resource_incarnation: resource(cluster).await.incarnation,
        peer: peer.into(),
        generation,
        request_key: key(),
        lineage: 1,
    };
    soon("the arbiter's answer", arbiter.outdate(request)).await.unwrap().into_inner()
}

fn request(node: &str) -> v1::CreateAttachmentRequest {
    v1::CreateAttachmentRequest { request_key: key(), resource: "data".into(), node: node.into(), mode: 0 }
}

async fn wait_until(cluster: &Cluster, what: &str, done: impl Fn(&v1::Resource) -> bool) {
    let view = cluster.members[0].controller.as_ref().unwrap().consensus.view().clone();
    let reached = async {
        let mut revisions = view.revisions();
        while !view.state().resource("data").is_some_and(&done) {
            revisions.changed().await.unwrap();
        }
    };
    soon(what, reached).await;
}

fn outdated(resource: &v1::Resource) -> Vec<&str> {
    let arbitration = resource.arbitration.as_ref().unwrap();
    arbitration.outdated.iter().map(|outdated| outdated.node.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_a_power_cut_takes_over_and_the_loser_is_told_no() {
    let cluster = Cluster::single().await;
    let [one, two] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;

    // The power cut: the satellite is gone, DRBD on the other side notices.
    drop(one);
    two.play(|script| script.cut_off = true).await;
    let asked = request("n2");
    let taken = soon("the take-over", cluster.attachments(0).create_attachment(asked.clone())).await;
    let taken = taken.unwrap().into_inner();
    assert_eq!(taken.taken_over_from, "n1");
    let again = cluster.attachments(0).create_attachment(asked.clone()).await.unwrap().into_inner();
    assert_eq!(again, taken, "the same key and the same request");
    let operation = cluster.wait(0, taken.result.unwrap().operation).await;
    assert_eq!(operation.state(), v1::OperationState::Succeeded);
    let after = resource(&cluster).await;
    assert_eq!(after.arbitration.as_ref().unwrap().owner, "n2");
    assert_eq!(outdated(&after), ["n1"]);

    // The old owner's kernel had asked, too: it owned generation 1.
    let answer = ask_to_outdate(&cluster, "n1", "n2", 1).await;
    assert!(!answer.granted);
    assert!(!answer.reason.is_empty());

    // Back and in sync: the mark goes, and nothing before that clears it.
    let back = Satellite::start(&cluster, 0, "n1").await;
    back.play(|script| script.cut_off = true).await;
    two.play(|script| script.cut_off = false).await;
    assert_eq!(outdated(&resource(&cluster).await), ["n1"]);
    back.play(|script| script.cut_off = false).await;
    wait_until(&cluster, "the sync", |resource| outdated(resource).is_empty()).await;
    let much_later = cluster.attachments(0).create_attachment(asked).await.unwrap().into_inner();
    assert_eq!(much_later, taken, "the answer does not depend on what became of the mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_waits_until_the_survivor_keeps_the_owner_away_and_is_withdrawn_with_its_request() {
    let cluster = Cluster::single().await;
    let [one, two] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;
    drop(one);
    two.play(|script| {
        script.cut_off = true;
        script.keeps_nobody_away = true;
    })
    .await;

    let claimed = |resource: &v1::Resource| {
        resource.arbitration.as_ref().and_then(|arbitration| arbitration.claim.clone())
    };
    let mut attachments = cluster.attachments(0);
    let asking = tokio::spawn(async move { attachments.create_attachment(request("n2")).await });
    wait_until(&cluster, "the claim", |resource| claimed(resource).is_some_and(|claim| claim.node == "n2"))
        .await;
    assert_eq!(resource(&cluster).await.arbitration.unwrap().owner, "n1");
    // Whoever asked has gone.
    asking.abort();
    wait_until(&cluster, "the withdrawal", |resource| claimed(resource).is_none()).await;
    assert_eq!(outdated(&resource(&cluster).await), [""; 0]);

    let refused =
        soon("the refusal", cluster.attachments(0).create_attachment(request("n2"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("has not said yet that it keeps node n1 away"),
        "{}",
        refused.message()
    );
    wait_until(&cluster, "the withdrawal", |resource| claimed(resource).is_none()).await;

    two.play(|script| script.keeps_nobody_away = false).await;
    let taken = soon("the take-over", cluster.attachments(0).create_attachment(request("n2"))).await.unwrap();
    assert_eq!(taken.into_inner().taken_over_from, "n1");
    let after = resource(&cluster).await;
    assert_eq!((claimed(&after), outdated(&after)), (None, vec!["n1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_goes_on_and_its_peer_cannot_take_over() {
    let cluster = Cluster::single().await;
    let [one, two] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;

    one.play(|script| {
        script.cut_off = true;
        script.suspended = "fencing".into();
    })
    .await;
    two.play(|script| script.cut_off = true).await;
    let yes = ask_to_outdate(&cluster, "n1", "n2", 1).await;
    assert!(yes.granted && yes.number > 0, "{yes:?}");

    let refused =
        soon("the refusal", cluster.attachments(0).create_attachment(request("n2"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the replica of data on node n2 is behind"), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_holder_is_not_robbed() {
    let cluster = Cluster::single().await;
    let [one, _two] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;

    let mut attachments = cluster.attachments(0);
    let asking = attachments.create_attachment(request("n2"));
    // The holder speaks after the request was made: it lives.
    let speaking = async {
        loop {
            one.play(|_| {}).await;
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::select! {
        answer = asking => answer.unwrap_err(),
        () = speaking => unreachable!("it speaks for ever"),
    };
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("detach it there first"), "{}", refused.message());
    assert_eq!(one.node, "n1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_beside_a_good_copy_is_marked() {
    let cluster = Cluster::single().await;
    let [_one, two] = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;

    two.play(|script| script.disk = Some(v1::DiskState::Diskless)).await;
    wait_until(&cluster, "the mark", |resource| outdated(resource) == ["n2"]).await;
    two.play(|script| script.disk = None).await;
    wait_until(&cluster, "the sync", |resource| outdated(resource).is_empty()).await;
}

/// Numbers of another history of the cluster mean other things: a question about them is neither answered with yes
/// nor with no, so that whoever asks stays frozen and goes on asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_another_lineage_has_no_answer() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;
    let before = resource(&cluster).await;
    let mut arbiter = ArbiterServiceClient::new(cluster.channel(0, Role::Satellite, "n1"));
    for lineage in [0, 2] {
        let outdate = v1::OutdateRequest {
            node: "n1".into(),
            resource: "data".into(),
            resource_incarnation: before.incarnation,
            peer: "n2".into(),
            generation: 1,
            request_key: key(),
            lineage,
        };
        let confirm = v1::ConfirmOwnerRequest {
            node: "n1".into(),
            resource: "data".into(),
            resource_incarnation: before.incarnation,
            generation: 1,
            lineage,
        };
        let refusals =
            [arbiter.outdate(outdate).await.unwrap_err(), arbiter.confirm_owner(confirm).await.unwrap_err()];
        for status in refusals {
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert!(
                status.message().contains(&format!("lineage {lineage}, but this cluster is at lineage 1"))
            );
        }
    }
    assert_eq!(resource(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_stands_until_it_is_taken() {
    let cluster = Cluster::single().await;
    let _satellites = two_nodes(&cluster).await;
    create(&cluster, "data").await;
    attach(&cluster, "data", "n1").await;
    let incarnation = resource(&cluster).await.incarnation;

    let mut arbiter = ArbiterServiceClient::new(cluster.channel(0, Role::Satellite, "n1"));
    let table = [(incarnation, 1, true), (incarnation, 2, false), (incarnation + 1, 1, false)];
    for (resource_incarnation, generation, expected) in table {
        let question = v1::ConfirmOwnerRequest {
            node: "n1".into(),
            resource: "data".into(),
            resource_incarnation,
            generation,
            lineage: 1,
        };
        let answer = arbiter.confirm_owner(question).await.unwrap().into_inner();
        assert_eq!(answer.confirmed, expected, "{resource_incarnation} {generation}");
    }
}
