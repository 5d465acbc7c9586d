//! Who asks this leader right now for what another node holds.
//!
//! A claim to take over stands for as long as somebody asks; one of which nobody here knows, because its request has
//! ended or another member led then, is withdrawn (`loops/claims.rs`). It must never outlive the requests: the guard
//! that a request holds is all that there is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use tokio::sync::watch;

/// Resource and node.
type Target = (String, String);

/// The requests under way, by what they ask for.
#[derive(Debug, Default)]
pub struct TakeOverRequests {
    asking: Arc<watch::Sender<BTreeMap<Target, usize>>>,
}

/// Held by a request for as long as it asks.
#[derive(Debug)]
pub struct Asking {
    asking: Weak<watch::Sender<BTreeMap<Target, usize>>>,
    target: Target,
}

impl TakeOverRequests {
    /// Notes that a request asks for `resource` on `node`, until the guard is dropped.
    #[must_use]
    pub fn begin(&self, resource: &str, node: &str) -> Asking {
        let target = (resource.to_owned(), node.to_owned());
        self.asking.send_modify(|asking| *asking.entry(target.clone()).or_default() += 1);
        Asking { asking: Arc::downgrade(&self.asking), target }
    }

    /// Whether anybody asks for `resource` on `node`.
    #[must_use]
    pub fn is_asked_for(&self, resource: &str, node: &str) -> bool {
        self.asking.borrow().contains_key(&(resource.to_owned(), node.to_owned()))
    }

    /// Changes when somebody begins or ends to ask.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<BTreeMap<Target, usize>> {
        self.asking.subscribe()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(asking) = self.asking.upgrade() else { return };
        asking.send_modify(|asking| {
            if let Some(count) = asking.get_mut(&self.target) {
                *count -= 1;
                if *count == 0 {
                    asking.remove(&self.target);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ask_for_is_asked_for_until_both_have_ended() {
        let requests = TakeOverRequests::default();
        let mut changes = requests.changes();
        let one = requests.begin("data", "n2");
        let other = requests.begin("data", "n2");
        assert!(requests.is_asked_for("data", "n2"));
        assert!(!requests.is_asked_for("data", "n1") && !requests.is_asked_for("logs", "n2"));
        drop(one);
        assert!(requests.is_asked_for("data", "n2"));
        changes.mark_unchanged();
        drop(other);
        assert!(!requests.is_asked_for("data", "n2"));
        assert!(changes.has_changed().is_ok_and(|changed| changed), "the leader looks again");
    }
}
