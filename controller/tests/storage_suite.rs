//! openraft's own conformance suite for log stores and state machines, run on sled and on snapshot files.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use hawser_controller::{
    consensus::{
        log_store::LogStore,
        machine::Machine,
        sled_engine::{Barrier, SledEngine},
        snapshot::Snapshots,
        types::TypeConfig,
        witness::Witness,
    },
    view::View,
};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

struct SledStores;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for SledStores {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = directory.path().join("snapshots");
        std::fs::create_dir(&snapshots).unwrap();
        let engine = SledEngine::open(&directory.path().join("log"), Barrier::Fdatasync).unwrap();
        let witness = Witness::create(&directory.path().join("witness")).unwrap();
        let log = LogStore::open(Arc::new(engine), witness, None).unwrap();
        let machine = Machine::new(View::new(100), Snapshots::open(&snapshots, "c", 1).unwrap());
        Ok((directory, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_pass_openrafts_suite() {
    Suite::test_all(SledStores).await.unwrap();
}
