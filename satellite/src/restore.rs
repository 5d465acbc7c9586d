//! Whether a restore of the cluster is believed, and what the node says of itself when it is.
//!
//! It must never take a controller's word for it: an administrator has signed it, with the key of the authority that
//! this node trusts, or it does not count.

use hawser_process::tls::{NotSigned, RestoreVerifier};
use hawser_proto::v1;
use prost::Message;

use crate::ledger::{Ledger, Refused, Restore};

/// Why a restore is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBelieved {
    /// It comes without a record.
    #[error("the controller says that the cluster was restored, and shows no restore record")]
    NoRecord,
    /// Somebody else signed it, or nobody.
    #[error(
        "{0}: nothing is taken from this controller. Run `hawser cluster restore` with the ca directory that \
         `hawser cluster init` made"
    )]
    NotSigned(#[from] NotSigned),
    /// What was signed is no such record.
    #[error("what the restore record says cannot be read: {0}")]
    Unreadable(#[from] prost::DecodeError),
    /// It is another cluster's.
    #[error("the restore record is for cluster {got:?}, but this node belongs to {own:?}")]
    OtherCluster {
        /// What the record says.
        got: String,
        /// Of this node.
        own: String,
    },
    /// The ledger has seen later orders, or those of another restore.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Notes the restore, and says what the node holds where that is asked for.
pub(crate) async fn take(
    ledger: &Ledger,
    restores: &RestoreVerifier,
    cluster_id: &str,
    notice: v1::RestoreNotice,
) -> Result<Option<v1::Inventory>, NotBelieved> {
    let record = notice.record.ok_or(NotBelieved::NoRecord)?;
    let statement = read(restores, cluster_id, &record)?;
    ledger.accept_restore(Restore { lineage: statement.lineage(), id: statement.restore_id }).await?;
    Ok(notice.wants_inventory.then(|| v1::Inventory { replicas: ledger.inventory() }))
}

/// What a record says, if it was signed for this cluster.
fn read(
    restores: &RestoreVerifier,
    cluster_id: &str,
    record: &v1::RestoreRecord,
) -> Result<v1::RestoreStatement, NotBelieved> {
    restores.verify(&record.statement, &record.signature)?;
    let statement = v1::RestoreStatement::decode(record.statement.as_slice())?;
    if statement.cluster_id != cluster_id {
        return Err(NotBelieved::OtherCluster { got: statement.cluster_id, own: cluster_id.to_owned() });
    }
    Ok(statement)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use hawser_hostile::{bytes, check};
    use hawser_process::tls::{Authority, Role};
    use hawser_proto::v1::DesiredDocument;

    use super::*;

    fn authority() -> (Authority, RestoreVerifier) {
        let authority = Authority::generate("c1", SystemTime::now()).unwrap();
        let pem = authority.sign(Role::Satellite, "n1", SystemTime::now()).unwrap().authority_pem;
        (authority, RestoreVerifier::of(&pem))
    }

    fn record(authority: &Authority, cluster_id: &str, lineage: u64, restore_id: u64) -> v1::RestoreRecord {
        let statement = v1::RestoreStatement {
            cluster_id: cluster_id.into(),
            from_lineage: 1,
            lineage,
            restore_id,
            ..Default::default()
        };
        let statement = statement.encode_to_vec();
        v1::RestoreRecord { signature: authority.sign_restore(&statement).unwrap(), statement }
    }

    fn document(lineage: u64, revision: u64, restore_id: u64, replica: Option<u64>) -> Vec<u8> {
        let replicas = replica.map(|replica_incarnation| v1::DesiredReplica {
            resource: "data".into(),
            resource_incarnation: 5,
            replica_incarnation,
            shared_secret: "secret".into(),
            volumes: vec![v1::DesiredVolume { minor: 1000, ..Default::default() }],
            peers: vec![v1::DesiredPeer { node: "n1".into(), port: 7000, ..Default::default() }],
            ..Default::default()
        });
        let document = DesiredDocument {
            cluster_id: "c1".into(),
            node: "n1".into(),
            lineage,
            revision,
            restore_id,
            replicas: replicas.into_iter().collect(),
            ..Default::default()
        };
        document.encode_to_vec()
    }

    async fn shown(
        ledger: &Ledger,
        verifier: &RestoreVerifier,
        record: v1::RestoreRecord,
    ) -> Result<Vec<v1::HeldReplica>, String> {
        let notice = v1::RestoreNotice { record: Some(record), wants_inventory: true };
        let taken = take(ledger, verifier, "c1", notice).await;
        taken.map(|inventory| inventory.unwrap().replicas).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_higher_lineage_is_obeyed_once_its_record_is_believed_and_only_that_ones() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Ledger::open(directory.path(), "c1", "n1", "boot").unwrap();
        let ledger = open();
        let (authority, verifier) = authority();
        ledger.accept(document(1, 80, 0, Some(70))).await.unwrap();

        // Without a record, or with one that somebody else signed, nothing changes.
        assert!(ledger.accept(document(2, 1000, 7, None)).await.is_err());
        let (stranger, _) = self::authority();
        let refused = shown(&ledger, &verifier, record(&stranger, "c1", 2, 7)).await.unwrap_err();
        assert!(refused.contains("is not signed by the key of this cluster's authority"), "{refused}");
        let refused = shown(&ledger, &verifier, record(&authority, "c2", 2, 7)).await.unwrap_err();
        assert!(refused.contains("for cluster \"c2\""), "{refused}");
        assert_eq!(ledger.restore(), Restore::default());

        // With the right one the node says what it holds, without the secret, and obeys nobody else from then on.
        let held = shown(&ledger, &verifier, record(&authority, "c1", 2, 7)).await.unwrap();
        let [held] = held.as_slice() else { panic!("{held:?}") };
        assert_eq!((held.resource.as_str(), held.replica_incarnation, held.port), ("data", 70, 7000));
        assert_eq!((held.lineage, held.revision, held.volumes[0].minor), (1, 80, 1000));
        let older = ledger.accept(document(1, 81, 0, Some(70))).await.unwrap_err().to_string();
        assert!(older.contains("has lineage 1, but 2 was accepted"), "{older}");
        let other = ledger.accept(document(2, 1000, 8, None)).await.unwrap_err().to_string();
        assert!(other.contains("run `hawser cluster restore` again with a --lineage"), "{other}");
        let ledger = open();
        ledger.accept(document(2, 1000, 7, None)).await.unwrap();
        assert_eq!(ledger.version().revision.get(), 1000);

        // What the new lineage does not name is remembered, for looking only.
        let ledger = open();
        let unknown = ledger.unknown();
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].key.0, "data");
        ledger.accept(document(2, 1001, 7, Some(70))).await.unwrap();
        assert_eq!(ledger.unknown(), [], "the new lineage names it after all");
    }

    #[tokio::test]
    async fn another_restore_to_the_same_lineage_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path(), "c1", "n1", "boot").unwrap();
        let (authority, verifier) = authority();
        shown(&ledger, &verifier, record(&authority, "c1", 2, 7)).await.unwrap();
        ledger.accept(document(2, 1000, 7, None)).await.unwrap();
        shown(&ledger, &verifier, record(&authority, "c1", 2, 7)).await.unwrap();

        for (lineage, words) in [(1, "has lineage 1, but 2"), (2, "with a --lineage that is higher")] {
            let refused = shown(&ledger, &verifier, record(&authority, "c1", lineage, 8)).await.unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
        shown(&ledger, &verifier, record(&authority, "c1", 3, 8)).await.unwrap();
        assert_eq!(ledger.restore().id, 8);
    }

    #[tokio::test]
    async fn hostile_records() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path(), "c1", "n1", "boot").unwrap();
        let (authority, verifier) = authority();
        let whole = record(&authority, "c1", 2, 7);
        check(&bytes(&[&whole.encode_to_vec()], &["c1"]), |bytes| {
            let Ok(record) = v1::RestoreRecord::decode(bytes.as_slice()) else { return };
            match read(&verifier, "c1", &record) {
                Ok(statement) => assert_eq!((statement.lineage, statement.restore_id), (2, 7)),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        });
        assert_eq!(ledger.restore(), Restore::default());
    }
}
