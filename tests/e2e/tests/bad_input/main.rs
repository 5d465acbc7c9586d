//! Bad input at the command line's door and at the ports: refused with the field and the reason, and nothing
//! changes. (The API's own tables lie beside the API.)

mod certificates;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, lab_or_skipped};

/// What is typed, and what the refusal has to say.
const REFUSED: [(&[&str], &[&str]); 29] = [
    (&["node", "create", "n1", "--address", "10.77.0.9"], &["n1", "already"]),
    (&["node", "create", "UPPER", "--address", "10.77.0.9"], &["name", "UPPER"]),
    (&["node", "create", "n9", "--address", "300.1.1.1"], &["300.1.1.1"]),
    (&["node", "delete", "n9"], &["n9"]),
    (&["node", "delete", "n1"], &["n1", "kept"]),
    (&["pool", "create", "n9", "thin", "--lvm-thin", "vg0/thin"], &["n9"]),
    (&["pool", "create", "n1", "thin", "--lvm-thin", "vg0/thin"], &["thin", "already"]),
    (&["pool", "create", "n1", "other", "--lvm-thin", "vg0/nothing"], &["nothing"]),
    (&["pool", "create", "n1", "other", "--lvm-thin", "../x/y"], &["lvm-thin"]),
    (&["pool", "create", "n1", "other"], &["--lvm-thin", "--lvm"]),
    (&["pool", "create", "n1", "other", "--lvm-thin", "vg0/thin", "--lvm", "vg0"], &["--lvm-thin", "--lvm"]),
    (&["pool", "create", "n1", "other", "--lvm", "../x"], &["--lvm"]),
    (&["pool", "create", "n1", "other", "--lvm", "vg9"], &["vg9", "vgcreate"]),
    (&["pool", "create", "n1", "other", "--directory", "srv"], &["--directory", "srv"]),
    (&["pool", "delete", "n1", "other"], &["other"]),
    (&["group", "create", "default", "--replicas", "2"], &["default", "already"]),
    (&["group", "delete", "nobody"], &["nobody"]),
    (&["resource", "create", "zero", "--size", "0"], &["size"]),
    (&["resource", "create", "huge", "--size", "9223372036854775808"], &["size"]),
    (&["resource", "create", "big", "--size", "10TiB"], &["n1", "n2", "n3"]),
    (&["resource", "create", "a/b", "--size", "1GiB"], &["name"]),
    (&["resource", "create", "three", "--size", "1GiB", "--replicas", "3"], &["8.4"]),
    (&["resource", "create", "four", "--size", "1GiB", "--replicas", "4"], &["4"]),
    (&["resource", "create", "there", "--size", "1GiB", "--node", "n1", "--node", "n9"], &["n9"]),
    (&["resource", "create", "twice", "--size", "1GiB", "--node", "n1", "--node", "n1"], &["n1"]),
    (&["resource", "create", "lost", "--size", "1GiB", "--group", "nobody"], &["nobody"]),
    (&["resource", "delete", "nobody"], &["nobody"]),
    (&["attachment", "create", "nobody", "n1"], &["nobody"]),
    (&["operation", "cancel", "999999"], &["999999"]),
];

#[test]
fn bad_input_is_refused_with_its_reason_and_changes_nothing() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("bad-input", 3)?;
    cluster.must(&["resource", "create", "kept", "--size", "64MiB", "--node", "n1", "--node", "n2"])?;
    let before = desired(&cluster)?;

    for (typed, words) in REFUSED {
        let said = cluster.hawser(typed)?;
        let line = typed.join(" ");
        ensure!(!said.ok(), "`hawser {line}` was accepted: {}", said.output);
        for word in words {
            ensure!(said.error.contains(word), "`hawser {line}` does not say {word:?}: {}", said.error);
        }
        ensure!(desired(&cluster)? == before, "`hawser {line}` changed something");
    }

    // A node without a replica cannot be attached to.
    let said = cluster.hawser(&["attachment", "create", "kept", "n3"])?;
    ensure!(!said.ok() && said.error.contains("n3"), "attached where no replica is: {}", said.error);

    for port in [6470, 6471, 6472] {
        garbage(&cluster, port)?;
    }
    ensure!(desired(&cluster)? == before, "garbage on a port changed something");

    certificates::try_at_the_command_line(&cluster)?;
    // The cluster's clock may commit a minute in the middle of one round, not of two.
    let silent = (0..2).map(|_| certificates_commit_nothing(&cluster)).collect::<Result<Vec<_>>>()?;
    ensure!(silent.contains(&true), "something was committed while every caller was refused");
    ensure!(desired(&cluster)? == before, "a caller that was refused changed something");
    Ok(())
}

/// Tries the wrong certificates; whether nothing at all was committed meanwhile. The satellites' sessions
/// have to outlive it.
fn certificates_commit_nothing(cluster: &Cluster) -> Result<bool> {
    let before = cluster.json(&["node", "list"])?;
    certificates::try_all(cluster)?;
    let after = cluster.json(&["node", "list"])?;
    for node in after["items"].as_array().context("a list without items")? {
        ensure!(node["online"] == true, "a satellite's session did not outlive it: {node}");
    }
    Ok(before["revision"] == after["revision"])
}

/// Everything that was asked for.
fn desired(cluster: &Cluster) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for noun in ["node", "pool", "group", "resource", "attachment"] {
        let list = cluster.json(&[noun, "list"])?;
        for item in list["items"].as_array().context("a list without items")? {
            let wanted = if item["desired"].is_null() { item } else { &item["desired"] };
            all.push(format!("{noun} {}", without_observations(wanted)));
        }
    }
    Ok(all)
}

/// Without what changes by itself: sizes that a node reports.
fn without_observations(value: &serde_json::Value) -> serde_json::Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| name != "capacity_bytes" && name != "revision");
    }
    value
}

/// Sends nonsense to a port of n1 from the host; the program behind it goes on.
fn garbage(cluster: &Cluster, port: u16) -> Result<()> {
    let forwarded = cluster.forward("n1", port)?;
    for nonsense in [&[0_u8; 4096][..], &[0xff; 4096][..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", forwarded))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // The other end may hang up in the middle, which is an answer, too.
        if stream.write_all(nonsense).is_ok() {
            let mut answer = [0_u8; 256];
            match stream.read(&mut answer) {
                Ok(_) | Err(_) => {}
            }
        }
    }
    cluster.must(&["cluster", "status"])?;
    Ok(())
}
