//! The stream to the controllers, over loopback, against a scripted controller.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures::Stream;
use hawser_plan::Question;
use hawser_process::tls::{Authority, RestoreVerifier, Role};
use hawser_proto::v1::{
    self, controller_message, satellite_message,
    session_service_server::{SessionService, SessionServiceServer},
};
use hawser_satellite::{
    arbiter::{Answer, Arbiter, Case},
    controllers::Controllers,
    host::{
        Host,
        sim::{FencePeer, SimWorld},
    },
    ledger::Ledger,
    satellite::{Parts, Satellite},
};
use prost::Message;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

type Downwards = mpsc::Sender<Result<v1::ControllerMessage, Status>>;

/// A session as the controller sees it.
struct Session {
    up: Streaming<v1::SatelliteMessage>,
    down: Downwards,
}

impl Session {
    async fn send(&self, message: controller_message::Message) {
        self.down.send(Ok(v1::ControllerMessage { message: Some(message) })).await.unwrap();
    }

    async fn next(&mut self) -> satellite_message::Message {
        self.up.message().await.unwrap().unwrap().message.unwrap()
    }

    async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            satellite_message::Message::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    async fn welcome(&self) {
        self.send(controller_message::Message::Welcome(v1::Welcome { term: 4, session: 1 })).await;
        self.send(controller_message::Message::Heartbeat(v1::Heartbeat { term: 4 })).await;
    }

    /// The next message that `wanted` takes; a heartbeat goes down for each report that comes up.
    async fn until<T>(&mut self, wanted: impl Fn(&satellite_message::Message) -> Option<T>) -> T {
        loop {
            let message = self.next().await;
            if let Some(found) = wanted(&message) {
                return found;
            }
            self.send(controller_message::Message::Heartbeat(v1::Heartbeat { term: 4 })).await;
        }
    }
}

struct Controller {
    sessions: mpsc::Sender<Session>,
}

#[async_trait]
impl SessionService for Controller {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<v1::ControllerMessage, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::SatelliteMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down, answers) = mpsc::channel(16);
        self.sessions.send(Session { up: request.into_inner(), down }).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

