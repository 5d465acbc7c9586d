//! A cluster of one controller that answers by script, behind real TLS.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use hawser_process::tls::{self, Authority, Identity, Role};
use hawser_proto::v1::{
    self, cluster_service_server, node_service_server, operation_service_server, resource_service_server,
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

/// What the controller answers; what it was asked is noted.
#[derive(Default)]
pub(crate) struct Script {
    /// Answer to each attempt to create a resource, the last one first.
    pub(crate) create: Vec<Result<v1::CreateResourceResponse, Status>>,
    /// What each stream of an operation says, the last stream first. A stream without a word stays silent.
    pub(crate) streams: Vec<Vec<Result<v1::OperationView, Status>>>,
    /// Pages of nodes, in their order.
    pub(crate) nodes: Vec<Vec<v1::NodeView>>,
    /// Answer to `add-member`.
    pub(crate) ticket: Option<v1::JoinTicket>,
    /// Bytes of a backup, chunk by chunk; what comes after an empty one breaks off. None: there is no leader.
    pub(crate) backup: Vec<Vec<u8>>,
    /// What nodes hold that the cluster does not know.
    pub(crate) unknown: Vec<v1::UnknownReplica>,
    /// Request keys of the creates.
    pub(crate) keys: Vec<String>,
}

/// A node that is online, and nothing else is known of it.
pub(crate) fn node(name: &str) -> v1::NodeView {
    v1::NodeView {
        desired: Some(v1::Node { name: name.into(), ..Default::default() }),
        online: true,
        ..Default::default()
    }
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Script>>);

/// A running controller and the files that a client needs.
pub(crate) struct Cluster {
    pub(crate) directory: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
}

impl Cluster {
    /// Starts the controller with `script`.
    pub(crate) async fn start(script: Script) -> Self {
        tls::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::generate("c1", SystemTime::now()).unwrap();
        let sign = |role: Role, name: &str| {
            let place = directory.path().join(name);
            authority.sign(role, name, SystemTime::now()).unwrap().save(&place).unwrap();
            place
        };
        let server_tls = Identity::load(&sign(Role::Controller, "n1")).unwrap().server_tls();
        sign(Role::Administrator, "ada");
        sign(Role::Satellite, "n2");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (file, who) in [("client.toml", "ada"), ("satellite.toml", "n2")] {
            let text = format!("controllers = [\"{address}\"]\ntls_directory = \"{who}\"\n");
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let script = Arc::new(Mutex::new(script));
        let fake = Fake(Arc::clone(&script));
        let server = Server::builder()
            .tls_config(server_tls)
            .unwrap()
            .add_service(node_service_server::NodeServiceServer::new(fake.clone()))
            .add_service(resource_service_server::ResourceServiceServer::new(fake.clone()))
            .add_service(operation_service_server::OperationServiceServer::new(fake.clone()))
            .add_service(cluster_service_server::ClusterServiceServer::new(fake));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { directory, script }
    }

    /// Runs `hawser` with the administrator's configuration.
    pub(crate) async fn hawser(&self, arguments: &[&str]) -> Said {
        hawser(Some(&self.directory.path().join("client.toml")), self.directory.path(), arguments).await
    }

    /// Starts `hawser` with a terminal to write to.
    pub(crate) fn on_terminal(&self, arguments: &[&str], terminal: OwnedFd) -> Child {
        let mut command = in_place(Some(&self.directory.path().join("client.toml")), self.directory.path());
        command.args(arguments).stdin(Stdio::null()).stdout(terminal).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Request keys that the controller has seen.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.script.lock().unwrap().keys.clone()
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `hawser` in `place`, without any configuration but `configuration`.
pub(crate) async fn hawser(configuration: Option<&PathBuf>, place: &Path, arguments: &[&str]) -> Said {
    let mut command = in_place(configuration, place);
    command.args(arguments);
    said(command).await
}

/// Asks `hawser`, as the fish shell does, what the last of `words` may become.
pub(crate) async fn complete(configuration: Option<&PathBuf>, place: &Path, words: &[&str]) -> Said {
    let mut command = in_place(configuration, place);
    command.env("HAWSER_COMPLETE", "fish").args(["--", "hawser"]).args(words);
    said(command).await
}

fn in_place(configuration: Option<&PathBuf>, place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
    command.env_clear().env("XDG_CONFIG_HOME", place.join("nothing-here")).current_dir(place);
    if let Some(configuration) = configuration {
        command.env("HAWSER_CONFIG", configuration);
    }
    command
}

async fn said(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

fn not_scripted<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not of this test"))
}

#[tonic::async_trait]
impl resource_service_server::ResourceService for Fake {
    async fn create_resource(
        &self,
        request: Request<v1::CreateResourceRequest>,
    ) -> Result<Response<v1::CreateResourceResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.keys.push(request.into_inner().request_key);
        script.create.pop().unwrap().map(Response::new)
    }

    async fn delete_resource(
        &self,
        _request: Request<v1::DeleteResourceRequest>,
    ) -> Result<Response<v1::DeleteResourceResponse>, Status> {
        not_scripted()
    }

    async fn list_resources(
        &self,
        _request: Request<v1::ListResourcesRequest>,
    ) -> Result<Response<v1::ListResourcesResponse>, Status> {
        Ok(Response::new(v1::ListResourcesResponse { revision: 3, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl operation_service_server::OperationService for Fake {
    type WaitOperationStream = Pin<Box<dyn Stream<Item = Result<v1::OperationView, Status>> + Send>>;

    async fn list_operations(
        &self,
        _request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        not_scripted()
    }

    async fn wait_operation(
        &self,
        _request: Request<v1::WaitOperationRequest>,
    ) -> Result<Response<Self::WaitOperationStream>, Status> {
        let words = self.0.lock().unwrap().streams.pop().unwrap_or_default();
        let stays_open = words.iter().all(|word| word.as_ref().is_ok_and(|view| !has_ended(view)));
        let words = tokio_stream::iter(words);
        if stays_open {
            return Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(
                words,
                tokio_stream::pending(),
            ))));
        }
        Ok(Response::new(Box::pin(words)))
    }

    async fn cancel_operation(
        &self,
        _request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::CancelOperationResponse>, Status> {
        not_scripted()
    }
}

fn has_ended(view: &v1::OperationView) -> bool {
    view.operation.as_ref().is_some_and(|operation| operation.state() != v1::OperationState::Running)
}

#[tonic::async_trait]
impl node_service_server::NodeService for Fake {
    async fn create_node(
        &self,
        _request: Request<v1::CreateNodeRequest>,
    ) -> Result<Response<v1::CreateNodeResponse>, Status> {
        let result = Some(v1::WriteResult { revision: 12, operation: 0 });
        Ok(Response::new(v1::CreateNodeResponse { result }))
    }

    async fn delete_node(
        &self,
        _request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        not_scripted()
    }

    async fn lose_node(
        &self,
        request: Request<v1::LoseNodeRequest>,
    ) -> Result<Response<v1::LoseNodeResponse>, Status> {
        if request.into_inner().accept_data_loss != ["scratch"] {
            let message = "node n2 has the last complete copy of scratch: bring the node back";
            return Err(Status::failed_precondition(message));
        }
        Ok(Response::new(v1::LoseNodeResponse {
            result: Some(v1::WriteResult { revision: 9, operation: 0 }),
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let script = self.0.lock().unwrap();
        let token = request.into_inner().page.unwrap_or_default().token;
        let index: usize = if token.is_empty() { 0 } else { token.parse().unwrap() };
        let more = index + 1 < script.nodes.len();
        Ok(Response::new(v1::ListNodesResponse {
            nodes: script.nodes.get(index).cloned().unwrap_or_default(),
            revision: 40,
            next_page_token: if more { (index + 1).to_string() } else { String::new() },
        }))
    }
}

#[tonic::async_trait]
impl cluster_service_server::ClusterService for Fake {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(v1::GetStatusResponse { cluster_name: "prod".into(), ..Default::default() }))
    }

    async fn add_member(
        &self,
        _request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let ticket = self.0.lock().unwrap().ticket.clone();
        let result = Some(v1::WriteResult { revision: 9, operation: 0 });
        Ok(Response::new(v1::AddMemberResponse { result, ticket }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let view = |raft_id: u64, role: v1::MemberRole, reason: &str| v1::MemberView {
            member: Some(v1::Member { raft_id, name: format!("n{raft_id}"), ..Default::default() }),
            role: role.into(),
            reason: reason.into(),
            ..Default::default()
        };
        let gone = request.into_inner().name;
        if gone != "n3" {
            return Err(Status::failed_precondition(format!(
                "controller {gone} is the last one of this cluster"
            )));
        }
        Ok(Response::new(v1::RemoveMemberResponse {
            result: Some(v1::WriteResult { revision: 9, operation: 0 }),
            raft_id: 3,
            has_left: true,
            members: vec![
                view(1, v1::MemberRole::Voter, ""),
                view(2, v1::MemberRole::Learner, "keeps the log but does not vote"),
            ],
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let leader = request.into_inner().name;
        if leader != "n2" {
            return Err(Status::failed_precondition(format!("controller {leader} does not answer")));
        }
        Ok(Response::new(v1::TransferLeadershipResponse { leader, term: 5 }))
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

    async fn backup(
        &self,
        _request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let chunks = self.0.lock().unwrap().backup.clone();
        if chunks.is_empty() {
            return Err(Status::unavailable("controller n1 knows no leader"));
        }
        let chunks = chunks.into_iter().map(|chunk| {
            let breaks_off = chunk.is_empty();
            let chunk = v1::BackupResponse { header: None, chunk };
            if breaks_off { Err(Status::unavailable("the leader has gone")) } else { Ok(chunk) }
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks.collect::<Vec<_>>()))))
    }

    async fn list_unknown(
        &self,
        _request: Request<v1::ListUnknownRequest>,
    ) -> Result<Response<v1::ListUnknownResponse>, Status> {
        let replicas = self.0.lock().unwrap().unknown.clone();
        Ok(Response::new(v1::ListUnknownResponse { replicas, revision: 40, ..Default::default() }))
    }
}
