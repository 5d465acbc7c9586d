//! A backup becomes the first store of a new lineage; whoever is of the old one is refused, and ends.

use std::fs;

use hawser_controller::consensus::{BACKUP_FILE, Backup, ORDER_FILE, Retention, StartError, StoreOrder};
use hawser_proto::v1;
use prost::Message;

use super::cluster::{CLUSTER, Member, first_member, three_members};

fn backup(member: &Member) -> Backup {
    member.wait("a backup", member.consensus().backup()).unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The order to restore a backup, as the command line writes it; nobody here looks at the signature.
fn order(member: &Member, backup: &Backup, lineage: u64) -> StoreOrder {
    let statement = v1::RestoreStatement {
        cluster_id: CLUSTER.into(),
        from_lineage: backup.header.lineage,
        from_revision: backup.header.last_log_id.unwrap_or_default().index,
        lineage,
        restore_id: 0xbac0 + lineage,
        at_unix_ms: 1,
    };
    StoreOrder::Restore {
        cluster_id: CLUSTER.into(),
        cluster_name: "test".into(),
        lineage,
        name: member.name.clone(),
        address: member.address.to_string(),
        statement: hexadecimal(&statement.encode_to_vec()),
        signature: "00".into(),
    }
}

fn lay_out(member: &Member, bytes: &[u8], order: &StoreOrder) {
    fs::write(member.directory.path().join(BACKUP_FILE), bytes).unwrap();
    member.order(order);
}

#[test]
fn a_backup_is_restored_with_a_higher_lineage_and_others_join() {
    // Given a backup of three members, two of which are lost, and with them what came after it.
    let mut members = three_members(Retention::default());
    members[0].create_node("before");
    let backup = backup(&members[super::leader(&members)]);
    let mut old = members.remove(1);
    let last = members[0].create_node("since");
    for member in &mut members {
        member.kill();
    }
    old.kill();
    drop(members);

    // When it is restored on a new directory.
    let mut first = Member::new("n1");
    first.wire = old.wire.clone();
    lay_out(&first, &backup.bytes, &order(&first, &backup, 2));
    first.start().unwrap();
    first.wait_to_lead();

    // Then it has what the backup has, alone, and no log index comes twice.
    let status = first.consensus().status();
    assert_eq!((status.lineage, status.members.len()), (2, 1));
    let state = first.consensus().view().state();
    assert!(state.node("before").is_some() && state.node("since").is_none());
    assert!(first.create_node("after") > last + (1 << 39));
    assert!(
        !first.directory.path().join(ORDER_FILE).exists()
            && !first.directory.path().join(BACKUP_FILE).exists()
    );

    // It keeps all of that over a restart, and another member joins it.
    first.kill();
    first.start().unwrap();
    first.wait_to_lead();
    assert!(first.consensus().view().state().node("after").is_some());
    let mut second = Member::new("n3");
    second.wire = first.wire.clone();
    let raft_id = first.announce(&second);
    let introducer = first.consensus().member();
    second.order(&StoreOrder::Join {
        cluster_id: CLUSTER.into(),
        cluster_name: "test".into(),
        lineage: 2,
        raft_id,
        name: "n3".into(),
        address: second.address.to_string(),
        members: vec![hawser_controller::consensus::Introducer {
            raft_id: introducer.raft_id,
            name: introducer.name,
            address: introducer.address,
            store_incarnation: introducer.store_incarnation,
        }],
    });
    second.start().unwrap();
    let revision = first.create_node("joined");
    second.wait_for_revision(revision);
    assert_eq!(second.consensus().view().state().checksum(), first.consensus().view().state().checksum());
}

#[test]
fn a_member_of_the_old_lineage_is_refused_and_ends() {
    // Given a cluster of two that was restored at the address of the first, while the second was away.
    let mut old_first = first_member(Retention::default());
    let mut old = Member::new("n2");
    old.wire = old_first.wire.clone();
    let raft_id = old_first.announce(&old);
    old.order_join(raft_id, &old_first);
    old.start().unwrap();
    old.wait_for_revision(old_first.create_node("before"));
    let backup = backup(&old_first);
    old.kill();
    old_first.kill();
    let mut first = Member::new("n1");
    first.address = old_first.address;
    first.wire = old_first.wire.clone();
    lay_out(&first, &backup.bytes, &order(&first, &backup, 2));
    first.start().unwrap();
    first.wait_to_lead();

    // When the second comes back, then it hears that its time is over.
    old.start().unwrap();
    let words = old.wait_to_end();

    assert!(words.contains("the cluster was restored from a backup and is at lineage 2"), "{words}");
    assert!(words.contains("hawser cluster add-member"), "{words}");
    assert!(first.create_node("after") > 0, "the restored one goes on");
}

#[test]
fn a_directory_with_a_store_and_a_bad_backup_make_no_store() {
    let mut first = first_member(Retention::default());
    first.create_node("before");
    let backup = backup(&first);
    first.kill();

    // Where a store is, the order is refused and nothing changes.
    lay_out(&first, &backup.bytes, &order(&first, &backup, 2));
    let refused = first.start().unwrap_err().to_string();
    assert!(refused.contains("it orders a store for lineage 2") && refused.contains("is there"), "{refused}");
    fs::remove_file(first.directory.path().join(ORDER_FILE)).unwrap();
    first.start().unwrap();
    first.wait_to_lead();
    assert_eq!(first.consensus().status().lineage, 1);

    // Where none is, the backup has to be whole, and the one that the order is for.
    let mut flipped = backup.bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut newer = backup.bytes.clone();
    newer[8] = 9;
    let other = Backup {
        header: v1::SnapshotHeader { lineage: 7, ..backup.header.clone() },
        bytes: backup.bytes.clone(),
    };
    let table: [(&str, &[u8], &Backup, u64, &str); 6] = [
        ("cut", &backup.bytes[..backup.bytes.len() - 9], &backup, 2, "backup"),
        ("flipped", &flipped, &backup, 2, "backup"),
        ("newer", &newer, &backup, 2, "has format 9"),
        ("none", b"", &backup, 2, "is cut short"),
        ("another", &backup.bytes, &other, 8, "the restore record is for lineage 7"),
        ("no higher", &backup.bytes, &backup, 1, "one from 2 to"),
    ];
    for (what, bytes, ordered, lineage, words) in table {
        let mut member = Member::new("n1");
        lay_out(&member, bytes, &order(&member, ordered, lineage));
        let refused = member.start().unwrap_err();
        assert!(matches!(refused, StartError::Backup { .. }), "{what}: {refused:?}");
        assert!(refused.to_string().contains(words), "{what}: {refused}");
        assert!(!member.directory.path().join("store").exists(), "{what}");
    }
}
