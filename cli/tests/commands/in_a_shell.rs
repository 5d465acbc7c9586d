//! What `hawser` is to a shell: completions, manual pages, short names, and answers for other programs.

use std::{fs, path::Path};

use hawser_proto::v1;

use crate::fake::{Cluster, Script, complete, hawser};

fn node(name: &str) -> v1::NodeView {
    v1::NodeView {
        desired: Some(v1::Node { name: name.into(), ..Default::default() }),
        online: true,
        ..Default::default()
    }
}

async fn two_nodes() -> Cluster {
    Cluster::start(Script { nodes: vec![vec![node("n1"), node("n2")]], ..Default::default() }).await
}

#[tokio::test]
async fn names_are_completed_from_the_cluster() {
    let cluster = two_nodes().await;
    let configuration = cluster.directory.path().join("client.toml");
    for (words, expected) in [
        (&["node", "show", ""][..], "n1\nn2\n"),
        (&["n", "s", "n2"], "n2\n"),
        (&["replica", "create", "data", ""], "n1\nn2\n"),
        (&["resource", "list", "--node", ""], "n1\nn2\n"),
        (&["node", "show", "x"], ""),
        // A new node has a name of its own.
        (&["node", "create", "n"], ""),
    ] {
        let said = complete(Some(&configuration), cluster.directory.path(), words).await;
        let names: String = said
            .stdout
            .lines()
            .filter(|line| !line.starts_with('-'))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!((said.code, names.as_str()), (0, expected), "{words:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn without_a_cluster_only_words_of_the_command_line_are_completed() {
    let place = tempfile::tempdir().unwrap();

    let verbs = complete(None, place.path(), &["node", ""]).await;
    let names = complete(None, place.path(), &["node", "show", "n"]).await;

    assert!(verbs.stdout.contains("lost\tDeclare a node lost"), "{}", verbs.stdout);
    assert_eq!((names.code, names.stdout.as_str(), names.stderr.as_str()), (0, "", ""));
}

#[tokio::test]
async fn each_shell_gets_a_script_that_asks_the_program_in_its_path() {
    let place = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = hawser(None, place.path(), &["completion", shell, "-o", "json"]).await;
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{shell}");
        assert!(said.stdout.contains("HAWSER_COMPLETE"), "{shell}: {}", said.stdout);
        assert!(!said.stdout.contains(place.path().to_str().unwrap()), "{shell}: {}", said.stdout);
    }
    let unknown = hawser(None, place.path(), &["completion", "csh"]).await;
    assert_eq!(unknown.code, 2);
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let place = tempfile::tempdir().unwrap();

    let said = hawser(None, place.path(), &["manual", "man/man1"]).await;

    assert_eq!(said.stdout, "the manual pages are in man/man1; `man hawser` is the first\n");
    let page = |name: &str| fs::read_to_string(place.path().join("man/man1").join(name)).unwrap();
    assert!(page("hawser.1").contains("Administers a Hawser cluster"));
    assert!(page("hawser-node-lost.1").contains("Declare a node lost"), "{}", page("hawser-node-lost.1"));

    fs::write(place.path().join("file"), "").unwrap();
    let refused = hawser(None, place.path(), &["manual", "file/man1"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("error: cannot write file/man1: "), "{}", refused.stderr);
}

#[tokio::test]
async fn short_names_say_the_same_as_long_ones() {
    let cluster = two_nodes().await;
    let (short, long) = (cluster.hawser(&["n", "l"]).await, cluster.hawser(&["node", "list"]).await);
    assert_eq!((short.code, short.stdout), (0, long.stdout));
}

#[tokio::test]
async fn yaml_says_what_json_says() {
    let cluster = two_nodes().await;

    let list = cluster.hawser(&["node", "list", "-o", "yaml"]).await;
    let one = cluster.hawser(&["node", "show", "n1", "--output", "yaml"]).await;

    insta::assert_snapshot!(list.stdout);
    assert!(one.stdout.contains("name: n1\n"), "{}", one.stdout);
    assert!(one.stdout.ends_with("revision: 40\n"), "{}", one.stdout);
}

#[tokio::test]
async fn a_misspelt_word_is_answered_with_the_nearest() {
    let said = hawser(None, Path::new("."), &["resource", "lsit"]).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("similar") && said.stderr.contains("'list'"), "{}", said.stderr);
}
