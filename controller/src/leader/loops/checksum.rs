//! Every so many entries the leader commits the checksum of the state, and a member that comes to another one stops.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

/// What has been proposed in this reign.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    proposed: u64,
}

impl Checksums {
    /// `Checksum` of a checkpoint that was not yet proposed.
    pub(super) fn decide(&mut self, state: &State) -> Option<Command> {
        let checkpoint = state.checkpoint()?;
        let at_revision = checkpoint.revision();
        if at_revision <= self.proposed {
            return None;
        }
        self.proposed = at_revision;
        Some(Command::Checksum(v1::Checksum { at_revision, sha256: checkpoint.checksum().to_vec() }))
    }
}
