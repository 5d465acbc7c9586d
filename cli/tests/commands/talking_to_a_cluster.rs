//! `hawser` against a controller that answers by script: what it prints, where, and with which exit code.

use hawser_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::{Cluster, Script, hawser, node};

fn created() -> Result<v1::CreateResourceResponse, Status> {
    Ok(v1::CreateResourceResponse {
        result: Some(v1::WriteResult { revision: 21, operation: 21 }),
        nodes: vec!["n1".into(), "n2".into()],
    })
}

fn operation(state: v1::OperationState, phase: &str, waits_for: &str) -> v1::OperationView {
    v1::OperationView {
        operation: Some(v1::Operation {
            id: 21,
            kind: v1::OperationKind::CreateResource.into(),
            resource: "data".into(),
            state: state.into(),
            waits_for: (!waits_for.is_empty()).then(|| v1::OperationReason {
                node: "n2".into(),
                message: waits_for.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        phase: phase.into(),
        ..Default::default()
    }
}

const CREATE: [&str; 5] = ["resource", "create", "data", "--size", "1GiB"];

#[tokio::test]
async fn a_create_waits_across_a_change_of_leader() {
    let running = operation(v1::OperationState::Running, "create-replicas", "");
    let cluster = Cluster::start(Script {
        create: vec![created(), Err(Status::unavailable("no leader"))],
        streams: vec![
            vec![Ok(operation(v1::OperationState::Succeeded, "", ""))],
            vec![Ok(running), Err(Status::unavailable("the leader has changed"))],
        ],
        ..Default::default()
    })
    .await;

    let said = cluster.hawser(&CREATE).await;

    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.stdout, "resource data is ready on n1, n2\n");
    let keys = cluster.keys();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

#[tokio::test]
async fn without_waiting_the_operation_is_named() {
    let script = || Script { create: vec![created()], ..Default::default() };

    let plain = Cluster::start(script()).await.hawser(&[&CREATE[..], &["--no-wait"]].concat()).await;
    let json =
        Cluster::start(script()).await.hawser(&[&CREATE[..], &["--no-wait", "-o", "json"]].concat()).await;

    assert_eq!((plain.code, plain.stdout.as_str()), (0, "21\n"));
    insta::assert_snapshot!(json.stdout, @r#"
    {
      "revision": 21,
      "operation": 21,
      "state": "running",
      "nodes": [
        "n1",
        "n2"
      ]
    }
    "#);
}

#[tokio::test]
async fn an_operation_that_failed_says_why() {
    let cluster = Cluster::start(Script {
        create: vec![created()],
        streams: vec![vec![Ok(operation(v1::OperationState::Failed, "", "vg0/thin is full"))]],
        ..Default::default()
    })
    .await;

    let said = cluster.hawser(&CREATE).await;

    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert_eq!(said.stderr, "error: operation 21 (create resource data) failed: n2: vg0/thin is full\n");
}

#[tokio::test]
async fn an_operation_that_takes_too_long_goes_on_and_says_what_it_waits_for() {
    let running = operation(v1::OperationState::Running, "create-replicas", "not connected");
    let cluster = Cluster::start(Script {
        create: vec![created()],
        streams: vec![vec![Ok(running)]],
        ..Default::default()
    })
    .await;

    let said = cluster.hawser(&[&CREATE[..], &["--timeout", "1s"]].concat()).await;

    assert_eq!((said.code, said.stdout.as_str()), (4, ""));
    assert_eq!(
        said.stderr,
        "error: operation 21 (create resource data) has not ended within 1 s: phase create-replicas, waits for n2: \
         not connected; it goes on: follow it with `hawser operation wait 21`\n"
    );
}

#[tokio::test]
async fn a_refusal_is_told_as_the_cluster_told_it() {
    let mut details = ErrorDetails::new();
    details.set_error_info("NO_CAPACITY", "hawser", std::collections::HashMap::new());
    let refusal = "2 replicas need as many nodes: n1: pool ssd has 512 MiB left; n2: offline";
    let cluster = Cluster::start(Script {
        create: vec![Err(Status::with_error_details(Code::ResourceExhausted, refusal, details))],
        ..Default::default()
    })
    .await;

    let said = cluster.hawser(&CREATE).await;

    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert_eq!(said.stderr, format!("error: cannot create resource data: {refusal}\n"));
    assert_eq!(cluster.keys().len(), 1);
}

#[tokio::test]
async fn a_list_is_sorted_across_its_pages_in_every_form() {
    let pages = vec![vec![node("n10"), node("n2")], vec![node("n1")]];
    let cluster = Cluster::start(Script { nodes: pages, ..Default::default() }).await;

    let table = cluster.hawser(&["node", "list", "--sort", "-name"]).await;
    let json = cluster.hawser(&["node", "list", "--sort", "name", "-o", "json"]).await;

    let names: Vec<_> =
        table.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["n10", "n2", "n1"], "{table:?}");
    let places = ["n1", "n2", "n10"].map(|name| json.stdout.find(&format!("\"name\": \"{name}\"")));
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{json:?}");
}

#[tokio::test]
async fn a_list_is_all_of_its_pages() {
    let pages = vec![vec![node("n1"), node("n2")], vec![node("n3")]];
    let cluster = Cluster::start(Script { nodes: pages, ..Default::default() }).await;

    let table = cluster.hawser(&["node", "list"]).await;
    let json = cluster.hawser(&["node", "list", "-o", "json"]).await;
    let one = cluster.hawser(&["node", "show", "n1", "-o", "json"]).await;

    insta::assert_snapshot!(table.stdout, @r"
    NAME  STATE   ADDRESSES  DRBD  SATELLITE  SEEN  WHY
    n1    online  -          -     -          -     -
    n2    online  -          -     -          -     -
    n3    online  -          -     -          -     -
    ");
    assert!(one.stdout.starts_with("{\n  \"desired\": {\n    \"name\": \"n1\",\n"), "{}", one.stdout);
    assert!(one.stdout.ends_with("  \"revision\": 40\n}\n"), "{}", one.stdout);
    assert_eq!(json.stdout.matches("\"online\": true").count(), 3, "{}", json.stdout);
    assert!(json.stdout.ends_with("  \"revision\": 40\n}\n"), "{}", json.stdout);
}

#[tokio::test]
async fn an_empty_list_leaves_standard_output_to_programs() {
    let cluster = Cluster::start(Script::default()).await;

    let table = cluster.hawser(&["resource", "list"]).await;
    let json = cluster.hawser(&["resource", "list", "-o", "json"]).await;
    let missing = cluster.hawser(&["resource", "show", "data"]).await;

    assert_eq!((table.code, table.stdout.as_str()), (0, ""));
    assert_eq!(table.stderr, "there are no resources; create one with `hawser resource create`\n");
    assert_eq!(json.stdout, "{\n  \"items\": [],\n  \"revision\": 3\n}\n");
    assert_eq!(missing.code, 1);
    assert_eq!(
        missing.stderr,
        "error: resource data does not exist; `hawser resource list` shows what there is\n"
    );
}

#[tokio::test]
async fn a_change_without_an_operation_is_done_at_once() {
    let cluster = Cluster::start(Script::default()).await;

    let said = cluster.hawser(&["node", "create", "n1", "--address", "10.77.0.1"]).await;

    assert_eq!((said.code, said.stdout.as_str()), (0, "node n1 is registered\n"), "{said:?}");
}

#[tokio::test]
async fn a_join_ticket_becomes_an_order_and_overwrites_nothing() {
    let ticket = v1::JoinTicket {
        cluster_id: "c1".into(),
        cluster_name: "prod".into(),
        raft_id: 9,
        name: "n2".into(),
        address: "10.77.0.2:6470".into(),
        members: vec![v1::Member {
            raft_id: 1,
            name: "n1".into(),
            address: "10.77.0.1:6470".into(),
            store_incarnation: u64::MAX,
        }],
        lineage: 1,
    };
    let cluster = Cluster::start(Script { ticket: Some(ticket), ..Default::default() }).await;
    let add = ["cluster", "add-member", "n2", "10.77.0.2:6470"];

    let said = cluster.hawser(&add).await;
    let again = cluster.hawser(&add).await;

    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("controller n2 is announced; "), "{said:?}");
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("create-store.json exists already"), "{again:?}");
    let order = std::fs::read_to_string(cluster.directory.path().join("create-store.json")).unwrap();
    insta::assert_snapshot!(order, @r#"
    {
      "mode": "join",
      "cluster_id": "c1",
      "cluster_name": "prod",
      "lineage": 1,
      "raft_id": 9,
      "name": "n2",
      "address": "10.77.0.2:6470",
      "members": [
        {
          "raft_id": 1,
          "name": "n1",
          "address": "10.77.0.1:6470",
          "store_incarnation": 18446744073709551615
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_member_is_not_announced_when_its_file_cannot_be_written() {
    // Without a ticket, the answer to an announcement would be another failure.
    let cluster = Cluster::start(Script::default()).await;
    let add = ["cluster", "add-member", "n2", "10.77.0.2:6470", "--out"];

    let nowhere = cluster.hawser(&[&add[..], &["nowhere/n2.json"]].concat()).await;
    let refused = cluster.hawser(&[&add[..], &["n2.json"]].concat()).await;

    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("cannot write nowhere/n2.json"), "{nowhere:?}");
    assert!(refused.stderr.contains("the join ticket"), "{refused:?}");
    assert!(!cluster.directory.path().join("n2.json").exists(), "an empty order was left");
}

#[tokio::test]
async fn a_controller_is_removed_and_the_answer_says_who_votes() {
    let cluster = Cluster::start(Script::default()).await;

    let said = cluster.hawser(&["cluster", "remove-member", "n3"]).await;
    let json = cluster.hawser(&["cluster", "remove-member", "n3", "-o", "json"]).await;
    let refused = cluster.hawser(&["cluster", "remove-member", "n1"]).await;

    assert_eq!(said.code, 0, "{said:?}");
    insta::assert_snapshot!(said.stdout, @r"
    controller n3 is removed; these vote: n1
    n2 keeps the log but does not vote
    ");
    insta::assert_snapshot!(json.stdout, @r#"
    {
      "revision": 9,
      "operation": null,
      "state": "done",
      "raft_id": 3,
      "has_left": true,
      "members": [
        {
          "name": "n1",
          "role": "voter",
          "reason": null
        },
        {
          "name": "n2",
          "role": "learner",
          "reason": "keeps the log but does not vote"
        }
      ]
    }
    "#);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        "error: cannot remove member n1: controller n1 is the last one of this cluster\n"
    );
}

#[tokio::test]
async fn a_node_is_declared_lost_only_by_somebody_who_says_so() {
    let cluster = Cluster::start(Script::default()).await;
    let lost = ["node", "lost", "n2"];

    let silent = cluster.hawser(&lost).await;
    let refused = cluster.hawser(&[&lost[..], &["--yes"]].concat()).await;
    let named = cluster.hawser(&[&lost[..], &["--yes", "--accept-data-loss", "scratch"]].concat()).await;

    assert_eq!((silent.code, silent.stdout.as_str()), (2, ""), "{silent:?}");
    assert!(
        silent.stderr.contains("Node n2 is off for good") && silent.stderr.contains("--yes"),
        "{silent:?}"
    );
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.starts_with("error: cannot declare node n2 lost: node n2 has the last"),
        "{refused:?}"
    );
    assert_eq!(named.code, 0, "{named:?}");
    assert!(named.stdout.starts_with("node n2 is declared lost; "), "{named:?}");
}

#[tokio::test]
async fn the_leadership_is_transferred_and_the_answer_says_who_leads() {
    let cluster = Cluster::start(Script::default()).await;

    let said = cluster.hawser(&["cluster", "transfer-leader", "n2"]).await;
    let json = cluster.hawser(&["cluster", "transfer-leader", "n2", "-o", "json"]).await;
    let refused = cluster.hawser(&["cluster", "transfer-leader", "n3"]).await;

    assert_eq!((said.code, said.stdout.as_str()), (0, "controller n2 leads\n"), "{said:?}");
    assert_eq!(json.stdout, "{\n  \"leader\": \"n2\",\n  \"term\": 5\n}\n");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("controller n3 does not answer"), "{refused:?}");
}

#[tokio::test]
async fn nobody_there_is_another_failure_than_a_refusal() {
    let cluster = Cluster::start(Script::default()).await;
    let closed =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();

    for verb in [["node", "list"], ["cluster", "status"]] {
        let said =
            cluster.hawser(&[&verb[..], &["--timeout", "300ms", "--controllers", &closed]].concat()).await;
        assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{said:?}");
        assert!(said.stderr.contains(&format!("{closed} (Connection refused")), "{said:?}");
        assert!(said.stderr.contains("check that a controller runs there"), "{said:?}");
    }
}

#[tokio::test]
async fn wrong_configurations_are_told_before_anything_is_asked() {
    let cluster = Cluster::start(Script::default()).await;
    let place = cluster.directory.path();
    std::fs::write(place.join("wrong.toml"), "controlers = []\n").unwrap();
    let run =
        |file: &'static str| async move { hawser(Some(&place.join(file)), place, &["node", "list"]).await };

    for (file, expected) in [
        ("missing.toml", "missing.toml does not exist"),
        ("wrong.toml", "unknown field `controlers`"),
        ("satellite.toml", "only an administrator gives orders"),
    ] {
        let said = run(file).await;
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
        assert!(said.stderr.contains(expected), "{said:?}");
    }
    let none = hawser(None, place, &["node", "list"]).await;
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("there is no client configuration"), "{none:?}");
}

#[tokio::test]
async fn what_the_command_line_cannot_mean_is_refused_by_field() {
    let cluster = Cluster::start(Script::default()).await;
    for (arguments, field) in [
        (&["resource", "create", "data", "--size", "1G"][..], "--size"),
        (&["resource", "create", "data"], "--size"),
        (&["node", "create", "n1"], "--address"),
        (&["pool", "create", "n1", "ssd", "--lvm-thin", "vg0"], "--lvm-thin"),
        (&["group", "create", "g", "--replicas", "two"], "--replicas"),
        (&["group", "create", "g", "--replicas", "0"], "--replicas"),
        (&["resource", "create", "data", "--size", "1GiB", "--replicas", "0"], "--replicas"),
        (&["pool", "create", "n1", "ssd", "--lvm-thin", "vg0/thin", "--overcommit", "0"], "--overcommit"),
        (&["group", "create", "g", "--replicas", "2", "--layers", "luks2"], "--layers"),
        (&["group", "create", "g", "--replicas", "2", "--net", "x"], "--net"),
        (&["operation", "show", "-1"], "-1"),
        (&["node", "list", "--timeout", "soon"], "--timeout"),
        (&["node", "list", "-o", "xml"], "--output"),
        (&["node", "list", "--sort", "size"], "--sort: there is no column \"size\""),
        (&["node", "list", "--watch"], "--watch"),
        (&["node", "list", "--watch", "-o", "json"], "--watch"),
    ] {
        let said = cluster.hawser(arguments).await;
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(field), "{arguments:?}: {said:?}");
    }
}

fn backup_bytes() -> Vec<u8> {
    let header = v1::SnapshotHeader {
        cluster_id: "c1".into(),
        lineage: 2,
        last_log_id: Some(v1::StoredLogId { term: 1, index: 30 }),
        ..Default::default()
    };
    let cluster = v1::ClusterRecord { cluster_id: "c1".into(), name: "prod".into(), ..Default::default() };
    let cluster = v1::SnapshotRecord { record: Some(v1::snapshot_record::Record::Cluster(cluster)) };
    let mut bytes = Vec::new();
    hawser_proto::snapshot_file::write(&mut bytes, &header, std::iter::once(cluster)).unwrap();
    bytes
}

#[tokio::test]
async fn a_backup_is_written_whole_or_not_at_all() {
    let bytes = backup_bytes();
    let chunks: Vec<Vec<u8>> = bytes.chunks(20).map(<[u8]>::to_vec).collect();
    let cluster = Cluster::start(Script { backup: chunks.clone(), ..Default::default() }).await;
    let path = cluster.directory.path().join("prod.backup");

    let said = cluster.hawser(&["cluster", "backup", "prod.backup"]).await;

    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert!(said.stdout.contains("prod.backup holds cluster prod (c1), lineage 2, revision 30"), "{said:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let again = cluster.hawser(&["cluster", "backup", "prod.backup"]).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("exists already and is not overwritten"), "{again:?}");

    for (what, script, code, words) in [
        ("breaks off", vec![chunks[0].clone(), Vec::new()], 1, "the backup broke off: the leader has gone"),
        ("ends early", chunks[..2].to_vec(), 1, "the backup broke off: what arrived"),
        ("no leader", Vec::new(), 3, "knows no leader"),
    ] {
        let cluster = Cluster::start(Script { backup: script, ..Default::default() }).await;
        let said = cluster.hawser(&["cluster", "backup", "b", "--timeout", "1s"]).await;
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{what}: {said:?}");
        assert!(said.stderr.contains(words), "{what}: {said:?}");
        let left =
            std::fs::read_dir(cluster.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(
            left.into_iter().all(|name| name != "b" && !name.to_string_lossy().starts_with('.')),
            "{what}"
        );
    }
    let nowhere = cluster.hawser(&["cluster", "backup", "nowhere/b"]).await;
    assert!(nowhere.stderr.contains("cannot write nowhere"), "{nowhere:?}");
}

#[tokio::test]
async fn what_the_cluster_does_not_know_is_shown() {
    let nothing = Cluster::start(Script::default()).await.hawser(&["cluster", "unknown"]).await;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(nothing.stderr.contains("nodes hold nothing that the cluster does not know"), "{nothing:?}");

    let held =
        v1::HeldReplica { resource: "web".into(), node: "n1".into(), port: 7003, ..Default::default() };
    let unknown = v1::UnknownReplica { held: Some(held), ..Default::default() };
    let cluster = Cluster::start(Script { unknown: vec![unknown], ..Default::default() }).await;
    let said = cluster.hawser(&["cluster", "unknown"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("web") && said.stdout.contains("7003"), "{said:?}");
}
