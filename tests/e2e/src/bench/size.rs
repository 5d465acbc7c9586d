//! A cluster of 10,000 resources with two replicas each on 50 nodes, made through the API, one call per resource:
//! how fast they are made, what the controllers need for them, and how long lists, a start from disk, a change of leader
//! and a node's death take then.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hawser_client::{Client, request_key};
use hawser_proto::v1::{self, ObjectKind, change::Object};
use tokio::{task::JoinSet, time::timeout};

use super::{Figures, controllers::Controllers, fleet::Fleet, median, milliseconds, node_death};

const NODES: usize = 50;
const RESOURCES: u64 = 10_000;
const CLIENTS: u64 = 16;
const WALKS: usize = 10;
const REQUEST: Duration = Duration::from_secs(30);
/// All of them have to be ready by then; a cluster that is slower has its figure all the same.
const LONGEST: Duration = Duration::from_secs(300);

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut controllers = Controllers::start()?;
    runtime.block_on(async {
        let client = Arc::new(Client::new(&controllers.addresses, &controllers.administrator()?)?);
        let fleet = furnish(&controllers, &client).await?;

        let began = Instant::now();
        let made = create_all(&client).await?;
        figures.add("creates_per_s", made as f64 / began.elapsed().as_secs_f64(), ">= 500");
        ensure!(made == RESOURCES, "{made} of {RESOURCES} resources were ready within {LONGEST:?}");
        figures.add("controller_rss_mib_10000", controllers.largest_resident_mib()?, "<= 300");
        lists(&client, figures).await?;
        cold_start(&mut controllers, &client, figures).await?;
        failover(&mut controllers, &client, figures).await?;
        node_death::measure(&client, &fleet, figures).await
    })
}

/// Registers the nodes and a pool on each, with their satellites connected.
async fn furnish(controllers: &Controllers, client: &Arc<Client>) -> Result<Fleet> {
    let status = status(client).await?;
    let nodes: Vec<String> = (1..=NODES).map(|number| format!("n{number}")).collect();
    for (number, name) in nodes.iter().enumerate() {
        let ip = format!("10.77.0.{}", number + 1);
        let request = v1::CreateNodeRequest {
            request_key: request_key(),
            name: name.clone(),
            addresses: vec![v1::Address { name: "default".into(), ip }],
            ..Default::default()
        };
        let what = format!("create node {name}");
        client.call(&what, REQUEST, async |to| to.nodes().create_node(request.clone()).await).await?;
    }
    let identities = nodes.iter().map(|node| controllers.satellite(node)).collect::<Result<Vec<_>>>()?;
    let fleet = Fleet::start(&status.cluster_id, &controllers.addresses, identities, node_death::is_mortal)?;
    for node in &nodes {
        let thin = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: "thin".into() };
        let request = v1::CreatePoolRequest {
            request_key: request_key(),
            node: node.clone(),
            name: "thin".into(),
            provider: Some(v1::create_pool_request::Provider::LvmThin(thin)),
            overcommit_percent: 0,
        };
        let what = format!("create a pool on node {node}");
        client.call(&what, REQUEST, async |to| to.pools().create_pool(request.clone()).await).await?;
    }
    Ok(fleet)
}

