//! A request about which something is decided first is answered once, whoever decides it how often.

use hawser_controller::{
    api::{caller::Caller, context::Context, error::ApiError, random::Random},
    controller::Controller,
};
use hawser_process::tls::Role;
use hawser_proto::v1::{self, command::Command};
use tonic::Request;

use crate::cluster::{Cluster, key, soon};

fn context(controller: &Controller) -> Context {
    Context {
        consensus: controller.consensus.clone(),
        standing: controller.standing(),
        pages: Default::default(),
        random: Random::seeded(1),
    }
}

fn asked(request: &v1::DeleteResourceRequest) -> Request<v1::DeleteResourceRequest> {
    let mut asked = Request::new(request.clone());
    asked.extensions_mut().insert(Caller { role: Role::Administrator, name: "ann".into() });
    asked
}

fn refused() -> ApiError {
    ApiError::rejected(v1::RejectionReason::AlreadyExists, "decided by what was at hand")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_nobody_committed_gives_way_to_the_answer_that_was_committed_meanwhile() {
    let cluster = Cluster::single().await;
    let controller = cluster.members[0].controller.as_ref().unwrap();
    let mut standing = controller.standing();
    soon("the reign", standing.wait_for(|standing| standing.reign().is_some())).await.unwrap();
    let context = context(controller);
    let request = v1::DeleteResourceRequest { request_key: key(), name: "data".into() };
    let group = v1::CreateResourceGroup { name: "fast".into(), replicas: 2, ..Default::default() };
    let (write, other_try) = (
        context.write(&asked(&request), &request.request_key).unwrap(),
        context.write(&asked(&request), &request.request_key).unwrap(),
    );

    let nothing_committed = write.once(None, async { Err(refused()) }).await;
    let committed = std::sync::Mutex::new(None);
    let meanwhile = write
        .once(None, async {
            let applied = other_try.propose(Command::CreateResourceGroup(group)).await?;
            *committed.lock().unwrap() = Some(applied);
            Err(refused())
        })
        .await;

    assert!(matches!(nothing_committed, Err(ApiError::Rejected(_))), "{nothing_committed:?}");
    assert_eq!(meanwhile.unwrap(), committed.into_inner().unwrap().unwrap());
}
