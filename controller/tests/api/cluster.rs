//! Controllers in this process, each with its store, its certificate and its ports on loopback.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hawser_controller::{
    api::random::Random,
    config::{Config, RaftConfig},
    consensus::{BACKUP_FILE, Introducer, ORDER_FILE, OrderedNumbers, Status, StoreOrder},
    controller::Controller,
};
use hawser_process::tls::{Authority, Identity, Role, install_crypto_provider};
use hawser_proto::snapshot_file;
use hawser_proto::v1::{
    self, attachment_service_client::AttachmentServiceClient, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, operation_service_client::OperationServiceClient,
    pool_service_client::PoolServiceClient, replica_service_client::ReplicaServiceClient,
    resource_service_client::ResourceServiceClient,
};
use prost::Message;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

pub(crate) const CLUSTER: &str = "6f0b2f8e-0f4f-4a4e-9d55-0d0b63d1a001";
/// Longer than anything that a test waits for takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) address: String,
    config: Config,
    pub(crate) controller: Option<Controller>,
}

pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    directory: TempDir,
    pub(crate) members: Vec<Member>,
}

impl Cluster {
    /// One controller that leads.
    pub(crate) async fn single() -> Self {
        install_crypto_provider();
        let mut cluster = Self {
            authority: Authority::generate(CLUSTER, SystemTime::now()).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            members: vec![],
        };
        let member = cluster.prepare("c1");
        order(
            &member.config.data_directory,
            &StoreOrder::Init {
                cluster_id: CLUSTER.into(),
                cluster_name: "test".into(),
                name: "c1".into(),
                address: member.address.clone(),
                numbers: OrderedNumbers::default(),
            },
        );
        cluster.start(member).await;
        cluster
    }

    /// Three voters.
    pub(crate) async fn of_three() -> Self {
        let mut cluster = Self::single().await;
        for name in ["c2", "c3"] {
            let member = cluster.prepare(name);
            let request = v1::AddMemberRequest {
                request_key: key(),
                name: name.into(),
                address: member.address.clone(),
            };
            let added = soon("the announcement", cluster.cluster_client(0).add_member(request)).await;
            let ticket = added.unwrap().into_inner().ticket.unwrap();
            order(
                &member.config.data_directory,
                &StoreOrder::Join {
                    cluster_id: ticket.cluster_id,
                    cluster_name: ticket.cluster_name,
                    lineage: ticket.lineage,
                    raft_id: ticket.raft_id,
                    name: ticket.name,
                    address: ticket.address,
                    members: ticket
                        .members
                        .into_iter()
                        .map(|member| Introducer {
                            raft_id: member.raft_id,
                            name: member.name,
                            address: member.address,
                            store_incarnation: member.store_incarnation,
                        })
                        .collect(),
                },
            );
            cluster.start(member).await;
        }
        let consensus = &cluster.members[0].controller.as_ref().unwrap().consensus;
        // A joint configuration still needs the one that is to be stopped.
        let three_voters = consensus.wait_until(|status: &Status| {
            let voters = status.members.iter().filter(|member| member.role == v1::MemberRole::Voter);
            !status.changing_voters && voters.count() == 3
        });
        soon("three voters", three_voters).await.unwrap();
        cluster
    }

    /// Stops all members, and begins a new lineage on a new directory out of a backup.
    pub(crate) async fn restore(&mut self, backup: &[u8], lineage: u64) {
        for member in self.members.drain(..) {
            if let Some(controller) = member.controller {
                soon("the end", controller.stop()).await;
            }
        }
        let header = snapshot_file::read_header(&mut &backup[..]).unwrap();
        let statement = v1::RestoreStatement {
            cluster_id: CLUSTER.into(),
            from_lineage: header.lineage,
            from_revision: header.last_log_id.unwrap_or_default().index,
            lineage,
            restore_id: 0xbac0 + lineage,
            at_unix_ms: 1,
        };
        let statement = statement.encode_to_vec();
        let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("c{}", 10 * lineage);
        let member = self.prepare(&name);
        fs::write(member.config.data_directory.join(BACKUP_FILE), backup).unwrap();
        order(
            &member.config.data_directory,
            &StoreOrder::Restore {
                cluster_id: CLUSTER.into(),
                cluster_name: "test".into(),
                lineage,
                name,
                address: member.address.clone(),
                signature: hexadecimal(&self.authority.sign_restore(&statement).unwrap()),
                statement: hexadecimal(&statement),
            },
        );
        self.start(member).await;
    }