async fn controller() -> (SocketAddr, mpsc::Receiver<Session>) {
    let (sessions, opened) = mpsc::channel(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = SessionServiceServer::new(Controller { sessions });
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (address, opened)
}

struct Silent;

#[async_trait]
impl Arbiter for Silent {
    async fn ask(&self, _: &Case, _: &Question, _: &str) -> Answer {
        std::future::pending().await
    }
}

#[async_trait]
impl FencePeer for Silent {
    async fn ask(&self, _: &str, _: &str) -> i32 {
        std::future::pending().await
    }
}

async fn satellite(directory: &TempDir, controllers: &[SocketAddr]) -> (Satellite, Ledger) {
    believing(directory, controllers, RestoreVerifier::none()).await
}

async fn believing(
    directory: &TempDir,
    controllers: &[SocketAddr],
    restores: RestoreVerifier,
) -> (Satellite, Ledger) {
    let world = SimWorld::new(Silent);
    world.add_node("n1", "10.77.0.1".parse().unwrap(), "vg0", "thin", 1 << 30);
    let host = world.host("n1");
    let facts = host.facts().await;
    let ledger = Ledger::open(&directory.path().join("ledger"), "c1", "n1", &facts.boot_id).unwrap();
    let addresses: Vec<String> = controllers.iter().map(ToString::to_string).collect();
    let satellite = Satellite::start(Parts {
        cluster_id: "c1".into(),
        node: "n1".into(),
        facts,
        host: Arc::new(host),
        ledger: ledger.clone(),
        restores,
        controllers: Arc::new(Controllers::new(&addresses, None).unwrap()),
        arbiter: Arc::new(Silent),
        socket: directory.path().join("satellite.sock"),
        seed: 7,
    })
    .await
    .unwrap();
    (satellite, ledger)
}

fn document(revision: u64) -> v1::DesiredDocument {
    v1::DesiredDocument {
        cluster_id: "c1".into(),
        lineage: 1,
        node: "n1".into(),
        revision,
        ..Default::default()
    }
}

fn answer(message: &satellite_message::Message) -> Option<v1::DocumentAnswer> {
    match message {
        satellite_message::Message::Answer(answer) => Some(answer.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_session_says_hello_takes_documents_and_reports() {
    let directory = tempfile::tempdir().unwrap();
    let (address, mut sessions) = controller().await;
    let (satellite, ledger) = satellite(&directory, &[address]).await;
    let mut session = sessions.recv().await.unwrap();
    let hello = session.hello().await;
    assert_eq!((hello.cluster_id.as_str(), hello.node.as_str(), hello.revision), ("c1", "n1", 0));
    session.welcome().await;

    let first = session
        .until(|message| match message {
            satellite_message::Message::Report(report) => Some(report.clone()),
            _ => None,
        })
        .await;
    assert!(first.full && first.sequence == 1);

    let bytes = document(8).encode_to_vec();
    session.send(controller_message::Message::Document(bytes.clone())).await;
    let accepted = session.until(answer).await;
    assert_eq!((accepted.revision, accepted.refused.as_str()), (8, ""));
    assert_eq!(ledger.version().revision.get(), 8, "on the disk before the answer");

    session.send(controller_message::Message::Document(document(7).encode_to_vec())).await;
    let refused = session.until(answer).await;
    assert_eq!(refused.revision, 8);
    assert!(refused.refused.contains("has revision 7, but 8 was accepted"), "{}", refused.refused);

    session.down.send(Err(Status::unavailable("the reign ended"))).await.unwrap();
    let mut next = sessions.recv().await.unwrap();
    let hello = next.hello().await;
    assert_eq!(hello.revision, 8);
    assert_eq!(hello.document_sha256.len(), 32);
    satellite.end().await;
}

#[tokio::test]
async fn a_restore_is_believed_for_its_signature_and_answered_with_what_the_node_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (address, mut sessions) = controller().await;
    let authority = Authority::generate("c1", std::time::SystemTime::now()).unwrap();
    let signed = authority.sign(Role::Satellite, "n1", std::time::SystemTime::now()).unwrap();
    let verifier = RestoreVerifier::of(&signed.authority_pem);
    let (satellite, ledger) = believing(&directory, &[address], verifier).await;
    let removed = v1::RemovedReplica {
        resource: "newer".into(),
        replica_incarnation: 7,
        drbd_name: "newer.7".into(),
        layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
        volumes: vec![v1::DesiredVolume {
            minor: 1000,
            gate_name: "hawser-newer.7-0".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let before = v1::DesiredDocument { removed: vec![removed], ..document(8) };
    ledger.accept(before.encode_to_vec()).await.unwrap();
    let mut session = sessions.recv().await.unwrap();
    session.hello().await;
    session.welcome().await;
    let statement =
        v1::RestoreStatement { cluster_id: "c1".into(), lineage: 2, restore_id: 5, ..Default::default() };
    let statement = statement.encode_to_vec();
    let notice = |signature: Vec<u8>| {
        let record = Some(v1::RestoreRecord { statement: statement.clone(), signature });
        controller_message::Message::Restored(v1::RestoreNotice { record, wants_inventory: true })
    };

    session.send(notice(vec![1; 70])).await;
    let refused = session.until(answer).await.refused;
    assert!(refused.contains("is not signed by the key of this cluster's authority"), "{refused}");

    session.send(notice(authority.sign_restore(&statement).unwrap())).await;
    let inventory = session
        .until(|message| match message {
            satellite_message::Message::Inventory(inventory) => Some(inventory.clone()),
            _ => None,
        })
        .await;
    let held: Vec<_> =
        inventory.replicas.iter().map(|held| (held.resource.as_str(), held.removing)).collect();
    assert_eq!(held, [("newer", true)]);

    // Then orders of the new lineage are obeyed, and what they do not name is looked at for ever.
    let after = v1::DesiredDocument { lineage: 2, revision: 100, restore_id: 5, ..document(0) };
    session.send(controller_message::Message::Document(after.encode_to_vec())).await;
    assert_eq!(session.until(answer).await.refused, "");
    let unknown = session
        .until(|message| match message {
            satellite_message::Message::Report(report) => report.unknown.first().cloned(),
            _ => None,
        })
        .await;
    assert_eq!((unknown.resource.as_str(), unknown.presence()), ("newer", v1::Presence::Absent));
    assert_eq!(unknown.lineage, 2);
    satellite.end().await;
}

#[tokio::test]
async fn a_pool_is_probed_and_a_wrong_one_described() {
    let directory = tempfile::tempdir().unwrap();
    let (address, mut sessions) = controller().await;
    let (satellite, _) = satellite(&directory, &[address]).await;
    let mut session = sessions.recv().await.unwrap();
    session.hello().await;
    session.welcome().await;

    for (id, thin_pool, capacity, has_problem) in [(1, "thin", 1 << 30, false), (2, "thick", 0, true)] {
        let provider = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: thin_pool.into() };
        let provider = Some(v1::probe_pool::Provider::LvmThin(provider));
        session.send(controller_message::Message::ProbePool(v1::ProbePool { id, provider })).await;
        let probed = session
            .until(|message| match message {
                satellite_message::Message::PoolProbed(probed) => Some(probed.clone()),
                _ => None,
            })
            .await;
        let pool = probed.pool.unwrap();
        assert_eq!((probed.id, pool.capacity_bytes), (id, capacity));
        assert_eq!(!pool.problem.is_empty(), has_problem, "{}", pool.problem);
    }
    satellite.end().await;
}

#[tokio::test]
async fn a_silent_leader_is_left_for_another_controller() {
    let directory = tempfile::tempdir().unwrap();
    let (first_address, mut first) = controller().await;
    let (second_address, mut second) = controller().await;
    let (satellite, _) = satellite(&directory, &[first_address, second_address]).await;
    let mut session = first.recv().await.unwrap();
    session.hello().await;
    session.welcome().await;

    // No heartbeat follows; the connection stays open.
    let mut next = second.recv().await.unwrap();

    next.hello().await;
    satellite.end().await;
}
