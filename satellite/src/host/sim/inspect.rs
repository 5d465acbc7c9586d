//! What an onlooker sees of a simulated world: everything at one moment, also what no satellite could ask.
//!
//! For checks only. It must never change anything.

use std::collections::{BTreeMap, BTreeSet};

use hawser_plan::observed::{ConnectionState, DiskState, GateTable, Role};

use super::{
    SimWorld,
    state::{Node, key_of},
};

/// One node.
#[derive(Debug, Clone)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// It has power.
    pub running: bool,
    /// DRBD resources in its kernel.
    pub resources: Vec<ResourceSeen>,
    /// It has booted so often.
    pub boots: u64,
    /// Its volumes.
    pub volumes: Vec<VolumeSeen>,
    /// DRBD resources that have a `.res` file.
    pub files: Vec<String>,
    /// Gates, and whether they lead to a device rather than to errors.
    pub gates: Vec<(String, bool)>,
    /// Processes and the gates that they hold.
    pub holders: Vec<(i32, String)>,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumeSeen {
    /// Its volume group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// It carries Hawser's mark.
    pub marked: bool,
    /// It has DRBD's metadata, and by that its content is consistent.
    pub consistent: bool,
    /// Records, by block.
    pub blocks: BTreeMap<u64, u64>,
}

/// A DRBD resource in a kernel.
#[derive(Debug, Clone)]
pub struct ResourceSeen {
    /// Its name in DRBD.
    pub drbd_name: String,
    /// Its minors.
    pub minors: Vec<u32>,
    /// Its role here.
    pub role: Role,
    /// Whether its I/O is frozen.
    pub suspended: bool,
    /// Its disk.
    pub disk: DiskState,
    /// The volume that it lies on.
    pub volume: String,
    /// Its connection to the peer.
    pub connection: ConnectionState,
    /// Blocks with a write that was not answered yet: it may be on one disk alone.
    pub under_way: BTreeSet<u64>,
}

impl SimWorld {
    /// Every node, as it is now.
    pub fn inspect(&self) -> Vec<NodeSeen> {
        self.lock().nodes.iter().map(|(name, node)| seen(name, node)).collect()
    }

    /// What consumers were told is written, by DRBD resource and block: the newest record. Only of resources that are
    /// `wanted`, by their DRBD names.
    pub fn acknowledged(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, BTreeMap<u64, u64>> {
        let acknowledged = &self.lock().acknowledged;
        let wanted = acknowledged.iter().filter(|(drbd_name, _)| wanted(drbd_name));
        wanted.map(|(drbd_name, blocks)| (drbd_name.clone(), blocks.clone())).collect()
    }

    /// Node and DRBD resource of everybody who told a consumer so since this was last asked.
    pub fn acknowledged_lately(&self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.lock().acknowledgers)
    }

    /// Kills every process on `node` that holds a gate whose name begins with `prefix`.
    pub fn kill_holders(&self, node: &str, prefix: &str) {
        let holders: Vec<i32> = self.lock().nodes.get(node).map_or_else(Vec::new, |node| {
            let held = node.processes.iter().filter(|(_, process)| process.gate.starts_with(prefix));
            held.map(|(pid, _)| *pid).collect()
        });
        for pid in holders {
            self.kill(node, pid);
        }
    }
}

fn seen(name: &str, node: &Node) -> NodeSeen {
    let resources = node
        .resources
        .iter()
        .map(|(drbd_name, resource)| ResourceSeen {
            drbd_name: drbd_name.clone(),
            minors: resource.configuration.volumes.iter().map(|volume| volume.minor).collect(),
            role: resource.role,
            suspended: resource.suspended.any(),
            disk: resource.disk,
            volume: key_of(&resource.configuration).map(|(_, name)| name).unwrap_or_default(),
            connection: resource.connection,
            under_way: resource.waiting.iter().map(|waiting| waiting.block).collect(),
        })
        .collect();
    NodeSeen {
        name: name.to_owned(),
        running: node.running,
        boots: node.boots,
        resources,
        volumes: node
            .volumes
            .iter()
            .map(|((group, name), volume)| VolumeSeen {
                group: group.clone(),
                name: name.clone(),
                marked: volume.mark.is_some(),
                consistent: volume.metadata.as_ref().is_some_and(|metadata| metadata.consistent),
                blocks: volume.blocks.clone(),
            })
            .collect(),
        files: node.files.keys().cloned().collect(),
        gates: node
            .gates
            .iter()
            .map(|(name, gate)| (name.clone(), gate.table == GateTable::Linear && !gate.failing))
            .collect(),
        holders: node.processes.iter().map(|(pid, process)| (*pid, process.gate.clone())).collect(),
    }
}
