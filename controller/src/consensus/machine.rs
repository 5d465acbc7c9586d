//! openraft's state machine over the pure state: applies committed entries in order and publishes the result.
//!
//! The state lives in memory. What is on disk are snapshots and the log; after a start the newest snapshot
//! is loaded and the committed entries after it are applied again. A member must never skip an entry: one
//! that it does not know, or a checksum that differs, ends it.

use std::io;

use futures::{Stream, TryStreamExt};
use hawser_process::beside::beside;
use hawser_state::State;
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};

use super::{
    snapshot::{SnapshotFile, Snapshots},
    types::{LogId, Proposal, Reply, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::view::View;

/// Entries that are applied before the result is published, so that a long replay stays visible.
const PUBLISHED_AT_ONCE: usize = 256;

/// The state of this member, with what openraft wants to know of it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    view: View,
    snapshots: Snapshots,
}

impl Machine {
    /// The machine before the first entry.
    #[must_use]
    pub fn new(view: View, snapshots: Snapshots) -> Self {
        Self {
            state: State::default(),
            last_applied: None,
            membership: StoredMembership::default(),
            view,
            snapshots,
        }
    }

    /// The machine as of the newest snapshot, every byte of which is verified.
    ///
    /// # Errors
    /// If the snapshot cannot be read or is damaged.
    pub fn restore(view: View, snapshots: Snapshots, newest: Option<SnapshotFile>) -> io::Result<Self> {
        let mut machine = Self::new(view, snapshots);
        if let Some(snapshot) = newest {
            let meta = snapshot.meta()?;
            machine.become_snapshot(&meta, snapshot.load()?);
        }
        Ok(machine)
    }

    fn become_snapshot(&mut self, meta: &SnapshotMeta, state: State) {
        self.state = state;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.view.publish_snapshot(self.last_applied.map_or(0, |id| id.index), self.state.clone());
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() }
    }
}

/// What was applied and not yet published.
#[derive(Default)]
struct Unpublished {
    changes: Vec<(u64, Vec<hawser_proto::v1::Change>)>,
    answers: Vec<(ApplyResponder<TypeConfig>, Reply)>,
    entries: usize,
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut unpublished = Unpublished::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id;
            let reply = match entry.payload {
                EntryPayload::Blank => Reply(None),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(id), membership);
                    Reply(None)
                }
                EntryPayload::Normal(Proposal(command)) => {
                    if command.command.is_none() {
                        return Err(io::Error::other(format!(
                            "entry {} holds a command that this release does not know; upgrade this \
                             controller, it goes on from there",
                            id.index
                        )));
                    }
                    let effect = hawser_state::apply(&mut self.state, id.index, id.leader_id.term, &command);
                    if let Some(divergence) = effect.divergence {
                        return Err(io::Error::other(divergence.to_string()));
                    }
                    if !effect.changes.is_empty() {
                        unpublished.changes.push((id.index, effect.changes));
                    }
                    Reply(Some(effect.outcome))
                }
            };
            self.last_applied = Some(id);
            unpublished.entries += 1;
            if let Some(responder) = responder {
                unpublished.answers.push((responder, reply));
            }
            if unpublished.entries == PUBLISHED_AT_ONCE {
                self.publish(std::mem::take(&mut unpublished));
            }
        }
        self.publish(unpublished);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { state: self.state.clone(), meta: self.meta(), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let snapshots = self.snapshots.clone();
        // Verified before it takes the place of another, which may be all that this member has.
        let state = beside(move || {
            let state = snapshot.load()?;
            snapshots.adopt(&snapshot)?;
            Ok::<_, io::Error>(state)
        })
        .await?;
        self.become_snapshot(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        let Some(snapshot) = self.snapshots.newest()? else { return Ok(None) };
        Ok(Some(SnapshotOf::<TypeConfig, _> { meta: snapshot.meta()?, snapshot }))
    }
}

impl Machine {
    /// Shows the state to readers first and answers then, so that whoever wrote reads what it wrote.
    fn publish(&self, unpublished: Unpublished) {
        if let Some(last) = self.last_applied {
            self.view.publish(last.index, self.state.clone(), unpublished.changes);
        }
        for (responder, reply) in unpublished.answers {
            responder.send(reply);
        }
    }
}

/// Writes a snapshot of the state as it was when the builder was made, while the machine goes on.
#[derive(Debug)]
pub struct SnapshotBuilder {
    state: State,
    meta: SnapshotMeta,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        let (state, meta, snapshots) = (self.state.clone(), self.meta.clone(), self.snapshots.clone());
        let snapshot = beside(move || snapshots.write(&meta, &state)).await?;
        Ok(SnapshotOf::<TypeConfig, _> { meta: self.meta.clone(), snapshot })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{self, command::Command};

    use super::*;
    use crate::consensus::types::{Entry, log_id};

    fn machine() -> (tempfile::TempDir, Machine) {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path(), "c", 1).unwrap();
        (directory, Machine::new(View::new(100), snapshots))
    }

    async fn apply(machine: &mut Machine, index: u64, command: Option<Command>) -> io::Result<()> {
        let command = v1::Command { at_unix_ms: 1, request: None, command };
        let payload = EntryPayload::Normal(Proposal(command));
        let entry = Entry { log_id: log_id(1, index), payload };
        machine.apply(futures::stream::iter([Ok((entry, None))])).await
    }

    fn begin() -> Option<Command> {
        Some(Command::InitializeCluster(v1::InitializeCluster {
            cluster_id: "c".into(),
            name: "test".into(),
            lineage: 1,
            first_member: Some(v1::Member {
                raft_id: 1,
                name: "n1".into(),
                address: "10.0.0.1:6470".into(),
                store_incarnation: 5,
            }),
            numbers: None,
        }))
    }

    #[tokio::test]
    async fn an_unknown_command_stops_the_member_before_anything_changes() {
        let (_directory, mut machine) = machine();
        apply(&mut machine, 2, begin()).await.unwrap();
        let before = machine.view.published();

        let refusal = apply(&mut machine, 3, None).await.unwrap_err().to_string();

        assert!(refusal.contains("entry 3") && refusal.contains("upgrade this controller"), "{refusal}");
        assert_eq!(machine.view.revision(), before.revision);
        assert_eq!(machine.last_applied, Some(log_id(1, 2)));
    }

    #[tokio::test]
    async fn a_member_whose_state_differs_from_a_committed_checksum_stops() {
        let (_directory, mut machine) = machine();
        apply(&mut machine, 2, begin()).await.unwrap();
        let interval = hawser_state::CHECKSUM_INTERVAL;
        apply(&mut machine, interval + 1, Some(Command::Tick(v1::Tick { elapsed_ms: 1 }))).await.unwrap();
        let checkpoint = machine.state.checkpoint().unwrap().clone();
        let checksum = |sha256: Vec<u8>| {
            Some(Command::Checksum(v1::Checksum { at_revision: checkpoint.revision(), sha256 }))
        };

        apply(&mut machine, interval + 2, checksum(checkpoint.checksum().to_vec())).await.unwrap();
        let refusal = apply(&mut machine, interval + 3, checksum(vec![7; 32])).await.unwrap_err();

        assert!(refusal.to_string().contains("differs from the cluster's"), "{refusal}");
    }
}
