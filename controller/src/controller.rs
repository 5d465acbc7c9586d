//! One controller from its configuration to its end: the parts, started in order and stopped in order.
//!
//! It must never touch what is global to a process (signals, telemetry): several run in one test.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hawser_process::{
    health::Health,
    open_files,
    tls::{Identity, IdentityError, PeerIdentity, Role},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, ServerTlsConfig};

use crate::{
    api::{
        door::Identify,
        entrance, metrics,
        random::Random,
        server::{self, Parts},
        transport::MutualTls,
    },
    config::Config,
    consensus::{
        Consensus, Options, Retention, StartError, Timing, Transport, engine::Engines,
        sled_engine::SledEngines,
    },
    leader::{self, Standing},
};

/// Why a controller did not start or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A port cannot be had.
    #[error("cannot listen on {address} (`{field}` in the configuration): {source}")]
    Listen {
        /// Field of the configuration.
        field: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The gRPC server gave up.
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The member cannot go on.
    #[error("this controller cannot go on: {0}")]
    Failed(String),
}

/// What a controller stands on: the network, the disk, and whom it can believe. A simulation has its own.
pub struct Ground {
    /// Id of the cluster.
    pub cluster_id: String,
    /// The way to the other controllers.
    pub transport: Arc<dyn Transport>,
    /// What keeps its log.
    pub engines: Arc<dyn Engines>,
    /// Its certificate; none where connections say by themselves who is at their other end.
    pub tls: Option<ServerTlsConfig>,
    /// Tells who that is.
    pub identify: Identify,
    /// How much of the log is kept.
    pub retention: Retention,
}

impl From<Identity> for Ground {
    /// TCP with mutual TLS, and sled on a real disk.
    fn from(identity: Identity) -> Self {
        Self {
            cluster_id: identity.own().cluster_id.clone(),
            tls: Some(identity.server_tls()),
            transport: Arc::new(MutualTls(identity)),
            engines: Arc::new(SledEngines),
            identify: PeerIdentity::from_extensions,
            retention: Retention::default(),
        }
    }
}

/// A controller that has its ports and its store, and serves.
pub struct Controller {
    /// Its consensus.
    pub consensus: Consensus,
    standing: watch::Receiver<Standing>,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    stopped: CancellationToken,
}

impl Controller {
    /// Starts all parts. Ports first: a second controller on the same machine must not touch the store.
    ///
    /// # Errors
    /// What is wrong with the certificate, a port or the store.
    pub async fn start(config: &Config, random: Random) -> Result<Self, ControllerError> {
        let identity = Identity::load(&config.tls_directory)?;
        identity.require(Role::Controller, &config.name)?;
        let listener = listen("listen", config.listen).await?;
        let health_listener = listen("health_listen", config.health_listen).await?;
        let connections = entrance::admitted(listener, entrance::limits(open_files::limit()));
        let controller = Self::start_on(identity.into(), config, connections, random).await?;
        let health = controller.health(config.raft.patience());
        tokio::spawn(health.serve(health_listener, controller.stopped.clone()));
        tracing::info!(name = config.name, listens_on = %config.listen, "this controller serves");
        Ok(controller)
    }

    /// Starts all parts but the read-only port on `ground`; `connections` are those to its gRPC port.
    ///
    /// # Errors
    /// What is wrong with the store.
    pub async fn start_on<Connections, Connection>(
        ground: Ground,
        config: &Config,
        connections: Connections,
        random: Random,
    ) -> Result<Self, ControllerError>
    where
        Connections: Stream<Item = io::Result<Connection>> + Send + 'static,
        Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let Ground { cluster_id, transport, engines, tls, identify, retention } = ground;
        let raft = config.raft;
        let options = Options {
            data_directory: config.data_directory.clone(),
            cluster_id: cluster_id.clone(),
            name: config.name.clone(),
            timing: Timing {
                heartbeat: Duration::from_millis(raft.heartbeat_ms),
                election_min: Duration::from_millis(raft.election_min_ms),
                election_max: Duration::from_millis(raft.election_max_ms),
            },
            retention,
            transport: Arc::clone(&transport),
            engines,
            seed: random.seed(),
            fresh_incarnation: random.incarnation(),
        };
        let consensus = Consensus::start(options).await?;
        let stopped = CancellationToken::new();
        let standing = leader::start(consensus.clone(), stopped.clone());
        let parts = Parts {
            cluster_id,
            name: config.name.clone(),
            tls,
            identify,
            transport,
            consensus: consensus.clone(),
            standing: standing.clone(),
            random,
        };
        let serving = tokio::spawn(server::serve(parts, connections, stopped.clone()));
        Ok(Self { consensus, standing, serving, stopped })
    }

    /// Who leads, as this member sees it.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// What the read-only port answers from. A member without a leader for `patience` is not ready.
    pub fn health(&self, patience: Duration) -> Health {
        metrics::health(self.consensus.clone(), self.standing.clone(), patience)
    }

    /// Runs until `asked_to_end`, or until it cannot go on; then stops in order.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn run(mut self, asked_to_end: CancellationToken) -> Result<(), ControllerError> {
        let end = tokio::select! {
            () = asked_to_end.cancelled() => Ok(()),
            reason = self.consensus.failed() => Err(ControllerError::Failed(reason)),
            served = &mut self.serving => match served {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(ControllerError::Failed(error.to_string())),
            },
        };
        self.stop().await;
        end
    }

    /// The orderly end: hand the leadership over while the port still answers, then close everything.
    pub async fn stop(self) {
        self.consensus.shutdown().await;
        self.stopped.cancel();
        // Streams end with the reign and the stop; whoever holds one longer is not waited for.
        self.serving.abort();
    }
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, ControllerError> {
    TcpListener::bind(address).await.map_err(|source| ControllerError::Listen { field, address, source })
}
