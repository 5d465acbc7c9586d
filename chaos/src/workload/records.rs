//! Records that are written through a gate and read back: what was acknowledged must be there.

use std::{collections::BTreeMap, time::Duration};

use hawser_satellite::host::sim::{SimWorld, WriteState, record_in};
use tokio::time::{Instant, sleep};

use super::Worker;

/// Written first after an attachment: once it is acknowledged, the writer surely is the owner.
const PROBE: u64 = 1_000;
const BLOCKS: u64 = 8;

/// What must be, and may be, on a volume.
#[derive(Default)]
pub(super) struct Records {
    next: u64,
    blocks: BTreeMap<u64, Block>,
    /// Processes whose write was not answered yet: node, pid, block, record.
    pending: Vec<(String, i32, u64, u64)>,
}

#[derive(Default)]
struct Block {
    acknowledged: u64,
    perhaps: Vec<u64>,
}

impl Worker {
    /// Writes a probe and, once it is acknowledged, reads everything and writes some more.
    pub(super) async fn write_and_verify(&self, node: &str, gate: &str, records: &mut Records) {
        if !self.write(node, gate, PROBE, records).await {
            return;
        }
        self.verify(node, gate, records);
        for _ in 0..self.draw(1..12) {
            let block = self.draw(0..BLOCKS);
            if !self.write(node, gate, block, records).await {
                return;
            }
            sleep(Duration::from_millis(self.draw(0..400))).await;
        }
    }

    pub(super) async fn verified_at_rest(&self, node: &str, gate: &str, records: &mut Records) -> bool {
        let written = self.write(node, gate, PROBE, records).await;
        if written {
            self.verify(node, gate, records);
        }
        written
    }

    /// Writes one record. True if it was acknowledged.
    async fn write(&self, node: &str, gate: &str, block: u64, records: &mut Records) -> bool {
        records.next += 1;
        let record = records.next;
        let Some(pid) = self.world.write(node, gate, block, record) else { return false };
        records.blocks.entry(block).or_default().perhaps.push(record);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.world.write_state(node, pid) {
                Some(WriteState::Acknowledged) => {
                    self.world.kill(node, pid);
                    records.acknowledged(block, record);
                    return true;
                }
                Some(WriteState::Failed) | None => {
                    self.world.kill(node, pid);
                    self.trace
                        .add(&self.resource, format_args!("record {record} on {node} was not acknowledged"));
                    return false;
                }
                Some(WriteState::Pending) if Instant::now() >= deadline => {
                    self.trace.add(&self.resource, format_args!("record {record} on {node} is not answered"));
                    records.pending.push((node.to_owned(), pid, block, record));
                    return false;
                }
                Some(WriteState::Pending) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Compares what is on the volume with what must be there.
    fn verify(&self, node: &str, gate: &str, records: &mut Records) {
        records.look_after_pending(&self.world, |record, on| {
            self.trace.add(&self.resource, format_args!("record {record} was acknowledged late on {on}"));
        });
        for (number, block) in &mut records.blocks {
            let Some(found) = self.world.read(node, gate, *number) else { continue };
            let found = record_in(Some(found));
            if found != block.acknowledged && !block.perhaps.contains(&found) {
                self.violations.note(format!(
                    "invariant 8: {} on {node}: block {number} holds record {found}, but {} was acknowledged",
                    self.resource, block.acknowledged
                ));
            }
        }
    }
}

impl Records {
    fn acknowledged(&mut self, block: u64, record: u64) {
        let block = self.blocks.entry(block).or_default();
        block.acknowledged = record;
        // Writes come one after another, so earlier ones are overwritten.
        block.perhaps.clear();
    }

    /// A write that was frozen may have been answered since.
    fn look_after_pending(&mut self, world: &SimWorld, late: impl Fn(u64, &str)) {
        let pending = std::mem::take(&mut self.pending);
        for (node, pid, block, record) in pending {
            match world.write_state(&node, pid) {
                Some(WriteState::Acknowledged) => {
                    late(record, &node);
                    world.kill(&node, pid);
                    let block = self.blocks.entry(block).or_default();
                    // What was written after it on another node has overwritten it.
                    if record > block.acknowledged {
                        block.acknowledged = record;
                    }
                }
                Some(WriteState::Pending) => self.pending.push((node, pid, block, record)),
                Some(WriteState::Failed) | None => {}
            }
        }
    }
}