    fn prepare(&self, name: &str) -> Member {
        let port = |_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, health_listen) = (port(0), port(1));
        let data_directory = self.directory.path().join(name).join("data");
        fs::create_dir_all(&data_directory).unwrap();
        let config = Config {
            name: name.into(),
            listen,
            advertise: listen.to_string(),
            health_listen,
            data_directory,
            tls_directory: self.sign(&self.authority, Role::Controller, name),
            raft: RaftConfig::default(),
        };
        Member { name: name.into(), address: listen.to_string(), config, controller: None }
    }

    async fn start(&mut self, mut member: Member) {
        let controller = Controller::start(&member.config, Random::seeded(7)).await.unwrap();
        member.controller = Some(controller);
        self.members.push(member);
    }

    /// Files of a new identity.
    pub(crate) fn sign(&self, authority: &Authority, role: Role, name: &str) -> PathBuf {
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap().keep().join("tls");
        authority.sign(role, name, SystemTime::now()).unwrap().save(&directory).unwrap();
        directory
    }

    pub(crate) fn identity(&self, role: Role, name: &str) -> Identity {
        Identity::load(&self.sign(&self.authority, role, name)).unwrap()
    }

    /// What the plain port answers to a GET.
    pub(crate) async fn get(&self, member: usize, path: &str) -> String {
        let mut connection = TcpStream::connect(self.members[member].config.health_listen).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the answer", connection.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    pub(crate) fn endpoint(&self, member: usize) -> Endpoint {
        Endpoint::from_shared(format!("https://{}", self.members[member].address)).unwrap()
    }

    pub(crate) fn channel(&self, member: usize, role: Role, name: &str) -> Channel {
        let tls = self.identity(role, name).client_tls();
        self.endpoint(member).tls_config(tls).unwrap().connect_lazy()
    }

    pub(crate) fn administrator(&self, member: usize) -> Channel {
        self.channel(member, Role::Administrator, "root")
    }

    pub(crate) fn cluster_client(&self, member: usize) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.administrator(member))
    }

    pub(crate) fn nodes(&self, member: usize) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.administrator(member))
    }

    pub(crate) fn pools(&self, member: usize) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.administrator(member))
    }

    pub(crate) fn resources(&self, member: usize) -> ResourceServiceClient<Channel> {
        ResourceServiceClient::new(self.administrator(member))
    }

    pub(crate) fn attachments(&self, member: usize) -> AttachmentServiceClient<Channel> {
        AttachmentServiceClient::new(self.administrator(member))
    }

    pub(crate) fn replicas(&self, member: usize) -> ReplicaServiceClient<Channel> {
        ReplicaServiceClient::new(self.administrator(member))
    }

    /// Waits until the operation has ended, and returns how.
    pub(crate) async fn wait(&self, member: usize, id: u64) -> v1::Operation {
        let mut client = OperationServiceClient::new(self.administrator(member));
        let ended = async {
            let mut views =
                client.wait_operation(v1::WaitOperationRequest { id }).await.unwrap().into_inner();
            let mut last = None;
            while let Some(view) = views.message().await.unwrap() {
                last = view.operation;
            }
            last.unwrap()
        };
        soon(&format!("the end of operation {id}"), ended).await
    }

    pub(crate) async fn create_node(&self, name: &str) {
        soon("the node", self.nodes(0).create_node(node_request(name))).await.unwrap();
    }

    pub(crate) async fn create_pool(&self, node: &str) {
        soon("the pool", self.pools(0).create_pool(pool_request(node, "vg"))).await.unwrap();
    }
}

/// A node whose address follows from the number in its name.
pub(crate) fn node_request(name: &str) -> v1::CreateNodeRequest {
    let ip = format!("10.77.0.{}", name.trim_start_matches('n'));
    let addresses = vec![v1::Address { name: "default".into(), ip }];
    v1::CreateNodeRequest { request_key: key(), name: name.into(), addresses, ..Default::default() }
}

pub(crate) fn pool_request(node: &str, volume_group: &str) -> v1::CreatePoolRequest {
    v1::CreatePoolRequest {
        request_key: key(),
        node: node.into(),
        name: "fast".into(),
        provider: Some(v1::create_pool_request::Provider::LvmThin(v1::LvmThinProvider {
            volume_group: volume_group.into(),
            thin_pool: "thin".into(),
        })),
        overcommit_percent: 0,
    }
}

/// A fresh request key.
pub(crate) fn key() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn order(data_directory: &Path, order: &StoreOrder) {
    fs::write(data_directory.join(ORDER_FILE), serde_json::to_vec(order).unwrap()).unwrap();
}
