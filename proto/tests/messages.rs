//! Damaged messages of every kind that is stored or sent: what decodes at all stays what it is when it is written again.
#![allow(clippy::unwrap_used)]

use hawser_hostile::{bytes, check};
use hawser_proto::v1;
use prost::Message;

/// Asks about a kind of message, from samples of it.
fn ask<M: Message + Default + PartialEq + std::fmt::Debug>(samples: &[M]) {
    let encoded: Vec<Vec<u8>> = samples.iter().map(Message::encode_to_vec).collect();
    let encoded: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
    check(&bytes(&encoded, &["n1", "data"]), |bytes| {
        if let Ok(message) = M::decode(bytes.as_slice()) {
            let again = message.encode_to_vec();
            assert_eq!(M::decode(again.as_slice()).unwrap(), message);
            assert!(again.len() <= 16 * bytes.len() + 16, "{} bytes grow to {}", bytes.len(), again.len());
        }
    });
}

fn member() -> v1::Member {
    v1::Member { raft_id: 4, name: "n1".into(), address: "10.0.0.1:6470".into(), store_incarnation: 900 }
}

fn membership() -> v1::StoredMembership {
    let voters = v1::StoredVoters { raft_ids: vec![1, 4] };
    v1::StoredMembership { configurations: vec![voters.clone(), voters], nodes: vec![member()] }
}

fn command() -> v1::Command {
    let create = v1::CreateNode {
        name: "n1".into(),
        addresses: vec![v1::Address { name: "default".into(), ip: "10.0.0.1".into() }],
        ..Default::default()
    };
    v1::Command {
        at_unix_ms: 1_700_000_000_000,
        request: Some(v1::RequestKey {
            caller: "administrator/root".into(),
            key: "k".into(),
            request_sha256: vec![7; 32],
        }),
        command: Some(v1::command::Command::CreateNode(create)),
    }
}

#[test]
fn hostile_entries() {
    use v1::stored_entry::Payload;
    let id = Some(v1::StoredLogId { term: 3, index: 17 });
    ask(&[
        v1::StoredEntry { id, payload: Some(Payload::Blank(v1::StoredBlank {})) },
        v1::StoredEntry { id, payload: Some(Payload::Command(command())) },
        v1::StoredEntry { id, payload: Some(Payload::Membership(membership())) },
    ]);
}

#[test]
fn hostile_identities_of_stores() {
    ask(&[v1::StoreIdentity {
        cluster_id: "c1".into(),
        cluster_name: "lab".into(),
        lineage: 1,
        raft_id: 4,
        name: "n1".into(),
        address: "10.0.0.1:6470".into(),
        incarnation: 900,
        introduced_by: vec![member()],
        ..Default::default()
    }]);
}

#[test]
fn hostile_headers_of_snapshots() {
    ask(&[v1::SnapshotHeader {
        cluster_id: "c1".into(),
        lineage: 1,
        last_log_id: Some(v1::StoredLogId { term: 3, index: 17 }),
        membership: Some(membership()),
        ..Default::default()
    }]);
}

#[test]
fn hostile_raft_requests() {
    ask(&[v1::AppendEntriesRequest {
        vote: Some(v1::StoredVote { term: 3, candidate: 4, committed: true }),
        previous: Some(v1::StoredLogId { term: 3, index: 16 }),
        entries: vec![v1::StoredEntry::default()],
        leader_commit: Some(v1::StoredLogId { term: 3, index: 16 }),
        ..Default::default()
    }]);
}

#[test]
fn hostile_documents() {
    let peer = v1::DesiredPeer { node: "n1".into(), ip: "10.0.0.1".into(), port: 7000, ..Default::default() };
    let replica = v1::DesiredReplica { resource: "data".into(), peers: vec![peer], ..Default::default() };
    ask(&[v1::DesiredDocument {
        cluster_id: "c1".into(),
        node: "n1".into(),
        lineage: 1,
        revision: 8,
        replicas: vec![replica],
        ..Default::default()
    }]);
}

#[test]
fn hostile_words_of_satellites() {
    use v1::satellite_message::Message;
    let hello = v1::Hello { cluster_id: "c1".into(), node: "n1".into(), revision: 8, ..Default::default() };
    let replica =
        v1::ReplicaObserved { resource: "data".into(), replica_incarnation: 7, ..Default::default() };
    let report = v1::Report { sequence: 1, full: true, replicas: vec![replica], ..Default::default() };
    let held =
        v1::HeldReplica { resource: "data".into(), node: "n1".into(), port: 7000, ..Default::default() };
    let inventory = v1::Inventory { replicas: vec![held] };
    ask(&[Message::Hello(hello), Message::Report(report), Message::Inventory(inventory)]
        .map(|message| v1::SatelliteMessage { message: Some(message) }));
}

#[test]
fn hostile_words_of_controllers() {
    use v1::controller_message::Message;
    let statement =
        v1::RestoreStatement { cluster_id: "c1".into(), lineage: 2, restore_id: 7, ..Default::default() };
    let record = v1::RestoreRecord { statement: statement.encode_to_vec(), signature: vec![3; 70] };
    let words = [
        Message::Welcome(v1::Welcome { term: 3, session: 1 << 32 }),
        Message::Document(vec![1; 40]),
        Message::Heartbeat(v1::Heartbeat { term: 3 }),
        Message::Restored(v1::RestoreNotice { record: Some(record), wants_inventory: true }),
    ];
    ask(&words.map(|message| v1::ControllerMessage { message: Some(message) }));
}
