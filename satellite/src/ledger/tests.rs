//! What the ledger accepts, refuses and remembers.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use hawser_hostile::{bytes, check, each_cut, each_flip};
use hawser_proto::{
    ids::Incarnation,
    v1::{Order, order},
};
use tempfile::TempDir;

use super::*;

fn open(directory: &TempDir) -> Result<Ledger, OpenError> {
    Ledger::open(directory.path(), "cluster-1", "n1", "boot-1")
}

fn document(lineage: u64, revision: u64) -> DesiredDocument {
    DesiredDocument {
        cluster_id: "cluster-1".into(),
        node: "n1".into(),
        lineage,
        revision,
        ..DesiredDocument::default()
    }
}

#[tokio::test]
async fn a_newer_document_is_accepted_and_found_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    let watched = ledger.document();
    assert!(watched.borrow().is_none());

    for revision in [3, 8] {
        let accepted = ledger.accept(document(1, revision).encode_to_vec()).await.unwrap();
        assert!(accepted.fresh);
        assert_eq!(ledger.version().revision.get(), revision);
    }

    assert_eq!(watched.borrow().as_ref().unwrap().document.revision, 8);
    let again = open(&directory).unwrap();
    assert_eq!(again.version().revision.get(), 8);
    assert!(!again.document().borrow().as_ref().unwrap().fresh);
}

#[tokio::test]
async fn what_may_not_be_obeyed_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(2, 8).encode_to_vec()).await.unwrap();
    let mut other_bytes = document(2, 8);
    other_bytes.orders.push(Order { id: 4, ..Order::default() });
    let mut other_cluster = document(2, 9);
    other_cluster.cluster_id = "cluster-2".into();
    let mut other_node = document(2, 9);
    other_node.node = "n2".into();

    for (bytes, expected) in [
        (document(2, 7).encode_to_vec(), "has revision 7, but 8 was accepted"),
        (other_bytes.encode_to_vec(), "revision 8 was accepted before with other content"),
        (document(1, 99).encode_to_vec(), "has lineage 1, but 2 was accepted"),
        (document(3, 1).encode_to_vec(), "needs the restore record"),
        (other_cluster.encode_to_vec(), "for cluster \"cluster-2\", but this is \"cluster-1\""),
        (other_node.encode_to_vec(), "for node \"n2\", but this is \"n1\""),
        (b"\xff\xff\xff".to_vec(), "cannot be decoded"),
    ] {
        let refused = ledger.accept(bytes).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused:?} should say {expected:?}");
        assert_eq!(ledger.version().revision.get(), 8);
    }
    assert_eq!(open(&directory).unwrap().version().revision.get(), 8);
}

#[tokio::test]
async fn the_same_document_again_is_no_news() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).unwrap().accept(document(1, 8).encode_to_vec()).await.unwrap();
    let ledger = open(&directory).unwrap();
    let watched = ledger.document();

    let accepted = ledger.accept(document(1, 8).encode_to_vec()).await.unwrap();

    assert!(!accepted.fresh, "a deposed leader may still hand out what is here already");
    assert!(!watched.has_changed().unwrap());
}

#[tokio::test]
async fn a_document_that_cannot_be_written_is_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(1, 8).encode_to_vec()).await.unwrap();
    symlink("/dev/full", directory.path().join("document.new")).unwrap();

    let refused = ledger.accept(document(1, 9).encode_to_vec()).await.unwrap_err();

    assert!(matches!(refused, Refused::Unwritten(_)), "{refused}");
    assert_eq!(ledger.version().revision.get(), 8);
    assert_eq!(open(&directory).unwrap().version().revision.get(), 8);
}

#[tokio::test]
async fn a_note_that_cannot_be_written_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(1, 8).encode_to_vec()).await.unwrap();
    let key = ("a".to_owned(), Incarnation::new(7));
    symlink("/dev/full", directory.path().join("facts.new")).unwrap();

    assert!(ledger.note(&key, Note::Created).await.is_err());
    assert!(!ledger.remembered(&key).created);
    ledger.note(&key, Note::Created).await.unwrap();
    assert!(ledger.remembered(&key).created);
    assert!(open(&directory).unwrap().remembered(&key).created);
}

#[tokio::test]
async fn a_forgotten_replica_is_as_if_it_had_never_been() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    let key = ("a".to_owned(), Incarnation::new(7));
    ledger.accept(document(1, 8).encode_to_vec()).await.unwrap();
    ledger.note(&key, Note::Created).await.unwrap();

    ledger.forget(&key).await.unwrap();

    assert_eq!(open(&directory).unwrap().remembered(&key), Remembered::default());
}

#[tokio::test]
async fn orders_are_kept_as_long_as_the_document_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.note_order(4, OrderProgress::Done).await.unwrap();
    ledger.note_order(5, OrderProgress::Started).await.unwrap();
    let mut with_five = document(1, 2);
    let order = Some(order::Order::ForcePrimary(hawser_proto::v1::ForcePrimary {}));
    with_five.orders.push(Order { id: 5, order, ..Order::default() });
    ledger.accept(with_five.encode_to_vec()).await.unwrap();

    ledger.forget_ended_orders().await.unwrap();

    let again = open(&directory).unwrap();
    assert_eq!(again.order(4), None);
    assert_eq!(again.order(5), Some(OrderProgress::Unknown), "it was found started");
}

