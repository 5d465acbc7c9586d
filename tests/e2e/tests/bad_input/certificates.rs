//! Callers with the wrong certificate, or none, at every service of a controller's port.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::Cluster;
use hawser_process::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, install_crypto_provider};
use hawser_proto::v1::{
    self, arbiter_service_client::ArbiterServiceClient, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, raft_service_client::RaftServiceClient,
    resource_service_client::ResourceServiceClient, session_service_client::SessionServiceClient,
};
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

/// Port of a controller's services.
const API: u16 = 6470;

/// Who calls.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// Somebody with a certificate of this cluster.
    Own { role: &'static str, name: &'static str },
    /// The same, who adds that it speaks for an administrator.
    OnBehalf { role: &'static str, name: &'static str },
    /// An administrator of another cluster.
    Foreign,
    /// Somebody without a certificate.
    Nobody,
    /// Somebody who speaks no TLS.
    Plain,
}

/// What is called.
#[derive(Debug, Clone, Copy)]
enum Call {
    ListNodes,
    CreateNode,
    DeleteResource,
    AddMember,
    Outdate { node: &'static str },
    Session { node: &'static str, own_cluster: bool },
    Append { own_cluster: bool },
    Vote,
    PreVote,
    TransferLeader,
    InstallSnapshot,
    Join,
}

const SATELLITE: Caller = Caller::Own { role: "satellite", name: "n1" };
const STRANGER: Caller = Caller::Own { role: "satellite", name: "n9" };
const CONTROLLER: Caller = Caller::Own { role: "controller", name: "n9" };
const ADMINISTRATOR: Caller = Caller::Own { role: "administrator", name: "ada" };

/// Refused with this code and these words. No code: the connection is not even made.
type Refused = (Option<Code>, &'static [&'static str]);

const DENIED: Option<Code> = Some(Code::PermissionDenied);

const TABLE: [(Caller, Call, Refused); 29] = [
    (Caller::Nobody, Call::ListNodes, (None, &[])),
    (Caller::Nobody, Call::CreateNode, (None, &[])),
    (Caller::Nobody, Call::Vote, (None, &[])),
    (Caller::Plain, Call::CreateNode, (None, &[])),
    (Caller::Foreign, Call::ListNodes, (None, &[])),
    (Caller::Foreign, Call::CreateNode, (None, &[])),
    (Caller::Foreign, Call::Session { node: "n1", own_cluster: true }, (None, &[])),
    (Caller::Foreign, Call::Append { own_cluster: true }, (None, &[])),
    (SATELLITE, Call::ListNodes, (DENIED, &["satellite n1", "role administrator"])),
    (SATELLITE, Call::CreateNode, (DENIED, &["satellite n1", "CreateNode", "role administrator"])),
    (SATELLITE, Call::DeleteResource, (DENIED, &["satellite n1", "DeleteResource", "role administrator"])),
    (SATELLITE, Call::AddMember, (DENIED, &["satellite n1", "AddMember", "role administrator"])),
    (SATELLITE, Call::Vote, (DENIED, &["satellite n1", "role controller"])),
    (SATELLITE, Call::Outdate { node: "n2" }, (DENIED, &["satellite n1", "node n2"])),
    (SATELLITE, Call::Session { node: "n2", own_cluster: true }, (DENIED, &["node n1", "node n2"])),
    (SATELLITE, Call::Session { node: "n1", own_cluster: false }, (DENIED, &["cluster"])),
    (
        STRANGER,
        Call::Session { node: "n9", own_cluster: true },
        (Some(Code::NotFound), &["hawser node create n9"]),
    ),
    (
        Caller::OnBehalf { role: "satellite", name: "n1" },
        Call::CreateNode,
        (DENIED, &["satellite n1", "role administrator"]),
    ),
    (
        Caller::OnBehalf { role: "administrator", name: "ada" },
        Call::Session { node: "n1", own_cluster: true },
        (DENIED, &["administrator ada", "role satellite"]),
    ),
    (CONTROLLER, Call::CreateNode, (DENIED, &["controller n9", "role administrator"])),
    (
        CONTROLLER,
        Call::Session { node: "n1", own_cluster: true },
        (DENIED, &["controller n9", "role satellite"]),
    ),
    (
        CONTROLLER,
        Call::Append { own_cluster: false },
        (Some(Code::FailedPrecondition), &["belongs to cluster", "another"]),
    ),
    (
        ADMINISTRATOR,
        Call::Session { node: "n1", own_cluster: true },
        (DENIED, &["administrator ada", "role satellite"]),
    ),
    (ADMINISTRATOR, Call::Outdate { node: "n1" }, (DENIED, &["administrator ada", "role satellite"])),
    (ADMINISTRATOR, Call::Append { own_cluster: true }, (DENIED, &["administrator ada", "role controller"])),
    (ADMINISTRATOR, Call::PreVote, (DENIED, &["administrator ada", "role controller"])),
    (ADMINISTRATOR, Call::TransferLeader, (DENIED, &["administrator ada", "role controller"])),
    (ADMINISTRATOR, Call::InstallSnapshot, (DENIED, &["administrator ada", "role controller"])),
    (ADMINISTRATOR, Call::Join, (DENIED, &["administrator ada", "role controller"])),
];

/// Tries all of it at every controller.
pub(crate) fn try_all(cluster: &Cluster) -> Result<()> {
    install_crypto_provider();
    let callers = Callers::make(cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for node in ["n1", "n2", "n3"] {
        let port = cluster.forward(node, API)?;
        runtime.block_on(async {
            // Without this, a port that nobody listens on would refuse everything, too.
            let channel = callers.channel(ADMINISTRATOR, port)?;
            callers.call(Call::ListNodes, ADMINISTRATOR, channel).await?;
            for (caller, call, refused) in TABLE {
                let channel = callers.channel(caller, port)?;
                let answer = callers.call(call, caller, channel).await;
                expect(&answer, refused).with_context(|| format!("{call:?} by {caller:?} at {node}"))?;
            }
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// The same at the command line's door: other identities in the client configuration.
pub(crate) fn try_at_the_command_line(cluster: &Cluster) -> Result<()> {
    let callers = Callers::make(cluster)?;
    let address = format!("127.0.0.1:{}", cluster.forward("n1", API)?);
    for (tls, code, words) in [
        (callers.own("satellite", "n1"), 2, ["satellite", "only an administrator gives orders"]),
        (
            callers.foreign.join("administrator"),
            3,
            [address.as_str(), "not that of a controller of this cluster"],
        ),
    ] {
        let client = callers.place.path().join("client.toml");
        std::fs::write(&client, format!("controllers = [{address:?}]\ntls_directory = {tls:?}\n"))?;
        let client = client.to_string_lossy();
        let typed =
            ["--config", &client, "--timeout", "5s", "node", "create", "n9", "--address", "10.77.0.9"];
        let said = cluster.hawser(&typed)?;
        ensure!(said.code == Some(code), "{}: exit code {:?}: {}", tls.display(), said.code, said.error);
        for word in words {
            ensure!(said.error.contains(word), "{} does not lead to {word:?}: {}", tls.display(), said.error);
        }
    }
    Ok(())
}

fn expect(answer: &Result<(), Status>, (code, words): Refused) -> Result<()> {
    let Err(status) = answer else { anyhow::bail!("was accepted") };
    let said = chain(status);
    match code {
        Some(code) => ensure!(status.code() == code, "refused as {:?}: {said}", status.code()),
        // Only what comes from a controller's services has one of these.
        None => ensure!(
            !matches!(
                status.code(),
                Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition
            ),
            "reached a service: {said}"
        ),
    }
    for word in words {
        ensure!(said.contains(word), "the refusal does not say {word:?}: {said}");
    }
    Ok(())
}

/// A status with what led to it.
fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Certificates of all callers, made with `hawser` as an administrator makes them.
struct Callers {
    place: tempfile::TempDir,
    foreign: PathBuf,
    cluster_id: String,
}

impl Callers {
    fn make(cluster: &Cluster) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let own = cluster.directory().cluster();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut callers = Self {
            foreign: place.path().join("other"),
            place,
            cluster_id: cluster.json(&["cluster", "status"])?["cluster_id"]
                .as_str()
                .context("a status without the cluster's id")?
                .to_owned(),
        };
        for (role, name) in
            [("satellite", "n1"), ("satellite", "n9"), ("controller", "n9"), ("administrator", "ada")]
        {
            let out = path(&callers.own(role, name));
            cluster.must(&[
                "cluster",
                "certificate",
                role,
                name,
                "--directory",
                &path(&own),
                "--out",
                &out,
            ])?;
        }
        let foreign = path(&callers.foreign);
        let init = ["cluster", "init", "other", "--controller", "n1=10.77.0.1:6470", "--directory", &foreign];
        cluster.must(&init)?;
        callers.foreign = callers.foreign.canonicalize()?;
        Ok(callers)
    }

    fn own(&self, role: &str, name: &str) -> PathBuf {
        self.place.path().join(format!("{role}-{name}"))
    }

    fn channel(&self, caller: Caller, port: u16) -> Result<Channel> {
        let authority = std::fs::read(self.own("administrator", "ada").join(AUTHORITY_FILE))?;
        let trusting =
            ClientTlsConfig::new().domain_name("controller").ca_certificate(Certificate::from_pem(authority));
        let tls = match caller {
            Caller::Own { role, name } | Caller::OnBehalf { role, name } => {
                Identity::load(&self.own(role, name))?.client_tls()
            }
            Caller::Foreign => {
                let read = |name: &str| std::fs::read(self.foreign.join("administrator").join(name));
                let identity = tonic::transport::Identity::from_pem(read(CERTIFICATE_FILE)?, read(KEY_FILE)?);
                trusting.identity(identity)
            }
            Caller::Nobody => trusting,
            Caller::Plain => {
                return Ok(Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect_lazy());
            }
        };
        Ok(Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?.tls_config(tls)?.connect_lazy())
    }

    async fn call(&self, call: Call, caller: Caller, channel: Channel) -> Result<(), Status> {
        let request_key = "5f9dd4f4-3f0f-4c7e-8d3f-2f1b6a1d9a11".to_owned();
        let cluster_id = |own| if own { self.cluster_id.clone() } else { "another".to_owned() };
        match call {
            Call::ListNodes => {
                let request = v1::ListNodesRequest::default();
                NodeServiceClient::new(channel).list_nodes(said_by(caller, request)).await.map(drop)
            }
            Call::CreateNode => {
                let address = v1::Address { name: "default".into(), ip: "10.77.0.9".into() };
                let request = v1::CreateNodeRequest {
                    request_key,
                    name: "n9".into(),
                    addresses: vec![address],
                    ..Default::default()
                };
                NodeServiceClient::new(channel).create_node(said_by(caller, request)).await.map(drop)
            }
            Call::DeleteResource => {
                let request = v1::DeleteResourceRequest { request_key, name: "kept".into() };
                ResourceServiceClient::new(channel).delete_resource(said_by(caller, request)).await.map(drop)
            }
            Call::AddMember => {
                let request =
                    v1::AddMemberRequest { request_key, name: "n9".into(), address: "10.77.0.9:6470".into() };
                ClusterServiceClient::new(channel).add_member(said_by(caller, request)).await.map(drop)
            }
            Call::Outdate { node } => {
                let request = v1::OutdateRequest {
                    request_key,
                    node: node.into(),
                    resource: "kept".into(),
                    resource_incarnation: 1,
                    peer: "n1".into(),
                    generation: 1,
                    lineage: 1,
                };
                ArbiterServiceClient::new(channel).outdate(said_by(caller, request)).await.map(drop)
            }
            Call::Session { node, own_cluster } => {
                let hello = v1::Hello {
                    cluster_id: cluster_id(own_cluster),
                    node: node.into(),
                    observed: Some(v1::NodeObserved { uname: node.into(), ..Default::default() }),
                    ..Default::default()
                };
                let hello =
                    v1::SatelliteMessage { message: Some(v1::satellite_message::Message::Hello(hello)) };
                let messages = tokio_stream::iter([hello]).chain(tokio_stream::pending());
                let mut answers =
                    SessionServiceClient::new(channel).open(said_by(caller, messages)).await?.into_inner();
                answers.message().await.map(drop)
            }
            Call::Append { own_cluster } => {
                let parties = v1::Parties { cluster_id: cluster_id(own_cluster), ..Default::default() };
                let request = v1::AppendEntriesRequest { parties: Some(parties), ..Default::default() };
                RaftServiceClient::new(channel).append_entries(said_by(caller, request)).await.map(drop)
            }
            Call::Vote => {
                let request = v1::VoteRequest::default();
                RaftServiceClient::new(channel).vote(said_by(caller, request)).await.map(drop)
            }
            Call::PreVote => {
                let request = v1::VoteRequest::default();
                RaftServiceClient::new(channel).pre_vote(said_by(caller, request)).await.map(drop)
            }
            Call::TransferLeader => {
                let request = v1::TransferLeaderRequest::default();
                RaftServiceClient::new(channel).transfer_leader(said_by(caller, request)).await.map(drop)
            }
            Call::InstallSnapshot => {
                let chunks = tokio_stream::iter([v1::InstallSnapshotRequest::default()]);
                RaftServiceClient::new(channel).install_snapshot(said_by(caller, chunks)).await.map(drop)
            }
            Call::Join => {
                let request = v1::JoinRequest { cluster_id: cluster_id(true), ..Default::default() };
                RaftServiceClient::new(channel).join(said_by(caller, request)).await.map(drop)
            }
        }
    }
}

fn said_by<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Caller::OnBehalf { .. } = caller {
        let whom = tonic::metadata::MetadataValue::from_static("administrator/root");
        request.metadata_mut().insert("hawser-on-behalf-of", whom);
    }
    request
}
