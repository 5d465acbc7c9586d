//! Questions to the arbiter, over loopback, against controllers of which only one has an answer.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hawser_plan::Question;
use hawser_proto::{
    ids::{Incarnation, Lineage, OutdateNumber, OwnerGeneration},
    v1::{
        self,
        arbiter_service_server::{ArbiterService, ArbiterServiceServer},
    },
};
use hawser_satellite::{
    arbiter::{Answer, Arbiter, Case, ControllerArbiter},
    controllers::Controllers,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// How a controller takes a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It grants it.
    Grants,
    /// It refuses it for good.
    Refuses,
    /// It knows no leader.
    KnowsNoLeader,
    /// Its leader is on the other side of a cut.
    Hangs,
}

struct Controller {
    manner: Manner,
    asked: Arc<Mutex<Vec<Manner>>>,
}

#[tonic::async_trait]
impl ArbiterService for Controller {
    async fn outdate(&self, _: Request<v1::OutdateRequest>) -> Result<Response<v1::OutdateResponse>, Status> {
        self.asked.lock().unwrap().push(self.manner);
        match self.manner {
            Manner::Grants => {
                Ok(Response::new(v1::OutdateResponse { granted: true, number: 9, ..Default::default() }))
            }
            Manner::Refuses => {
                Ok(Response::new(v1::OutdateResponse { reason: "taken over".into(), ..Default::default() }))
            }
            Manner::KnowsNoLeader => Err(Status::unavailable("no leader")),
            Manner::Hangs => std::future::pending().await,
        }
    }

    async fn confirm_owner(
        &self,
        _: Request<v1::ConfirmOwnerRequest>,
    ) -> Result<Response<v1::ConfirmOwnerResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
}

/// An arbiter with these controllers, and who of them was asked, in order.
async fn arbiter(manners: [Manner; 3]) -> (ControllerArbiter, Arc<Mutex<Vec<Manner>>>) {
    let asked = Arc::default();
    let mut addresses = Vec::new();
    for manner in manners {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap().to_string());
        let service = ArbiterServiceServer::new(Controller { manner, asked: Arc::clone(&asked) });
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
    }
    let controllers = Controllers::new(&addresses, None).unwrap();
    (ControllerArbiter::new("n1".into(), Arc::new(controllers)), asked)
}

async fn ask(arbiter: &ControllerArbiter) -> Answer {
    let case =
        Case { lineage: Lineage::new(1), resource: "db".into(), resource_incarnation: Incarnation::new(5) };
    arbiter
        .ask(&case, &Question::Outdate { peer: "n2".into(), generation: OwnerGeneration::new(3) }, "key")
        .await
}

#[tokio::test]
async fn a_frozen_primary_is_answered_by_whoever_can_and_waits_for_nobody_elses_silence() {
    use Manner::{Grants, Hangs, KnowsNoLeader, Refuses};
    for (manners, granted) in [
        ([Hangs, KnowsNoLeader, Grants], true),
        ([KnowsNoLeader, Hangs, Refuses], false),
        ([Hangs, Grants, Hangs], true),
        ([Refuses, Hangs, KnowsNoLeader], false),
    ] {
        let (arbiter, _) = arbiter(manners).await;

        let began = Instant::now();
        let answer = ask(&arbiter).await;

        assert_eq!(answer == Answer::Yes(OutdateNumber::new(9)), granted, "{manners:?}: {answer:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{manners:?}: after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn who_answered_last_is_asked_first() {
    let (arbiter, asked) = arbiter([Manner::Hangs, Manner::KnowsNoLeader, Manner::Grants]).await;
    ask(&arbiter).await;
    assert_eq!(asked.lock().unwrap().first(), Some(&Manner::Hangs));
    asked.lock().unwrap().clear();

    ask(&arbiter).await;

    assert_eq!(asked.lock().unwrap().first(), Some(&Manner::Grants));
}
