//! Storage pools. A pool is registered only after its node has said that it is there: asked through its session,
//! before anything is committed.

use std::time::Duration;

use hawser_proto::{
    names,
    v1::{
        self, command::Command, create_pool, create_pool_request, pool_service_server::PoolService,
        probe_pool,
    },
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        context::{Context, Reading, Write, result},
        error::ApiError,
        pages::pair_key,
        read_mask::ReadMask,
    },
    leader::{conditions, loops},
};

/// Fields of a pool's view.
const FIELDS: [&str; 3] = ["desired", "observed", "conditions"];

/// The most that may be promised of a pool, in percent of its capacity.
const LARGEST_OVERCOMMIT: u32 = 100_000;

/// How long a node without a session is waited for.
const SESSION_WAIT: Duration = Duration::from_secs(3);
/// A registered pool that its node has not reported by then is answered all the same.
const REPORT_WAIT: Duration = Duration::from_secs(3);

/// `PoolService`.
pub struct Pools(pub Context);

#[tonic::async_trait]
impl PoolService for Pools {
    async fn create_pool(
        &self,
        request: Request<v1::CreatePoolRequest>,
    ) -> Result<Response<v1::CreatePoolResponse>, Status> {
        let checked = |request| check(&request).map(|provider| (request, provider));
        let (write, (request, provider), answered) =
            self.0.begin(request, |request| &request.request_key, checked)?;
        let decide = async {
            self.0.settled()?;
            self.create(&write, request, provider).await
        };
        let applied = write.once(answered, decide).await?;
        Ok(Response::new(v1::CreatePoolResponse { result: result(&applied) }))
    }

    async fn delete_pool(
        &self,
        request: Request<v1::DeletePoolRequest>,
    ) -> Result<Response<v1::DeletePoolResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::DeletePoolRequest { node, name, .. } = request.into_inner();
        names::node_name("node", &node).map_err(ApiError::from)?;
        names::pool_name("name", &name).map_err(ApiError::from)?;
        let applied = write.propose(Command::DeletePool(v1::DeletePool { node, name })).await?;
        Ok(Response::new(v1::DeletePoolResponse { result: result(&applied) }))
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let all = page.reading.state.pools().filter(|pool| {
            (request.node.is_empty() || pool.node == request.node)
                && (request.name.is_empty() || pool.name == request.name)
        });
        let (pools, next_page_token) =
            self.0.take(&page, all.map(|pool| (pair_key(&pool.node, &pool.name), pool)));
        let pools = pools.into_iter().map(|pool| view(&page.reading, pool, &mask)).collect();
        Ok(Response::new(v1::ListPoolsResponse { pools, revision: page.reading.revision, next_page_token }))
    }
}

impl Pools {
    async fn create(
        &self,
        write: &Write,
        request: v1::CreatePoolRequest,
        provider: create_pool_request::Provider,
    ) -> Result<v1::Applied, ApiError> {
        let v1::CreatePoolRequest { node, name, overcommit_percent, .. } = request;
        let state = self.0.consensus.view().state();
        // What the state refuses anyway is refused in its words, and no node is asked.
        let ask = state.node(&node).is_some() && state.pool(&node, &name).is_none();
        let found = if ask { Some(self.probe(&node, &name, provider.clone()).await?) } else { None };

        let command =
            v1::CreatePool { node, name, overcommit_percent, provider: Some(for_command(provider)) };
        let applied = write.propose(Command::CreatePool(command.clone())).await?;
        if let Some(found) = found {
            let capacity = v1::RecordPoolCapacity {
                node: command.node,
                name: command.name,
                incarnation: applied.revision,
                capacity_bytes: found.capacity_bytes,
            };
            // Should this fail, the loop does it.
            let recorded =
                self.0.consensus.propose(loops::command(Command::RecordPoolCapacity(capacity.clone()))).await;
            if let Err(error) = recorded {
                tracing::info!(%error, "a new pool's capacity is recorded later");
            }
            // So that the next request can already place in it.
            let reported = self.reported(&capacity);
            if timeout(REPORT_WAIT, reported).await.is_err() {
                tracing::info!(node = capacity.node, pool = capacity.name, "a new pool is not reported yet");
            }
        }
        Ok(applied)
    }

