//! What snapshot files survive, and what makes them refused.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, io};

use hawser_proto::v1::{self, command::Command, snapshot_record::Record};
use hawser_state::State;
use tempfile::TempDir;

use super::{
    snapshot::{SnapshotFile, Snapshots},
    types::{Membership, Node, SnapshotMeta, StoredMembership, log_id},
};

fn state(nodes: u32) -> State {
    let mut state = State::default();
    let member = v1::Member { raft_id: 1, name: "n1".into(), address: "a:1".into(), store_incarnation: 5 };
    let first = Command::InitializeCluster(v1::InitializeCluster {
        cluster_id: "c".into(),
        name: "test".into(),
        lineage: 1,
        first_member: Some(member),
        numbers: None,
    });
    let others = (0..nodes).map(|number| {
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
        let addresses = vec![v1::Address { name: "default".into(), ip }];
        Command::CreateNode(v1::CreateNode {
            name: format!("node-{number}"),
            addresses,
            ..Default::default()
        })
    });
    for (index, command) in (2..).zip(std::iter::once(first).chain(others)) {
        let command = v1::Command { at_unix_ms: index, request: None, command: Some(command) };
        hawser_state::apply(&mut state, index, 1, &command);
    }
    state
}

fn meta(index: u64) -> SnapshotMeta {
    let member = v1::Member { raft_id: 1, name: "n1".into(), address: "a:1".into(), store_incarnation: 5 };
    let members = Membership::new(vec![[1].into()], BTreeMap::from([(1, Node::from(member))])).unwrap();
    SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        last_membership: StoredMembership::new(Some(log_id(1, 0)), members),
    }
}

fn directory() -> (TempDir, Snapshots) {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(directory.path(), "c", 1).unwrap();
    (directory, snapshots)
}

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_state_survives_its_snapshot_and_the_last_two_are_kept() {
    // Given a state that takes several sections.
    let (directory, snapshots) = directory();
    assert!(snapshots.newest().unwrap().is_none());
    let groups = (0..10_000).map(|number| v1::ResourceGroup {
        name: format!("group-{number:050}"),
        ..v1::ResourceGroup::default()
    });
    let groups = groups.map(|group| v1::SnapshotRecord { record: Some(Record::Group(group)) });
    let state = State::from_records(state(3).records().chain(groups)).unwrap();
    for index in [10, 9_999, 20_001] {
        snapshots.write(&meta(index), &state).unwrap();
    }
    // And one that was not completed.
    fs::write(directory.path().join("x-built.part"), b"half").unwrap();

    let snapshots = Snapshots::open(directory.path(), "c", 1).unwrap();
    let newest = snapshots.newest().unwrap().unwrap();

    assert_eq!(newest.meta().unwrap(), meta(20_001));
    assert_eq!(newest.load().unwrap().checksum(), state.checksum());
    assert_eq!(names(&directory), ["00000000000000009999-1.snapshot", "00000000000000020001-1.snapshot"]);
}

#[test]
fn no_flipped_bit_and_no_missing_byte_is_ever_read_as_a_state() {
    let (directory, snapshots) = directory();
    snapshots.write(&meta(7), &state(50)).unwrap();
    let path = directory.path().join("00000000000000000007-1.snapshot");
    let whole = fs::read(&path).unwrap();
    let state = state(50).checksum();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        snapshots.newest().and_then(|newest| newest.unwrap().load()).map(|state| state.checksum())
    };
    assert_eq!(read(&whole).unwrap(), state);
    let mut ignored = 0;
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x20;
        match read(&bytes) {
            // zstd ignores some bits.
            Ok(found) => {
                assert_eq!(found, state, "byte {position}");
                ignored += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {position}: {error}");
                assert!(error.to_string().contains("00000000000000000007-1.snapshot"), "{error}");
            }
        }
    }
    assert!(ignored * 50 < whole.len(), "{ignored} of {} flipped bits were not noticed", whole.len());
    for length in [0, 4, 13, 60, whole.len() / 2, whole.len() - 1] {
        let error = read(&whole[..length]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length} bytes: {error}");
    }
}

#[test]
fn a_damaged_newest_snapshot_does_not_give_way_to_an_older_one() {
    let (directory, snapshots) = directory();
    for index in [5, 6] {
        snapshots.write(&meta(index), &state(3)).unwrap();
    }
    fs::write(directory.path().join("00000000000000000006-1.snapshot"), b"HWSRSNAP").unwrap();
    assert!(snapshots.newest().is_err());
}

#[test]
fn a_received_snapshot_takes_its_place_once_it_is_adopted() {
    // Given a snapshot that another member sends in pieces.
    let (_sender, theirs) = directory();
    let sent = theirs.write(&meta(30), &state(10)).unwrap();
    let (directory, own) = directory();
    own.write(&meta(4), &state(1)).unwrap();
    let mut incoming = own.receive(sent.header()).unwrap();
    let mut offset = 0;
    loop {
        let piece = sent.read_at(offset, 100).unwrap();
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        incoming.write(&piece).unwrap();
    }
    let received: SnapshotFile = incoming.finish().unwrap();
    assert_eq!(own.newest().unwrap().unwrap().meta().unwrap(), meta(4));

    let adopted = own.adopt(&received).unwrap();

    assert_eq!(adopted.load().unwrap().checksum(), sent.load().unwrap().checksum());
    assert_eq!(own.newest().unwrap().unwrap().meta().unwrap(), meta(30));
    assert_eq!(names(&directory), ["00000000000000000004-1.snapshot", "00000000000000000030-1.snapshot"]);
    // The sender's own file is as it was.
    assert!(theirs.newest().unwrap().is_some());
}

#[test]
fn another_clusters_snapshot_is_not_adopted() {
    let (_sender, theirs) = directory();
    let sent = theirs.write(&meta(30), &state(10)).unwrap();
    for (cluster, lineage) in [("d", 1), ("c", 2)] {
        let directory = tempfile::tempdir().unwrap();
        let own = Snapshots::open(directory.path(), cluster, lineage).unwrap();
        let error = own.adopt(&sent).unwrap_err().to_string();
        assert!(error.contains("was sent to a member of cluster"), "{error}");
        assert!(names(&directory).is_empty());
    }
}
