//! `hawser cluster init`, `certificate` and `restore`: the files that they make, and what they refuse.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use hawser_process::tls::{Authority, Identity, RestoreVerifier, Role};
use hawser_proto::{snapshot_file, v1};
use prost::Message;

use crate::fake::{Said, hawser};

const INIT: [&str; 7] =
    ["cluster", "init", "prod", "--controller", "n1=10.77.0.1:6470", "--directory", "prod"];

async fn run(place: &Path, arguments: &[&str]) -> Said {
    hawser(None, place, arguments).await
}

/// Relative path and mode of everything below `place`.
fn tree(place: &Path) -> BTreeMap<String, u32> {
    fn walk(root: &Path, place: &Path, found: &mut BTreeMap<String, u32>) {
        for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
            let mode = fs::metadata(&entry).unwrap().permissions().mode() & 0o777;
            found.insert(entry.strip_prefix(root).unwrap().display().to_string(), mode);
            if entry.is_dir() {
                walk(root, &entry, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(place, place, &mut found);
    found
}

#[tokio::test]
async fn init_makes_every_file_with_its_mode() {
    let place = tempfile::tempdir().unwrap();
    let more = ["--controller", "n2=[fd00::2]:6470"];

    let said = run(place.path(), &[&INIT[..], &more].concat()).await;

    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let tree = tree(place.path());
    for (path, mode) in [
        ("prod/ca", 0o700),
        ("prod/ca/ca.key", 0o600),
        ("prod/controllers/n1/create-store.json", 0o644),
        ("prod/controllers/n1/controller.toml", 0o644),
        ("prod/controllers/n1/tls/tls.key", 0o600),
        ("prod/controllers/n2/tls/tls.key", 0o600),
        ("prod/administrator/tls.key", 0o600),
        ("prod/client.toml", 0o644),
    ] {
        // The mask of whoever runs the tests may take more away.
        let found = tree.get(path).unwrap_or_else(|| panic!("{path} is missing in {tree:?}"));
        assert_eq!(found & !mode, 0, "{path} has mode {found:o}");
    }
    assert!(!tree.contains_key("prod/controllers/n2/create-store.json"), "only the first begins the cluster");
    assert!(tree.keys().all(|path| path.starts_with("prod")), "something was left beside: {tree:?}");
    let prod = place.path().join("prod");
    let controller = Identity::load(&prod.join("controllers/n2/tls")).unwrap();
    assert!(controller.require(Role::Controller, "n2").is_ok());
    let order = fs::read_to_string(prod.join("controllers/n1/create-store.json")).unwrap();
    for part in ["\"mode\": \"init\"", "\"cluster_name\": \"prod\"", "\"address\": \"10.77.0.1:6470\""] {
        assert!(order.contains(part), "{order}");
    }
    assert!(order.contains(&controller.own().cluster_id), "{order}");
    let client = fs::read_to_string(prod.join("client.toml")).unwrap();
    assert!(client.contains("[\"10.77.0.1:6470\", \"[fd00::2]:6470\"]"), "{client}");
}

#[tokio::test]
async fn init_overwrites_nothing() {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &INIT).await;
    let key = fs::read(place.path().join("prod/ca/ca.key")).unwrap();
    let before = tree(place.path());

    let again = run(place.path(), &INIT).await;

    assert_eq!(again.code, 1);
    assert_eq!(
        again.stderr,
        "error: prod exists already and is not overwritten; choose another place or move it away\n"
    );
    assert_eq!(tree(place.path()), before);
    assert_eq!(fs::read(place.path().join("prod/ca/ca.key")).unwrap(), key);
}

#[tokio::test]
async fn init_refuses_bad_names_and_writes_nothing() {
    let place = tempfile::tempdir().unwrap();
    for (name, controllers, expected) in [
        ("Prod", &["n1=10.77.0.1:6470"][..], "name: \"Prod\" is not a cluster name"),
        ("prod", &["n1"], "write NAME=HOST:PORT"),
        ("prod", &["N1=10.77.0.1:6470"], "--controller: \"N1\" is not a controller name"),
        ("prod", &["../n1=10.77.0.1:6470"], "is not a controller name"),
        ("prod", &["n1=10.77.0.1"], "--controller: "),
        ("prod", &["n1=10.77.0.1:0"], "--controller: "),
        ("prod", &["n1=10.77.0.1:6470", "n1=10.77.0.2:6470"], "n1 is named twice"),
    ] {
        let mut arguments = vec!["cluster", "init", name, "--directory", "prod"];
        controllers.iter().for_each(|controller| arguments.extend(["--controller", controller]));
        let said = run(place.path(), &arguments).await;
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(expected), "{arguments:?}: {said:?}");
    }
    assert_eq!(tree(place.path()), BTreeMap::new());
}

#[tokio::test]
async fn init_orders_the_numbers_that_the_cluster_may_use() {
    let place = tempfile::tempdir().unwrap();
    let numbers = ["--minors", "20-29", "--ports", "9000-9009", "--reserved-ports", "9001,9003-9004"];
    let said = run(place.path(), &[&INIT[..], &numbers].concat()).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let order = fs::read_to_string(place.path().join("prod/controllers/n1/create-store.json")).unwrap();
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let expected =
        serde_json::json!({"minors": "20-29", "ports": "9000-9009", "reserved_ports": "9001,9003-9004"});
    assert_eq!(order["numbers"], expected);

    let nowhere = tempfile::tempdir().unwrap();
    for (flag, text, expected) in [
        ("--minors", "0-9", "--minors: 0-9 is not within 1-1048575"),
        ("--minors", "many", "--minors: \"many\" is not a range"),
        ("--ports", "7999-7000", "the first number is the smaller one"),
        ("--ports", "65000-66000", "there is no such TCP port"),
        ("--reserved-ports", "7000-7999", "--reserved-ports: nothing is left of the ports 7000-7999"),
        ("--reserved-ports", "7000;7001", "--reserved-ports: \"7000;7001\" is not a range"),
    ] {
        let said = run(nowhere.path(), &[&INIT[..], &[flag, text]].concat()).await;
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{flag} {text}: {said:?}");
        assert!(said.stderr.contains(expected), "{flag} {text}: {said:?}");
    }
    assert_eq!(tree(nowhere.path()), BTreeMap::new());
}

#[tokio::test]
async fn certificates_are_signed_where_the_authority_lies() {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &INIT).await;
    let certificate = |rest: &[&'static str]| [&["cluster", "certificate"][..], rest].concat();

    let said = run(place.path(), &certificate(&["satellite", "n1", "--directory", "prod"])).await;
    let ada =
        run(place.path(), &certificate(&["administrator", "ada", "--directory", "prod", "--out", "ada"]))
            .await;
    let again = run(place.path(), &certificate(&["satellite", "n1", "--directory", "prod"])).await;

    assert_eq!(said.stdout, "certificate of satellite n1 is in prod/satellites/n1/tls\n");
    let satellite = Identity::load(&place.path().join("prod/satellites/n1/tls")).unwrap();
    assert!(satellite.require(Role::Satellite, "n1").is_ok());
    assert_eq!(ada.code, 0, "{ada:?}");
    assert!(Identity::load(&place.path().join("ada")).unwrap().require(Role::Administrator, "ada").is_ok());
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("exists already"), "{again:?}");
}

