//! One controller from its configuration to its end: the parts, started in order and stopped in order.
//!
//! It must never touch what is global to a process (signals, telemetry): several run in one test.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hawser_process::tls::{Identity, IdentityError, Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        metrics,
        random::Random,
        server::{self, Parts},
        transport::MutualTls,
    },
    config::Config,
    consensus::{Consensus, Options, Retention, StartError, Timing},
    leader,
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

/// A controller that has its ports and its store, and serves.
pub struct Controller {
    /// Its consensus.
    pub consensus: Consensus,
    /// Where its gRPC endpoint listens.
    pub listens_on: SocketAddr,
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
        let listens_on = listener.local_addr().unwrap_or(config.listen);

        let raft = config.raft;
        let options = Options {
            data_directory: config.data_directory.clone(),
            cluster_id: identity.own().cluster_id.clone(),
            name: config.name.clone(),
            timing: Timing {
                heartbeat: Duration::from_millis(raft.heartbeat_ms),
                election_min: Duration::from_millis(raft.election_min_ms),
                election_max: Duration::from_millis(raft.election_max_ms),
            },
            retention: Retention::default(),
            transport: Arc::new(MutualTls(identity.clone())),
            fresh_incarnation: random.incarnation(),
        };
        let consensus = Consensus::start(options).await?;

        let stopped = CancellationToken::new();
        let standing = leader::start(consensus.clone(), stopped.clone());
        let health = metrics::health(consensus.clone(), standing.clone(), raft.patience());
        tokio::spawn(health.serve(health_listener, stopped.clone()));
        let parts = Parts { identity, consensus: consensus.clone(), standing, random };
        let serving = tokio::spawn(server::serve(parts, listener, stopped.clone()));
        tracing::info!(name = config.name, %listens_on, "this controller serves");
        Ok(Self { consensus, listens_on, serving, stopped })
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
