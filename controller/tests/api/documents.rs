//! How documents go down to a satellite.

use hawser_process::tls::Role;
use hawser_proto::v1::{
    self, controller_message::Message as Down, create_pool_request, satellite_message::Message as Up,
};
use prost::Message;
use tokio::sync::mpsc;

use crate::{
    cluster::{Cluster, key, pool_request, soon},
    satellite::{hello, open},
};

/// What a satellite hears that answers nothing but questions about pools.
enum Heard {
    Document(v1::DesiredDocument),
    Heartbeat,
}

/// The next document.
async fn document(hears: &mut mpsc::UnboundedReceiver<Heard>) -> v1::DesiredDocument {
    loop {
        if let Heard::Document(document) = soon("a document", hears.recv()).await.unwrap() {
            return document;
        }
    }
}

async fn create_pool(cluster: &Cluster, name: &str) {
    let thin = v1::LvmThinProvider { volume_group: "vg".into(), thin_pool: name.into() };
    let request = v1::CreatePoolRequest {
        request_key: key(),
        name: name.into(),
        provider: Some(create_pool_request::Provider::LvmThin(thin)),
        ..pool_request("n1", "vg")
    };
    soon("a pool", cluster.pools(0).create_pool(request)).await.unwrap();
}

#[tokio::test]
async fn while_a_document_is_unanswered_changes_wait_for_one_that_has_them_all() {
    // Given a satellite that has been sent a document and has not said what became of it.
    let cluster = Cluster::single().await;
    cluster.create_node("n1").await;
    let channel = cluster.channel(0, Role::Satellite, "n1");
    let (up, mut inbound) = soon("the session", open(channel, hello("n1"))).await.unwrap();
    let (heard, mut hears) = mpsc::unbounded_channel();
    let answers = up.clone();
    tokio::spawn(async move {
        while let Ok(Some(v1::ControllerMessage { message: Some(message) })) = inbound.message().await {
            let news = match message {
                Down::Document(bytes) => Heard::Document(v1::DesiredDocument::decode(&bytes[..]).unwrap()),
                Down::ProbePool(question) => {
                    let pool = v1::PoolObserved { capacity_bytes: 100 << 30, ..Default::default() };
                    let probed = v1::PoolProbed { id: question.id, pool: Some(pool) };
                    let message = v1::SatelliteMessage { message: Some(Up::PoolProbed(probed)) };
                    answers.send(message).await.unwrap();
                    continue;
                }
                Down::Heartbeat(_) => Heard::Heartbeat,
                Down::Welcome(_) | Down::Restored(_) => continue,
            };
            // The test may have ended.
            let _ = heard.send(news);
        }
    });
    let first = document(&mut hears).await;

    // When it changes three times.
    for name in ["one", "two", "three"] {
        create_pool(&cluster, name).await;
    }

    // Then nothing but heartbeats comes until it has answered, and one document with everything afterwards.
    while let Ok(heard) = hears.try_recv() {
        assert!(matches!(heard, Heard::Heartbeat), "a document came before the last one was answered");
    }
    for _ in 0..3 {
        let heard = soon("a heartbeat", hears.recv()).await.unwrap();
        assert!(matches!(heard, Heard::Heartbeat), "a document came before the last one was answered");
    }
    let answer = |refused: &str| {
        let held = v1::DocumentAnswer {
            lineage: first.lineage,
            revision: first.revision,
            refused: refused.to_owned(),
        };
        up.send(v1::SatelliteMessage { message: Some(Up::Answer(held)) })
    };
    answer("").await.unwrap();
    let next = document(&mut hears).await;
    assert_eq!(next.pools.len(), 3, "{next:?}");

    // One that was refused is answered, too: with what is held instead.
    answer("the disk is full").await.unwrap();
    create_pool(&cluster, "four").await;
    let after = document(&mut hears).await;
    assert_eq!(after.pools.len(), 4, "{after:?}");
}
