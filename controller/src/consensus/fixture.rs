//! Members for the tests of this room.

use hawser_proto::v1::{self, snapshot_record::Record};
use hawser_state::State;

/// A member that has joined; everything about it follows from its id.
pub(super) fn member(raft_id: u64) -> v1::Member {
    v1::Member {
        raft_id,
        name: format!("n{raft_id}"),
        address: format!("10.0.0.{raft_id}:6470"),
        store_incarnation: raft_id * 100,
    }
}

/// The state of a cluster with these members and nothing else.
pub(super) fn state_of(members: impl IntoIterator<Item = v1::Member>) -> State {
    state_with_removed(members, Vec::new())
}

/// The state of a cluster with these members, and others that were removed.
pub(super) fn state_with_removed(
    members: impl IntoIterator<Item = v1::Member>,
    removed_members: Vec<v1::Member>,
) -> State {
    let cluster =
        v1::ClusterRecord { cluster_id: "c".into(), lineage: 1, removed_members, ..Default::default() };
    let records = std::iter::once(Record::Cluster(cluster))
        .chain(members.into_iter().map(Record::Member))
        .map(|record| v1::SnapshotRecord { record: Some(record) });
    State::from_records(records).expect("every member has an id of its own")
}
