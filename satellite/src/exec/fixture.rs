//! What the tests of several files here begin with.

use std::collections::BTreeMap;

use hawser_plan::step::{Configuration, Generation, SharedSecret};

/// An 8.4 resource on n1 that asks the arbiter, without options, volumes and peers.
pub(super) fn configuration(drbd_name: &str) -> Configuration {
    Configuration {
        drbd_name: drbd_name.into(),
        node: "n1".into(),
        generation: Generation::V8_4,
        shared_secret: SharedSecret(String::new()),
        resource_options: BTreeMap::new(),
        net_options: BTreeMap::new(),
        disk_options: BTreeMap::new(),
        ask_arbiter: true,
        volumes: Vec::new(),
        peers: Vec::new(),
    }
}