#[tokio::test]
async fn certificates_that_cannot_be_are_refused() {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &INIT).await;
    let before = tree(place.path());
    for (arguments, code, expected) in [
        (
            ["root", "n1", "--directory", "prod"],
            2,
            "unknown role \"root\"; use controller, satellite or administrator",
        ),
        (["satellite", "N1", "--directory", "prod"], 2, "\"N1\" is not"),
        (["satellite", "../../x", "--directory", "prod"], 2, "is not"),
        (["satellite", "n1", "--directory", "elsewhere"], 1, "elsewhere/ca/ca.crt"),
    ] {
        let said = run(place.path(), &[&["cluster", "certificate"][..], &arguments].concat()).await;
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(expected), "{arguments:?}: {said:?}");
    }
    assert_eq!(tree(place.path()), before);
}

/// The bytes of a backup of the cluster whose authority is in `prod`.
fn backup(place: &Path) -> Vec<u8> {
    let cluster_id = Authority::open(&place.join("prod/ca")).unwrap().cluster_id().to_owned();
    let header = v1::SnapshotHeader {
        cluster_id: cluster_id.clone(),
        lineage: 3,
        last_log_id: Some(v1::StoredLogId { term: 2, index: 45 }),
        ..Default::default()
    };
    let cluster = v1::ClusterRecord { cluster_id, name: "prod".into(), ..Default::default() };
    let cluster = v1::SnapshotRecord { record: Some(v1::snapshot_record::Record::Cluster(cluster)) };
    let mut bytes = Vec::new();
    snapshot_file::write(&mut bytes, &header, std::iter::once(cluster)).unwrap();
    bytes
}