    /// Resolves once the node has reported the pool under its new name, or this member no longer leads.
    async fn reported(&self, pool: &v1::RecordPoolCapacity) {
        let Ok(reign) = self.0.reign() else { return };
        let mut observations = reign.observed.changes();
        loop {
            observations.mark_unchanged();
            let picture = reign.observed.picture();
            let report = picture.node(&pool.node).and_then(|seen| seen.pools.get(&pool.name));
            if report.is_some_and(|report| report.incarnation() == pool.incarnation()) {
                return;
            }
            tokio::select! {
                _ = observations.changed() => {}
                () = reign.ended.cancelled() => return,
            }
        }
    }

    async fn probe(
        &self,
        node: &str,
        name: &str,
        provider: create_pool_request::Provider,
    ) -> Result<v1::PoolObserved, ApiError> {
        let reign = self.0.reign()?;
        let deadline = Instant::now() + SESSION_WAIT;
        let found = loop {
            let mut observations = reign.observed.changes();
            observations.mark_unchanged();
            let refused = match reign.sessions.probe_pool(node, for_probe(provider.clone())).await {
                Ok(found) => break found,
                Err(refused) => refused,
            };
            // A satellite that has just been started, or lost its leader, is back within a moment.
            tokio::select! {
                _ = observations.changed() => {}
                () = sleep_until(deadline) => {}
                () = reign.ended.cancelled() => {
                    return Err(ApiError::Unavailable("the leader changed; try again with the same key".into()));
                }
            }
            if Instant::now() >= deadline {
                let message = format!("pool {name}: {refused}");
                return Err(ApiError::rejected(v1::RejectionReason::Precondition, message));
            }
        };
        if found.problem.is_empty() {
            return Ok(found);
        }
        Err(ApiError::rejected(
            v1::RejectionReason::Precondition,
            format!("pool {name} was not registered: node {node} cannot use it: {}", found.problem),
        ))
    }
}

fn check(request: &v1::CreatePoolRequest) -> Result<create_pool_request::Provider, ApiError> {
    use create_pool_request::Provider;
    names::node_name("node", &request.node)?;
    names::pool_name("name", &request.name)?;
    if request.overcommit_percent > LARGEST_OVERCOMMIT {
        return Err(ApiError::invalid(
            "overcommit_percent",
            format!("{} is too much: at most {LARGEST_OVERCOMMIT}", request.overcommit_percent),
        ));
    }
    match &request.provider {
        None => {
            return Err(ApiError::invalid(
                "provider",
                "say where the pool is: a thin pool, a volume group, a dataset or a directory",
            ));
        }
        Some(Provider::LvmThin(provider)) => {
            names::volume_group("lvm_thin.volume_group", &provider.volume_group)?;
            names::logical_volume("lvm_thin.thin_pool", &provider.thin_pool)?;
        }
        Some(Provider::Lvm(provider)) => names::volume_group("lvm.volume_group", &provider.volume_group)?,
        Some(Provider::Zfs(provider)) => names::dataset("zfs.dataset", &provider.dataset)?,
        Some(Provider::Directory(provider)) => names::directory("directory.path", &provider.path)?,
    }
    request.provider.clone().ok_or_else(|| ApiError::invalid("provider", "is missing"))
}

fn for_command(provider: create_pool_request::Provider) -> create_pool::Provider {
    use create_pool_request::Provider as P;
    match provider {
        P::LvmThin(provider) => create_pool::Provider::LvmThin(provider),
        P::Lvm(provider) => create_pool::Provider::Lvm(provider),
        P::Zfs(provider) => create_pool::Provider::Zfs(provider),
        P::Directory(provider) => create_pool::Provider::Directory(provider),
    }
}

fn for_probe(provider: create_pool_request::Provider) -> probe_pool::Provider {
    use create_pool_request::Provider as P;
    match provider {
        P::LvmThin(provider) => probe_pool::Provider::LvmThin(provider),
        P::Lvm(provider) => probe_pool::Provider::Lvm(provider),
        P::Zfs(provider) => probe_pool::Provider::Zfs(provider),
        P::Directory(provider) => probe_pool::Provider::Directory(provider),
    }
}

fn view(reading: &Reading, pool: &v1::StoragePool, mask: &ReadMask) -> v1::PoolView {
    let observed = reading.observed.as_ref();
    let report = observed
        .and_then(|observed| observed.node(&pool.node))
        .and_then(|seen| seen.pools.get(&pool.name))
        .filter(|report| report.incarnation() == pool.incarnation());
    v1::PoolView {
        desired: mask.take("desired", || Some(pool.clone())),
        observed: mask.take("observed", || report.cloned()),
        conditions: mask.take("conditions", || conditions::of_pool(observed, pool)),
    }
}
