//! Commands through Raft with fsync: three controller processes on this machine, their stores on a real disk,
//! 16 clients over gRPC with mutual TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hawser_client::{Client, request_key};
use hawser_proto::v1;

use super::Figures;
use super::controllers::Controllers;

const CLIENTS: u32 = 16;
const MEASURED: Duration = Duration::from_secs(10);

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let controllers = Controllers::start()?;
    let per_second = runtime.block_on(load(&controllers))?;
    figures.add("commands_per_s", per_second, ">= 2000");
    Ok(())
}

/// Commands per second over all clients, after a second of warming up.
async fn load(controllers: &Controllers) -> Result<f64> {
    let identity = controllers.administrator()?;
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::new(&controllers.addresses, &identity)?;
        let done = done.clone();
        clients.push(tokio::spawn(async move {
            loop {
                create_and_delete(&client, number).await?;
                done.fetch_add(2, Ordering::Relaxed);
            }
            #[allow(unreachable_code)]
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, before) = (Instant::now(), done.load(Ordering::Relaxed));
    tokio::time::sleep(MEASURED).await;
    let (took, after) = (began.elapsed(), done.load(Ordering::Relaxed));
    for client in clients {
        ensure!(!client.is_finished(), "a client ended early: {:?}", client.await);
        client.abort();
    }
    Ok((after - before) as f64 / took.as_secs_f64())
}

/// Two committed commands that leave nothing behind.
async fn create_and_delete(client: &Client, number: u32) -> Result<()> {
    let within = Duration::from_secs(30);
    let name = format!("load-{number}");
    let create = v1::CreateResourceGroupRequest {
        request_key: request_key(),
        name: name.clone(),
        replicas: 2,
        ..Default::default()
    };
    client
        .call("create group", within, async |controller| {
            controller.resource_groups().create_resource_group(create.clone()).await
        })
        .await?;
    let delete = v1::DeleteResourceGroupRequest { request_key: request_key(), name };
    client
        .call("delete group", within, async |controller| {
            controller.resource_groups().delete_resource_group(delete.clone()).await
        })
        .await?;
    Ok(())
}
