//! The client against controllers that are dead, silent, busy, strangers or final.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use hawser_client::{Client, ClientError, request_key};
use hawser_process::tls::{self, Authority, Identity, PeerIdentity, Role};
use hawser_proto::v1::{
    self,
    cluster_service_server::{ClusterService, ClusterServiceServer},
    node_service_server::{NodeService, NodeServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

const AMPLE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

/// What a controller says of itself.
struct Standing {
    leads: bool,
}

#[tonic::async_trait]
impl ClusterService for Standing {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let itself = v1::Member { raft_id: 3, name: "n3".into(), ..Default::default() };
        Ok(Response::new(v1::GetStatusResponse {
            member: "n3".into(),
            leader: if self.leads { 3 } else { 1 },
            has_quorum: true,
            members: vec![v1::MemberView { member: Some(itself), ..Default::default() }],
            ..Default::default()
        }))
    }

    async fn add_member(
        &self,
        _request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    async fn remove_member(
        &self,
        _request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    async fn transfer_leadership(
        &self,
        _request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    type BackupStream = tokio_stream::Empty<Result<v1::BackupResponse, Status>>;

    async fn backup(
        &self,
        _request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    async fn list_unknown(
        &self,
        _request: Request<v1::ListUnknownRequest>,
    ) -> Result<Response<v1::ListUnknownResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
}

/// A controller that answers `refusals` first, then yes; it notes each key and caller.
#[derive(Clone, Default)]
struct Fake {
    refusals: Arc<Mutex<Vec<Status>>>,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

#[tonic::async_trait]
impl NodeService for Fake {
    async fn create_node(
        &self,
        request: Request<v1::CreateNodeRequest>,
    ) -> Result<Response<v1::CreateNodeResponse>, Status> {
        let caller = PeerIdentity::from_request(&request).unwrap().caller();
        self.seen.lock().unwrap().push((request.into_inner().request_key, caller));
        match self.refusals.lock().unwrap().pop() {
            Some(refusal) => Err(refusal),
            None => Ok(Response::new(v1::CreateNodeResponse {
                result: Some(v1::WriteResult { revision: 7, operation: 0 }),
            })),
        }
    }

    async fn delete_node(
        &self,
        _request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        std::future::pending().await
    }

    async fn lose_node(
        &self,
        _request: Request<v1::LoseNodeRequest>,
    ) -> Result<Response<v1::LoseNodeResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
}

fn identity(authority: &Authority, role: Role, name: &str) -> Identity {
    let directory = tempfile::tempdir().unwrap();
    authority.sign(role, name, SystemTime::now()).unwrap().save(directory.path()).unwrap();
    Identity::load(directory.path()).unwrap()
}

fn authority() -> Authority {
    Authority::generate("c1", SystemTime::now()).unwrap()
}

/// Serves `fake` as `role` of `authority` and returns its address.
async fn serve(fake: Fake, authority: &Authority, role: Role) -> String {
    serve_as(fake, Standing { leads: false }, authority, role).await
}

async fn serve_as(fake: Fake, standing: Standing, authority: &Authority, role: Role) -> String {
    tls::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .tls_config(identity(authority, role, "n1").server_tls())
        .unwrap()
        .add_service(ClusterServiceServer::new(standing))
        .add_service(NodeServiceServer::new(fake));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address.to_string()
}

/// An address where nobody listens.
async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    address.to_string()
}

async fn create(client: &Client, key: &str, within: Duration) -> Result<v1::CreateNodeResponse, ClientError> {
    let request = v1::CreateNodeRequest { request_key: key.to_owned(), ..Default::default() };
    client
        .call("create node n9", within, async |controller| {
            controller.nodes().create_node(request.clone()).await
        })
        .await
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let authority = authority();
    let fake = Fake::default();
    let addresses = [dead().await, serve(fake.clone(), &authority, Role::Controller).await];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    let answer = create(&client, "k1", AMPLE).await.unwrap();

    assert_eq!(answer.result.unwrap().revision, 7);
    assert_eq!(*fake.seen.lock().unwrap(), [("k1".to_owned(), "administrator/ada".to_owned())]);
}

#[tokio::test]
async fn the_leader_is_asked_first() {
    let authority = authority();
    let (follower, leader) = (Fake::default(), Fake::default());
    let addresses = [
        serve(follower.clone(), &authority, Role::Controller).await,
        serve_as(leader.clone(), Standing { leads: true }, &authority, Role::Controller).await,
    ];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    create(&client, "k1", AMPLE).await.unwrap();
    create(&client, "k2", AMPLE).await.unwrap();

    assert_eq!(leader.seen.lock().unwrap().len(), 2);
    assert!(follower.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_process_that_is_stopped_is_passed_over() {
    let authority = authority();
    // Its kernel accepts the connection; nobody ever speaks.
    let stopped = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [
        stopped.local_addr().unwrap().to_string(),
        serve(Fake::default(), &authority, Role::Controller).await,
    ];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    let answer = create(&client, "k1", AMPLE).await.unwrap();

    assert_eq!(answer.result.unwrap().revision, 7);
}

#[tokio::test]
async fn a_busy_controller_is_asked_again_with_the_same_key() {
    let authority = authority();
    let fake = Fake::default();
    let later = ErrorDetails::with_retry_info(Some(Duration::from_millis(20)));
    *fake.refusals.lock().unwrap() = vec![
        Status::with_error_details(Code::Unavailable, "no leader", later),
        Status::unavailable("no leader"),
    ];
    let addresses = [serve(fake.clone(), &authority, Role::Controller).await];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();
    let key = request_key();

    create(&client, &key, AMPLE).await.unwrap();

    let keys: Vec<String> = fake.seen.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, [key.clone(), key.clone(), key]);
}

#[tokio::test]
async fn a_refusal_is_final_and_told_whole() {
    let authority = authority();
    let fake = Fake::default();
    let mut details = ErrorDetails::with_error_info("INVALID", "hawser", HashMap::new());
    details.add_bad_request_violation("name", "node name \"N9\" is not allowed");
    let refusal =
        Status::with_error_details(Code::InvalidArgument, "node name \"N9\" is not allowed", details);
    *fake.refusals.lock().unwrap() = vec![refusal];
    let addresses = [
        serve(fake.clone(), &authority, Role::Controller).await,
        serve(fake.clone(), &authority, Role::Controller).await,
    ];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    let error = create(&client, "k1", AMPLE).await.unwrap_err();

    let ClientError::Rejected(rejection) = &error else { panic!("{error:?}") };
    assert_eq!(rejection.code, Code::InvalidArgument);
    assert_eq!((rejection.reason.as_str(), rejection.field.as_str()), ("INVALID", "name"));
    assert_eq!(error.to_string(), "cannot create node n9: node name \"N9\" is not allowed");
    assert_eq!(fake.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn at_the_deadline_everything_that_was_tried_is_named() {
    let authority = authority();
    let addresses = [dead().await, dead().await];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    let error = create(&client, "k1", SHORT).await.unwrap_err();

    let ClientError::Unreachable { perhaps_done: false, .. } = &error else { panic!("{error:?}") };
    let text = error.to_string();
    assert!(
        text.starts_with("cannot create node n9: no controller could serve it within 0.4 s; tried "),
        "{text}"
    );
    for address in addresses {
        assert!(text.contains(&format!("{address} (Connection refused")), "{text}");
    }
}

#[tokio::test]
async fn a_request_without_an_answer_may_have_been_done() {
    let authority = authority();
    let addresses = [serve(Fake::default(), &authority, Role::Controller).await];
    let client = Client::new(&addresses, &identity(&authority, Role::Administrator, "ada")).unwrap();

    let error = client
        .call("delete node n9", SHORT, async |controller| {
            controller.nodes().delete_node(v1::DeleteNodeRequest::default()).await
        })
        .await
        .unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, ClientError::Unreachable { perhaps_done: true, .. }), "{text}");
    assert!(text.contains("may have been carried out"), "{text}");

    let read = client
        .read("delete node n9", SHORT, async |controller| {
            controller.nodes().delete_node(v1::DeleteNodeRequest::default()).await
        })
        .await
        .unwrap_err();
    assert!(matches!(read, ClientError::Unreachable { perhaps_done: false, .. }), "{read}");
}

#[tokio::test]
async fn strangers_are_not_trusted() {
    let ours = authority();
    let theirs = authority();
    let administrator = identity(&ours, Role::Administrator, "ada");
    for (what, served_by, role) in [
        ("another cluster's controller", &theirs, Role::Controller),
        ("a satellite that claims to be a controller", &ours, Role::Satellite),
    ] {
        let fake = Fake::default();
        let addresses = [serve(fake.clone(), served_by, role).await];
        let client = Client::new(&addresses, &administrator).unwrap();

        let error = create(&client, "k1", AMPLE).await.unwrap_err();

        assert!(matches!(error, ClientError::NotTrusted { .. }), "{what}: {error}");
        assert!(error.to_string().contains(&addresses[0]), "{what}: {error}");
        assert!(fake.seen.lock().unwrap().is_empty(), "{what} was told the request");
    }
}

#[tokio::test]
async fn addresses_that_are_none_are_refused_by_name() {
    let administrator = identity(&authority(), Role::Administrator, "ada");
    for address in ["", "10.0.0.1", "10.0.0.1:port", "https://10.0.0.1:6470", "a b:1"] {
        let error = Client::new(&[address], &administrator).err().unwrap();
        assert!(error.to_string().contains(&format!("{address:?}")), "{error}");
    }
    let none: [&str; 0] = [];
    assert!(matches!(Client::new(&none, &administrator), Err(ClientError::NoEndpoint)));
}