#[tokio::test]
async fn a_damaged_or_strange_ledger_refuses_to_open() {
    for (file, content, expected) in [
        ("document", &b"HAWSERD1"[..], "document is damaged"),
        ("facts", b"garbage, and rather a lot of it", "facts is damaged"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file), content).unwrap();
        let error = open(&directory).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("move"), "{error}");
    }

    let directory = tempfile::tempdir().unwrap();
    open(&directory).unwrap().accept(document(1, 8).encode_to_vec()).await.unwrap();
    let error = Ledger::open(directory.path(), "cluster-1", "n2", "boot-1").err().unwrap().to_string();
    assert!(error.contains("holds a document for node \"n1\", but this is \"n2\""), "{error}");
}

#[tokio::test]
async fn a_ledger_that_has_lost_a_file_is_not_opened() {
    for name in ["document", "facts"] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory).unwrap();
        ledger.accept(document(1, 8).encode_to_vec()).await.unwrap();
        ledger.note(&("data".to_owned(), Incarnation::new(7)), Note::Created).await.unwrap();
        fs::remove_file(directory.path().join(name)).unwrap();

        let error = open(&directory).err().unwrap().to_string();

        assert!(error.contains(&format!("{name} is damaged (it is missing")), "{error}");
    }
}

/// Notes on so many replicas, all of them asked for while the disk is busy.
async fn note_at_once(ledger: &Ledger, replicas: u64) -> Vec<Result<(), Arc<FileError>>> {
    let is_busy = ledger.shared.changing.lock().unwrap();
    let notes = (0..replicas).map(|number| {
        let ledger = ledger.clone();
        let key = ("data".to_owned(), Incarnation::new(number));
        tokio::spawn(async move { ledger.note(&key, Note::Created).await })
    });
    let notes: Vec<_> = notes.collect();
    while ledger.shared.queue.len() < notes.len() {
        std::thread::yield_now();
    }
    drop(is_busy);
    let mut written = Vec::new();
    for note in notes {
        written.push(note.await.unwrap());
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_that_come_while_the_disk_is_busy_share_the_next_write() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(2, 8).encode_to_vec()).await.unwrap();

    let written = note_at_once(&ledger, 300).await;

    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let again = open(&directory).unwrap();
    for number in 0..300 {
        assert!(again.remembered(&("data".to_owned(), Incarnation::new(number))).created, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_notes_that_share_a_write_which_fails_none_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(2, 8).encode_to_vec()).await.unwrap();
    symlink("/dev/full", directory.path().join("facts.new")).unwrap();

    let written = note_at_once(&ledger, 300).await;

    for (number, written) in (0..).zip(written) {
        let error = written.unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert!(!ledger.remembered(&("data".to_owned(), Incarnation::new(number))).created, "{number}");
    }
    ledger.note(&("data".to_owned(), Incarnation::new(7)), Note::Created).await.unwrap();
}

#[tokio::test]
async fn after_a_write_that_failed_the_file_is_written_again_though_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(2, 8).encode_to_vec()).await.unwrap();
    let key = ("data".to_owned(), Incarnation::new(7));
    let path = directory.path().join("facts");
    ledger.note(&key, Note::Behind).await.unwrap();
    let behind = fs::read(&path).unwrap();
    ledger.note(&key, Note::CaughtUp).await.unwrap();

    // The content was in place when the directory could not be synced.
    symlink("/dev/full", directory.path().join("facts.new")).unwrap();
    ledger.note(&key, Note::Behind).await.unwrap_err();
    fs::write(&path, behind).unwrap();
    ledger.note(&key, Note::CaughtUp).await.unwrap();

    assert!(!open(&directory).unwrap().remembered(&key).behind);
}

#[test]
fn hostile_documents_change_nothing_unless_they_are_newer_ones_for_this_node() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ledger = open(&directory).unwrap();
    runtime.block_on(ledger.accept(document(2, 8).encode_to_vec())).unwrap();
    let mut orders = document(2, 9);
    orders.orders.push(Order { id: 4, ..Order::default() });
    let samples =
        [&document(2, 9).encode_to_vec()[..], &orders.encode_to_vec(), &document(1, 70).encode_to_vec()];
    check(&bytes(&samples, &["cluster-1", "n1", "n2"]), |bytes| {
        let before = ledger.document().borrow().clone().unwrap();
        let version = ledger.version();

        let accepted = runtime.block_on(ledger.accept(bytes));

        let after = ledger.document().borrow().clone().unwrap();
        assert_eq!((after.document.cluster_id.as_str(), after.document.node.as_str()), ("cluster-1", "n1"));
        match accepted {
            Ok(_) => assert!(ledger.version() >= version),
            Err(refused) => {
                assert_eq!(after.document, before.document, "{refused}");
                assert!(!refused.to_string().is_empty());
            }
        }
    });
}

#[tokio::test]
async fn a_ledger_with_any_byte_damaged_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory).unwrap();
    ledger.accept(document(2, 8).encode_to_vec()).await.unwrap();
    ledger.note(&("data".to_owned(), Incarnation::new(7)), Note::Created).await.unwrap();
    drop(ledger);
    for name in ["document", "facts"] {
        let path = directory.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut refused = |at: usize, damaged: &[u8]| {
            fs::write(&path, damaged).unwrap();
            let error = open(&directory).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(name) && error.contains("damaged"), "{name}, byte {at}: {error}");
        };
        each_cut(&whole, &mut refused);
        each_flip(&whole, &mut refused);
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open(&directory).unwrap().version().revision.get(), 8);
}
