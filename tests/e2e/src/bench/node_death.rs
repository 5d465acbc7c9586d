//! A node with 400 attached replicas loses its power: how long until every one of them is attached where its other copy
//! is, asked for 64 at a time, as a platform does that has noticed the node's death.
//!
//! The kernels' part is left out: the survivors notice at once, and promote as soon as the arbiter has outdated the lost
//! copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hawser_client::{Client, request_key};
use hawser_proto::v1::{self, AttachmentLifecycle, ObjectKind, change::Object};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Figures, fleet::Fleet, milliseconds, size::resources};

/// As many as are on each node on average.
const REPLICAS: usize = 400;
const CLIENTS: usize = 64;
const REQUEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60);
/// Let the leader hear from everybody once after all have been attached.
const SETTLES: Duration = Duration::from_secs(2);

/// Between two tries: what the node sent before it died may show it alive to a request that comes just then.
const PAUSE: Duration = Duration::from_millis(100);

/// A resource and the node where it is to be attached.
type Wanted = (String, String);

/// Whether it may be this node that dies: a fifth of all, of which the one with the most replicas does.
pub(super) fn is_mortal(node: &str) -> bool {
    node.ends_with(['0', '5'])
}

pub(super) async fn measure(client: &Arc<Client>, fleet: &Fleet, figures: &mut Figures) -> Result<()> {
    let resources = resources(client, |_| ()).await?;
    let resources: Vec<_> = resources.into_iter().filter_map(|view| view.desired).collect();
    let nodes = resources.iter().flat_map(|resource| &resource.replicas).map(|replica| &replica.node);
    let mut replicas: BTreeMap<&str, usize> = BTreeMap::new();
    nodes.filter(|node| is_mortal(node)).for_each(|node| *replicas.entry(node).or_default() += 1);
    let (dies, _) =
        replicas.into_iter().max_by_key(|(_, replicas)| *replicas).context("no replica is mortal")?;
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    for resource in resources.iter().filter(|resource| is_on(resource, dies)).take(REPLICAS) {
        let other = resource.replicas.iter().find(|replica| replica.node != dies);
        let survivor = other.with_context(|| format!("{} has one replica", resource.name))?;
        there.push((resource.name.clone(), dies.to_owned()));
        elsewhere.push((resource.name.clone(), survivor.node.clone()));
    }
    ensure!(there.len() == REPLICAS, "node {dies} has only {} replicas", there.len());
    attach(client, there).await?;
    sleep(SETTLES).await;

    let died = Instant::now();
    fleet.cut_power(dies);
    attach(client, elsewhere).await?;
    figures.add("node_death_400_ms", milliseconds(died.elapsed()), "<= 5000");
    Ok(())
}

fn is_on(resource: &v1::Resource, node: &str) -> bool {
    resource.replicas.iter().any(|replica| replica.node == node)
}

/// Asks for all of them, and returns when the last is attached.
async fn attach(client: &Arc<Client>, mut wanted: Vec<Wanted>) -> Result<()> {
    let kinds = vec![ObjectKind::Attachment.into()];
    let mut watch = client.watch(v1::WatchRequest { kinds, ..Default::default() });
    // Its first word is where it begins.
    watch.next().await?;
    let mut missing: BTreeSet<Wanted> = wanted.iter().cloned().collect();
    let mut clients = JoinSet::new();
    let share = wanted.len().div_ceil(CLIENTS).max(1);
    while !wanted.is_empty() {
        let mine = wanted.split_off(wanted.len().saturating_sub(share));
        let client = Arc::clone(client);
        clients.spawn(async move {
            for (resource, node) in mine {
                create(&client, resource, node).await?;
            }
            anyhow::Ok(())
        });
    }
    let all = async {
        while !missing.is_empty() {
            let changes = tokio::select! {
                heard = watch.next() => heard?.changes,
                Some(ended) = clients.join_next() => { ended??; continue }
            };
            for change in changes {
                if let Some(Object::Attachment(attachment)) = change.object
                    && attachment.lifecycle() == AttachmentLifecycle::Attached
                {
                    missing.remove(&(attachment.resource, attachment.node));
                }
            }
        }
        anyhow::Ok(())
    };
    let ended = timeout(LONGEST, all).await;
    ended.with_context(|| format!("{} are not attached after {LONGEST:?}", missing.len()))?
}

async fn create(client: &Client, resource: String, node: String) -> Result<()> {
    let mut request = v1::CreateAttachmentRequest { request_key: request_key(), resource, node, mode: 0 };
    let what = format!("attach resource {} on node {}", request.resource, request.node);
    let began = Instant::now();
    loop {
        let asked = client
            .call(&what, REQUEST, async |to| to.attachments().create_attachment(request.clone()).await)
            .await;
        match asked {
            Ok(_) => return Ok(()),
            Err(refused) if began.elapsed() >= LONGEST => return Err(refused.into()),
            Err(_) => request.request_key = request_key(),
        }
        sleep(PAUSE).await;
    }
}
