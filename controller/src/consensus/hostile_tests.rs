//! What lies on a controller's disk or comes from another one, damaged: it is refused in words, never taken for less.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, io, path::Path};

use hawser_hostile::{bytes, check, each_cut, each_flip, texts};
use hawser_proto::v1;
use openraft::EntryPayload;
use prost::Message;

use super::{
    StartError, StoreOrder,
    codec::{entry_from_stored, entry_to_stored, meta_from_header, meta_to_header},
    fixture::{member, state_of},
    restored_store::restore_id,
    sled_engine::{seal, split_key, unseal},
    snapshot_format,
    store_order::{obey, read_order},
    types::{Entry, Membership, Node, Proposal, SnapshotMeta, StoredMembership, log_id},
    verify::decode_entry,
    witness::{Testimony, Witness},
};

fn joint() -> Membership {
    let nodes: BTreeMap<_, _> = [1, 4, 9].map(|id| (id, Node::from(member(id)))).into();
    Membership::new(vec![[1].into(), [1, 4, 9].into()], nodes).unwrap()
}

fn entries() -> Vec<Vec<u8>> {
    let command = v1::Command { at_unix_ms: 7, ..v1::Command::default() };
    [EntryPayload::Blank, EntryPayload::Normal(Proposal(command)), EntryPayload::Membership(joint())]
        .map(|payload| entry_to_stored(&Entry { log_id: log_id(3, 17), payload }).encode_to_vec())
        .into()
}

fn slices(samples: &[Vec<u8>]) -> Vec<&[u8]> {
    samples.iter().map(Vec::as_slice).collect()
}

#[test]
fn hostile_entries_are_what_they_say_or_refused_by_their_index() {
    check(&bytes(&slices(&entries()), &[]), |bytes| match decode_entry(17, &bytes) {
        Ok(entry) => {
            assert_eq!(entry.log_id.index, 17);
            assert_eq!(entry_from_stored(entry_to_stored(&entry)).unwrap(), entry);
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let words = error.to_string();
            assert!(["entry", "members", "log id"].iter().any(|word| words.contains(word)), "{words}");
        }
    });
}

#[test]
fn hostile_members() {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(2, 30)),
        last_membership: StoredMembership::new(Some(log_id(2, 12)), joint()),
    };
    check(&bytes(&[&meta_to_header(&meta).encode_to_vec()], &["n1", "10.0.0.1:6470"]), |bytes| {
        let Ok(header) = v1::SnapshotHeader::decode(bytes.as_slice()) else { return };
        if let Ok(meta) = meta_from_header(&header) {
            let members = meta.last_membership.membership();
            assert!(
                members.voter_ids().all(|voter| members.get_node(&voter).is_some()),
                "a voter nobody knows"
            );
            assert_eq!(meta_from_header(&meta_to_header(&meta)).unwrap(), meta);
        }
    });
}

#[test]
fn a_part_of_an_entry_with_any_byte_damaged_is_refused() {
    let key = [&17_u64.to_be_bytes()[..], &0_u16.to_be_bytes()].concat();
    let sealed = seal(&key, 3, b"the content of an entry");
    assert_eq!(unseal(&key, &sealed), Ok((3, &b"the content of an entry"[..])));
    each_cut(&sealed, |at, damaged| assert!(unseal(&key, damaged).is_err(), "cut at {at}"));
    each_flip(&sealed, |at, damaged| assert!(unseal(&key, damaged).is_err(), "byte {at}"));
    each_flip(&key, |at, other| assert!(unseal(other, &sealed).is_err(), "byte {at} of the key"));
    check(&bytes(&[&sealed, &key], &[]), |bytes| {
        assert!(bytes == sealed || unseal(&key, &bytes).is_err(), "{bytes:?}");
        assert_eq!(split_key(&bytes).is_ok(), bytes.len() == 10);
    });
}

