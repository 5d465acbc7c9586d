//! Whether a node and a pool can take a replica at all, as far as the state knows.
//!
//! Asked by the solver before it proposes and by apply before it commits, so that both agree. It must
//! never look at what is only observed.

use hawser_proto::{
    sizes,
    v1::{DrbdGeneration, Layer, Node, NodeFacts, StoragePool},
};

use crate::{capacity, drbd_sizes::backing_size};

/// What a resource asks of each node that it is placed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) replicas: usize,
    pub(crate) layers: &'a [Layer],
    /// Usable bytes of each volume.
    pub(crate) volume_sizes: &'a [u64],
}

impl Need<'_> {
    /// Bytes that a pool has to provide for one replica.
    pub(crate) fn bytes(&self, generation: DrbdGeneration) -> u64 {
        let maximum_peers = maximum_peers(generation);
        let sizes =
            self.volume_sizes.iter().map(|size| backing_size(*size, self.layers, generation, maximum_peers));
        sizes.fold(0, u64::saturating_add)
    }
}

/// Peers that metadata is made with room for.
pub(crate) fn maximum_peers(generation: DrbdGeneration) -> u32 {
    match generation {
        DrbdGeneration::Unspecified => 0,
        DrbdGeneration::DrbdGeneration84 => 1,
        DrbdGeneration::DrbdGeneration9 => 7,
    }
}

/// The DRBD generation that a replica on this node would have; unspecified where it needs no DRBD.
///
/// # Errors
/// In words, why the node cannot take one.
pub(crate) fn node_fits(node: &Node, need: Need<'_>) -> Result<DrbdGeneration, String> {
    if node.is_lost() {
        return Err("it was declared lost".to_owned());
    }
    let replicated = need.layers.contains(&Layer::Drbd);
    if !replicated {
        return if need.replicas == 1 {
            Ok(DrbdGeneration::Unspecified)
        } else {
            Err("without the layer DRBD a resource has exactly 1 replica".to_owned())
        };
    }
    if node.uname.is_empty() {
        return Err("its satellite has never reported".to_owned());
    }
    let facts = node.facts.clone().unwrap_or_default();
    match facts.drbd_generation() {
        DrbdGeneration::Unspecified => return Err("it has no DRBD".to_owned()),
        DrbdGeneration::DrbdGeneration84 => {
            if need.replicas > 2 {
                return Err(format!("its DRBD is {}, which takes at most 2 replicas", version(&facts)));
            }
            if need.volume_sizes.len() > 1 {
                return Err(format!("its DRBD is {}, which takes one volume per resource", version(&facts)));
            }
        }
        DrbdGeneration::DrbdGeneration9 => {
            if need.replicas > maximum_peers(DrbdGeneration::DrbdGeneration9) as usize + 1 {
                return Err(format!(
                    "its DRBD is {}, whose metadata is made for 8 replicas",
                    version(&facts)
                ));
            }
        }
    }
    if need.replicas == 2 && !facts.helper_can_run {
        return Err(
            "its kernel cannot run the fence-peer helper (usermode_helper is disabled), and without it two \
                    replicas could both go on alone"
                .to_owned(),
        );
    }
    Ok(facts.drbd_generation())
}

fn version(facts: &NodeFacts) -> &str {
    match facts.drbd_version.as_str() {
        "" => "of an unknown version",
        version => version,
    }
}

/// Whether a pool may promise what is needed.
///
/// # Errors
/// In words, why not.
pub(crate) fn pool_fits(pool: &StoragePool, bytes: u64) -> Result<(), String> {
    if pool.capacity_bytes == 0 {
        return Err(format!("the size of pool {} is not known yet", pool.name));
    }
    if pool.capacity_bytes < bytes {
        return Err(format!(
            "pool {} has {}, and {} are needed",
            pool.name,
            sizes::format(pool.capacity_bytes),
            sizes::format(bytes)
        ));
    }
    capacity::reserve(pool, bytes).map(|_| ())
}
