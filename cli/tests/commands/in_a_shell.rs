//! What `hawser` is to a shell: completions, manual pages, short names, and answers for other programs.

use std::{fs, path::Path, time::Duration};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
};
use tokio::io::AsyncReadExt;

use crate::fake::{Cluster, Said, Script, complete, hawser, node};

async fn two_nodes() -> Cluster {
    Cluster::start(Script { nodes: vec![vec![node("n1"), node("n2")]], ..Default::default() }).await
}

#[tokio::test]
async fn a_list_that_is_watched_is_painted_again_on_its_terminal() {
    let cluster = two_nodes().await;
    let size = Winsize { ws_row: 3, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    // Else every program that is started meanwhile would hold its ends.
    for end in [&terminal.master, &terminal.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let mut watching = cluster.on_terminal(&["node", "list", "--watch"], terminal.slave);
    let mut screen = tokio::fs::File::from_std(terminal.master.into());

    let mut painted = String::new();
    let read = async {
        while painted.matches("\x1b[H").count() < 3 {
            let mut bytes = [0; 4096];
            let count = screen.read(&mut bytes).await.unwrap();
            painted.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(60), read).await;
    watching.kill().await.unwrap();

    assert!(seen.is_ok(), "{painted:?}");
    let first = painted.split("\x1b[H").nth(1).unwrap();
    assert!(
        first.contains("NAME") && first.contains("and 2 more"),
        "three lines are all there are: {first:?}"
    );
}

/// The candidates that are no options.
fn words(said: &Said) -> Vec<&str> {
    let words = said.stdout.lines().filter(|line| !line.starts_with('-'));
    words.map(|line| line.split('\t').next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn names_are_completed_from_the_cluster() {
    let cluster = two_nodes().await;
    let configuration = cluster.directory.path().join("client.toml");
    for (line, expected) in [
        (&["node", "show", ""][..], &["n1", "n2"][..]),
        (&["n", "s", "n2"], &["n2"]),
        (&["replica", "create", "data", ""], &["n1", "n2"]),
        (&["resource", "list", "--node", ""], &["n1", "n2"]),
        (&["node", "show", "x"], &[]),
        // A new node has a name of its own.
        (&["node", "create", "n"], &[]),
    ] {
        let said = complete(Some(&configuration), cluster.directory.path(), line).await;
        assert_eq!((said.code, words(&said).as_slice()), (0, expected), "{line:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn the_line_that_is_typed_says_whose_names_are_meant() {
    let (production, staging) =
        (two_nodes().await, Script { nodes: vec![vec![node("s1")]], ..Default::default() });
    let staging = Cluster::start(staging).await;
    let files = [&production, &staging].map(|cluster| cluster.directory.path().join("client.toml"));
    let staging = files[1].display().to_string();

    let line = ["--config", staging.as_str(), "node", "delete", ""];
    let said = complete(Some(&files[0]), production.directory.path(), &line).await;

    assert_eq!(words(&said), ["s1"]);
}

#[tokio::test]
async fn without_a_cluster_only_words_of_the_command_line_are_completed_and_no_short_ones() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("broken.toml"), "controllers = 7").unwrap();

    let verbs = complete(None, place.path(), &["node", ""]).await;
    assert_eq!(words(&verbs), ["create", "list", "show", "lost", "delete", "help"]);
    assert!(verbs.stdout.contains("lost\tDeclare a node lost"), "{}", verbs.stdout);

    for configuration in [None, Some(place.path().join("broken.toml"))] {
        let names = complete(configuration.as_ref(), place.path(), &["node", "show", "n"]).await;
        assert_eq!(
            (names.code, names.stdout.as_str(), names.stderr.as_str()),
            (0, "", ""),
            "{configuration:?}"
        );
    }
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
    let reference = include_str!("../../../docs/commands.md");

    let said = hawser(None, place.path(), &["manual", "man/man1"]).await;

    assert_eq!(said.stdout, "the manual pages are in man/man1; the first is hawser.1\n");
    for command in reference.lines().filter_map(|line| line.strip_prefix("## ")) {
        let page = place.path().join("man/man1").join(format!("{}.1", command.replace(' ', "-")));
        let page = fs::read_to_string(&page).unwrap_or_default();
        assert!(page.contains("SYNOPSIS"), "{command}: {page:?}");
    }
    let first = fs::read_to_string(place.path().join("man/man1/hawser.1")).unwrap();
    assert!(first.contains("HAWSER_CONFIG"), "{first}");

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
async fn a_misspelt_word_is_answered_with_the_nearest_long_ones() {
    for (line, nearest) in [
        (&["resource", "lsit"][..], Some("'list'")),
        (&["resourc", "list"], Some("'resource'")),
        (&["zzz"], None),
    ] {
        let said = hawser(None, Path::new("."), line).await;
        let tip = said.stderr.lines().find(|line| line.trim_start().starts_with("tip:"));
        let tip = tip.map(|tip| tip.rsplit(": ").next().unwrap_or_default());
        assert_eq!((said.code, tip), (2, nearest), "{}", said.stderr);
    }
}