/// Makes all of them, and counts those that were ready in time.
async fn create_all(client: &Arc<Client>) -> Result<u64> {
    let kinds = vec![ObjectKind::Resource.into()];
    let mut watch = client.watch(v1::WatchRequest { kinds, ..Default::default() });
    // Its first word is where it begins.
    watch.next().await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, next) = (client.clone(), next.clone());
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= RESOURCES {
                    return anyhow::Ok(());
                }
                create(&client, number).await?;
            }
        });
    }
    let mut ready = BTreeSet::new();
    let all = async {
        while (ready.len() as u64) < RESOURCES {
            let changes = tokio::select! {
                heard = watch.next() => heard?.changes,
                Some(ended) = clients.join_next() => { ended??; continue }
            };
            for change in changes {
                if let Some(Object::Resource(resource)) = change.object
                    && resource.lifecycle() == v1::ResourceLifecycle::Ready
                {
                    ready.insert(resource.name);
                }
            }
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = timeout(LONGEST, all).await {
        ended?;
    }
    Ok(ready.len() as u64)
}

async fn create(client: &Client, number: u64) -> Result<()> {
    let request = v1::CreateResourceRequest {
        request_key: request_key(),
        name: format!("volume-{number}"),
        volume_sizes: vec![1 << 30],
        ..Default::default()
    };
    let what = format!("create resource {}", request.name);
    client.call(&what, REQUEST, async |to| to.resources().create_resource(request.clone()).await).await?;
    Ok(())
}

/// Walks the whole list some times.
async fn lists(client: &Client, figures: &mut Figures) -> Result<()> {
    let (mut pages, mut walks) = (Vec::new(), Vec::new());
    for _ in 0..WALKS {
        let began = Instant::now();
        let resources = resources(client, |page| pages.push(page)).await?;
        let items = resources.len() as u64;
        ensure!(items == RESOURCES, "a list has {items} of {RESOURCES} resources");
        walks.push(began.elapsed());
    }
    pages.sort_unstable();
    figures.add("list_page_p99_ms_10000", milliseconds(pages[pages.len() * 99 / 100]), "<= 50");
    figures.add("list_all_ms_10000", milliseconds(median(&mut walks)), "<= 1000");
    Ok(())
}

/// The whole list, page by page; `took` is told of each page.
pub(super) async fn resources(
    client: &Client,
    mut took: impl FnMut(Duration),
) -> Result<Vec<v1::ResourceView>> {
    let (mut request, mut all) = (v1::ListResourcesRequest::default(), Vec::new());
    loop {
        let asked = Instant::now();
        let page = client
            .read("list resources", REQUEST, async |to| to.resources().list_resources(request.clone()).await)
            .await?;
        took(asked.elapsed());
        all.extend(page.resources);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page = Some(v1::PageRequest { size: 0, token: page.next_page_token });
    }
}

/// From the start of a killed follower's process until it has applied everything that was there.
async fn cold_start(controllers: &mut Controllers, client: &Client, figures: &mut Figures) -> Result<()> {
    let status = status(client).await?;
    let follower = (0..controllers.addresses.len())
        .find(|number| !leads(&status, controllers.name(*number)))
        .context("every controller leads")?;
    controllers.kill(follower)?;
    let alone = Client::new(&controllers.addresses[follower..=follower], &controllers.administrator()?)?;
    let began = Instant::now();
    controllers.start_again(follower)?;
    loop {
        let asked = alone
            .read("read the status", REQUEST, async |to| {
                to.cluster().get_status(v1::GetStatusRequest {}).await
            })
            .await?;
        if asked.applied_revision >= status.applied_revision {
            break;
        }
        ensure!(
            began.elapsed() < REQUEST,
            "the controller is at {} of {}",
            asked.applied_revision,
            status.applied_revision
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    figures.add("cold_start_ms_10000", milliseconds(began.elapsed()), "<= 2000");
    Ok(())
}

/// From the leader's kill to the next accepted write.
async fn failover(controllers: &mut Controllers, client: &Client, figures: &mut Figures) -> Result<()> {
    let status = status(client).await?;
    let leader = (0..controllers.addresses.len())
        .find(|number| leads(&status, controllers.name(*number)))
        .context("nobody leads")?;
    controllers.kill(leader)?;
    let began = Instant::now();
    let request = v1::CreateResourceGroupRequest {
        request_key: request_key(),
        name: "after".into(),
        replicas: 2,
        ..Default::default()
    };
    client
        .call("create group after", REQUEST, async |to| {
            to.resource_groups().create_resource_group(request.clone()).await
        })
        .await?;
    figures.add("leader_failover_ms_10000", milliseconds(began.elapsed()), "<= 3000");
    Ok(())
}

/// What the leader says of the cluster.
async fn status(client: &Client) -> Result<v1::GetStatusResponse> {
    let until = Instant::now() + REQUEST;
    while Instant::now() < until {
        let answers = client
            .ask_each(REQUEST, |to| async move { to.cluster().get_status(v1::GetStatusRequest {}).await })
            .await;
        let answers = answers.into_iter().filter_map(|(_, answer)| answer.ok());
        if let Some(status) = answers.into_iter().find(|status| leads(status, &status.member)) {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("no controller leads")
}

fn leads(status: &v1::GetStatusResponse, name: &str) -> bool {
    let members = status.members.iter().filter_map(|view| view.member.as_ref());
    status.leader != 0
        && members.into_iter().any(|member| member.raft_id == status.leader && member.name == name)
}
