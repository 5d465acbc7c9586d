//! Members for the tests of this room.

use hawser_proto::v1;

/// A member that has joined; everything about it follows from its id.
pub(super) fn member(raft_id: u64) -> v1::Member {
    v1::Member {
        raft_id,
        name: format!("n{raft_id}"),
        address: format!("10.0.0.{raft_id}:6470"),
        store_incarnation: raft_id * 100,
    }
}
