//! Connections of the simulated network are as TCP's.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hawser_process::tls::{PeerIdentity, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

use crate::{clock, fired::Fired, network::Network, process::Process};

const ADDRESS: &str = "b:1";

/// Host a says "one", then "two" a second later, to host b, which notes what it reads and when.
struct Conversation {
    network: Network,
    speaker: Option<Process>,
    listener: Process,
    heard: Arc<Mutex<Vec<(Duration, String)>>>,
    now: Duration,
}

impl Conversation {
    fn begin() -> Self {
        clock::all_have_reached(Duration::ZERO);
        let network = Network::new(7, Fired::default());
        network.add_host("a");
        network.add_host("b");
        let (speaker, listener) = (Process::begin(Duration::ZERO, 1), Process::begin(Duration::ZERO, 2));
        let heard: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut connections = Box::pin(network.listen("b", 2, ADDRESS));
        let notes = Arc::clone(&heard);
        listener.spawn(async move {
            let mut stream = connections.next().await.unwrap().unwrap();
            let mut bytes = [0; 64];
            loop {
                let read = stream.read(&mut bytes).await;
                let words = match &read {
                    Ok(count) => String::from_utf8_lossy(&bytes[..*count]).into_owned(),
                    Err(error) => error.kind().to_string(),
                };
                notes.lock().unwrap().push((clock::now(), words));
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
        });
        let identity = PeerIdentity { cluster_id: "c".into(), role: Role::Satellite, name: "a".into() };
        let dialer = network.dialer("a", 1, identity);
        speaker.spawn(async move {
            let mut stream = dialer.stream(format!("http://{ADDRESS}").parse().unwrap()).await.unwrap();
            stream.write_all(b"one").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            // It may have been cut off from a listener that is gone by now.
            let _ = stream.write_all(b"two").await;
            std::future::pending::<()>().await;
        });
        Self { network, speaker: Some(speaker), listener, heard, now: Duration::ZERO }
    }

    fn run_until(&mut self, milliseconds: u64) {
        let end = Duration::from_millis(milliseconds);
        while self.now < end {
            self.now += Duration::from_millis(2);
            if let Some(speaker) = &self.speaker {
                speaker.run_until(self.now).unwrap();
            }
            self.listener.run_until(self.now).unwrap();
            clock::all_have_reached(self.now);
        }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, words)| words.clone()).collect()
    }
}

#[test]
fn what_is_sent_arrives_after_its_way() {
    let mut conversation = Conversation::begin();
    conversation.run_until(500);
    assert_eq!(conversation.heard(), ["one"]);
    assert!(!conversation.heard.lock().unwrap()[0].0.is_zero());
    conversation.run_until(1_500);
    assert_eq!(conversation.heard(), ["one", "two"]);
}

#[test]
fn a_cut_delays_and_loses_nothing() {
    let mut conversation = Conversation::begin();
    conversation.run_until(500);
    conversation.network.cut("a", "b", true);
    conversation.run_until(5_000);
    assert_eq!(conversation.heard(), ["one"]);
    conversation.network.cut("a", "b", false);
    conversation.run_until(6_000);
    assert_eq!(conversation.heard(), ["one", "two"]);
}

#[test]
fn a_killed_process_is_noticed_and_a_power_cut_is_not_until_the_host_is_back() {
    let mut conversation = Conversation::begin();
    conversation.run_until(500);
    conversation.network.close(1);
    conversation.speaker = None;
    conversation.run_until(600);
    assert_eq!(conversation.heard(), ["one", ""], "its end");

    let mut conversation = Conversation::begin();
    conversation.run_until(500);
    conversation.network.power_off("a");
    conversation.speaker = None;
    conversation.run_until(60_000);
    assert_eq!(conversation.heard(), ["one"]);
    conversation.network.power_on("a");
    conversation.run_until(60_100);
    assert_eq!(conversation.heard(), ["one", "connection reset"]);
}
