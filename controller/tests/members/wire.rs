//! What passes between the members of one cluster: everything, until a test cuts one of them off.
//!
//! It refuses at the receiver, as a request arrives, so that connections that stand already are cut as well.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;
use tonic::Status;

/// Shared by all members that can hear each other.
#[derive(Clone)]
pub(crate) struct Wire {
    traffic: Arc<watch::Sender<Traffic>>,
}

#[derive(Default)]
struct Traffic {
    deaf: Vec<String>,
    mute: Vec<String>,
    sent: BTreeMap<String, Sent>,
}

/// Requests of one member, counted where they arrived.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) passed: u64,
    pub(crate) refused: u64,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { traffic: Arc::new(watch::Sender::default()) }
    }

    /// Nothing passes to or from the member.
    pub(crate) fn cut(&self, member: &str) {
        self.traffic.send_modify(|traffic| {
            traffic.deaf.push(member.to_owned());
            traffic.mute.push(member.to_owned());
        });
    }

    /// The others hear the member again; it still hears nobody but for answers.
    pub(crate) fn heal_outward(&self, member: &str) {
        self.traffic.send_modify(|traffic| traffic.mute.retain(|name| name != member));
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.traffic.send_modify(|traffic| {
            traffic.deaf.clear();
            traffic.mute.clear();
        });
    }

    /// A request of `sender` has arrived at `receiver`: may it pass?
    pub(crate) fn pass(&self, sender: &str, receiver: &str) -> Result<(), Status> {
        let mut passes = true;
        self.traffic.send_modify(|traffic| {
            passes = !traffic.mute.iter().any(|name| name == sender)
                && !traffic.deaf.iter().any(|name| name == receiver);
            let sent = traffic.sent.entry(sender.to_owned()).or_default();
            let count = if passes { &mut sent.passed } else { &mut sent.refused };
            *count += 1;
        });
        if passes { Ok(()) } else { Err(Status::unavailable("cut off")) }
    }

    /// What the member has sent so far.
    pub(crate) fn sent(&self, member: &str) -> Sent {
        self.traffic.borrow().sent.get(member).copied().unwrap_or_default()
    }

    /// Waits until what the member has sent is as wanted.
    pub(crate) async fn wait_for_sent(&self, member: &str, wanted: impl Fn(Sent) -> bool) {
        let enough = |traffic: &Traffic| wanted(traffic.sent.get(member).copied().unwrap_or_default());
        self.traffic.subscribe().wait_for(enough).await.expect("this wire holds the sender");
    }
}