const RESTORE: [&str; 9] = [
    "cluster",
    "restore",
    "b",
    "--controller",
    "n1=10.77.0.1:6470",
    "--directory",
    "prod",
    "--out",
    "restored",
];

fn unhexadecimal(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn a_restore_is_signed_and_lies_beside_its_backup() {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &INIT).await;
    let bytes = backup(place.path());
    fs::write(place.path().join("b"), &bytes).unwrap();

    let said = run(place.path(), &RESTORE).await;

    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert!(
        said.stdout.contains("lineage 3, revision 45") && said.stdout.contains("its lineage is 4"),
        "{said:?}"
    );
    let restored = place.path().join("restored");
    assert_eq!(fs::read(restored.join("restore.backup")).unwrap(), bytes);
    let tree = tree(&restored);
    assert_eq!(tree["restore.backup"], 0o600);
    assert_eq!(tree.len(), 2, "{tree:?}");
    let order = fs::read_to_string(restored.join("create-store.json")).unwrap();
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    assert_eq!(
        (&order["mode"], &order["lineage"], &order["name"]),
        (&"restore".into(), &4.into(), &"n1".into())
    );
    let field = |name: &str| unhexadecimal(order[name].as_str().unwrap());
    let (statement, signature) = (field("statement"), field("signature"));
    let authority = fs::read_to_string(place.path().join("prod/ca/ca.crt")).unwrap();
    RestoreVerifier::of(&authority).verify(&statement, &signature).unwrap();
    let statement = v1::RestoreStatement::decode(statement.as_slice()).unwrap();
    assert_eq!((statement.from_lineage, statement.from_revision, statement.lineage), (3, 45, 4));
    assert_ne!(statement.restore_id, 0);

    // Once more, it is another restore; and nothing is overwritten.
    let again = run(place.path(), &RESTORE).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("restored exists already and is not overwritten"), "{again:?}");
    let other = [&RESTORE[..8], &["other", "--lineage", "9", "-o", "json"]].concat();
    let other = run(place.path(), &other).await;
    assert!(other.stdout.contains("\"lineage\": 9"), "{other:?}");
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &INIT).await;
    let elsewhere = ["cluster", "init", "else", "--controller", "n1=10.77.0.1:6470", "--directory", "else"];
    run(place.path(), &elsewhere).await;
    let bytes = backup(place.path());
    let mut newer = bytes.clone();
    newer[8] = 9;
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    for (name, bytes) in [
        ("b", &bytes[..]),
        ("cut", &bytes[..bytes.len() - 5]),
        ("flipped", &flipped),
        ("newer", &newer),
        ("garbage", b"something else altogether"),
    ] {
        fs::write(place.path().join(name), bytes).unwrap();
    }
    let before = tree(place.path());
    let restore = |file: &'static str, directory: &'static str, more: &[&'static str]| {
        let all = ["cluster", "restore", file, "--controller", "n1=10.77.0.1:6470", "--directory", directory];
        [&all[..], &["--out", "restored"], more].concat()
    };
    for (arguments, code, words) in [
        (restore("nowhere", "prod", &[]), 1, "nowhere cannot be read"),
        (restore("cut", "prod", &[]), 1, "cut is no backup that can be used"),
        (restore("flipped", "prod", &[]), 1, "flipped is no backup that can be used"),
        (restore("newer", "prod", &[]), 1, "has format 9, which this release does not know"),
        (restore("garbage", "prod", &[]), 1, "does not begin as one does"),
        (restore("b", "else", &[]), 1, "but the authority in else is that of cluster"),
        (restore("b", "nowhere", &[]), 1, "nowhere/ca/ca.crt"),
        (restore("b", "prod", &["--lineage", "3"]), 2, "the restored cluster needs a higher one"),
    ] {
        let said = run(place.path(), &arguments).await;
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(words), "{arguments:?}: {said:?}");
    }
    assert_eq!(tree(place.path()), before);
}