#[test]
fn hostile_witnesses_never_say_that_the_log_was_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("witness");
    let mut witness = Witness::create(&path).unwrap();
    for length in 1..=6 {
        witness.testify(Testimony { term: 2, length }).unwrap();
    }
    drop(witness);
    let whole = fs::read(&path).unwrap();
    check(&bytes(&[&whole], &[]), |bytes| {
        fs::write(&path, &bytes).unwrap();
        match Witness::open(&path).map(|witness| witness.testimony()) {
            // One of its two slots.
            Ok(found) => assert!((5..=6).contains(&found.length) && found.term == 2, "{found:?}"),
            Err(error) => {
                assert!(
                    error.kind() == io::ErrorKind::InvalidData && error.to_string().contains("witness"),
                    "{error}"
                );
            }
        }
    });
}

#[test]
fn hostile_snapshots_are_never_read_as_another_state() {
    let state = state_of([member(1), member(4)]);
    let header = v1::SnapshotHeader { cluster_id: "c".into(), lineage: 1, ..Default::default() };
    let mut whole = Vec::new();
    snapshot_format::write(&mut whole, &header, &state).unwrap();
    let mut other = Vec::new();
    snapshot_format::write(&mut other, &header, &state_of([member(9)])).unwrap();
    let known = [state.checksum(), state_of([member(9)]).checksum()];
    check(&bytes(&[&whole, &other], &["HWSRSNAP"]), |bytes| {
        match snapshot_format::read(&mut bytes.as_slice()) {
            Ok(read) => assert!(known.contains(&read.checksum()), "a state that nobody wrote"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

#[test]
fn a_snapshot_that_promises_more_than_it_has_takes_no_room_for_it() {
    for length in [u32::MAX, 16 << 20] {
        let mut bytes = b"HWSRSNAP".to_vec();
        bytes.extend_from_slice(&1_u16.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"short");
        let error = snapshot_format::read_header(&mut bytes.as_slice()).unwrap_err().to_string();
        assert!(error.contains("more than any release writes") || error.contains("cut short"), "{error}");
    }
}

#[test]
fn hostile_orders_to_make_a_store_are_refused_by_their_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("create-store.json");
    let init = r#"{"mode":"init","cluster_id":"c1","cluster_name":"lab","name":"n1","address":"10.0.0.1:6470","numbers":{"minors":"20-29"}}"#;
    let join = r#"{"mode":"join","cluster_id":"c1","cluster_name":"lab","lineage":1,"raft_id":4,"name":"n2","address":"10.0.0.2:6470",
        "members":[{"raft_id":1,"name":"n1","address":"10.0.0.1:6470","store_incarnation":9}]}"#;
    let restore = r#"{"mode":"restore","cluster_id":"c1","cluster_name":"lab","lineage":2,"name":"n1","address":"10.0.0.1:6470",
        "statement":"0a0263312802","signature":"00ff"}"#;
    check(
        &texts(&[init, join, restore], &["init", "join", "restore", "mode", "raft_id", "members", "[]"]),
        |text| {
            fs::write(&path, &text).unwrap();
            let made = read_order(&path).and_then(|order| obey(&order.unwrap(), &path, 900));
            match made {
                Ok(identity) => {
                    assert_eq!(identity.incarnation, 900);
                    assert_eq!(identity.began_the_cluster, identity.raft_id == 1, "{identity:?}");
                }
                Err(error) => {
                    assert!(matches!(error, StartError::Order { .. }), "{error:?}");
                    assert!(error.to_string().contains("create-store.json"), "{error}");
                }
            }
        },
    );
    assert!(read_order(Path::new("/nonexistent/create-store.json")).unwrap().is_none());
}

#[test]
fn hostile_restore_records_name_a_store_or_are_refused_by_the_order() {
    let path = Path::new("create-store.json");
    let statement =
        v1::RestoreStatement { cluster_id: "c1".into(), lineage: 2, restore_id: 7, ..Default::default() };
    let whole: String = statement.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    check(&texts(&[&whole], &["ff", "zz"]), |statement| {
        let order = StoreOrder::Restore {
            cluster_id: "c1".into(),
            cluster_name: "lab".into(),
            lineage: 2,
            name: "n1".into(),
            address: "10.0.0.1:6470".into(),
            statement,
            signature: "00".into(),
        };
        match restore_id(&order, path) {
            Ok(id) => assert_ne!(id, 0),
            Err(error) => assert!(error.to_string().contains("create-store.json"), "{error}"),
        }
    });
}
