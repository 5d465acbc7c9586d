//! What the API says of an operation: its phase, fast, from the leader alone; its state and reasons, from anybody.
//!
//! It only looks.

use std::time::Duration;

use anyhow::{Context, Result};
use hawser_client::Client;
use hawser_lab::cluster::API;
use hawser_process::tls::Identity;
use hawser_proto::v1;
use tokio::runtime::Runtime;

use crate::cluster::Cluster;

/// A look at one controller that does not answer by then is over.
const LOOK: Duration = Duration::from_secs(2);
/// Elections take a second or two.
const READ: Duration = Duration::from_secs(5);

/// The API of a lab's cluster.
pub(super) struct Api {
    runtime: Runtime,
    identity: Identity,
    anybody: Client,
}

/// One controller.
pub(super) struct Controller<'a> {
    runtime: &'a Runtime,
    client: Client,
}

impl Api {
    pub(super) fn of(cluster: &Cluster, nodes: &[&str]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let identity = Identity::load(&cluster.directory().cluster().join("administrator"))?;
        let addresses = nodes.iter().map(|node| address(cluster, node)).collect::<Result<Vec<_>>>()?;
        let anybody = {
            let _inside = runtime.enter();
            Client::new(&addresses, &identity)?
        };
        Ok(Self { runtime, identity, anybody })
    }

    /// The controller of a node, by a connection of its own: an old one may not have noticed that its node was away.
    pub(super) fn controller(&self, cluster: &Cluster, node: &str) -> Result<Controller<'_>> {
        let address = address(cluster, node)?;
        let client = {
            let _inside = self.runtime.enter();
            Client::new(&[address], &self.identity)?
        };
        let controller = Controller { runtime: &self.runtime, client };
        // The connection is there before it matters how fast it is.
        controller.look(u64::MAX)?;
        Ok(controller)
    }

    /// An operation, as fresh as can be.
    pub(super) fn operation(&self, id: u64) -> Result<v1::OperationView> {
        let found = self.runtime.block_on(list(&self.anybody, id, v1::Consistency::Unspecified, READ))?;
        found.with_context(|| format!("the cluster does not know operation {id}"))
    }
}

impl Controller<'_> {
    /// An operation from this controller's memory.
    pub(super) fn look(&self, id: u64) -> Result<Option<v1::OperationView>> {
        self.runtime.block_on(list(&self.client, id, v1::Consistency::Stale, LOOK))
    }
}

fn address(cluster: &Cluster, node: &str) -> Result<String> {
    Ok(format!("127.0.0.1:{}", cluster.forward(node, API)?))
}

async fn list(
    client: &Client,
    id: u64,
    consistency: v1::Consistency,
    within: Duration,
) -> Result<Option<v1::OperationView>> {
    let request = v1::ListOperationsRequest { id, consistency: consistency.into(), ..Default::default() };
    let answer = client
        .read("look at an operation", within, async |controller| {
            controller.operations().list_operations(request.clone()).await
        })
        .await?;
    Ok(answer.operations.into_iter().next())
}

/// What an operation waits for, in one line: what the leader sees right now, else what was last recorded.
pub(super) fn reason(view: &v1::OperationView) -> Option<String> {
    let seen = view.progress.first().map(|seen| (seen.node.clone(), seen.message.clone()));
    let recorded = view.operation.as_ref().and_then(|operation| operation.waits_for.as_ref());
    let (node, message) = seen.or_else(|| recorded.map(|said| (said.node.clone(), said.message.clone())))?;
    let place = if node.is_empty() { String::new() } else { format!("{node}: ") };
    Some(format!("{place}{message}"))
}
