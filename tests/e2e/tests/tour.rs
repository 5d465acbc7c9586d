//! README's five minutes: every line of it does its work when it is typed as it stands there.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, Said, lab_or_skipped};

const README: &str = include_str!("../../../README.md");
const MAKEFILE: &str = include_str!("../../../Makefile");

/// What a newcomer is to see on the way.
const SEEN: [&str; 4] = [
    "\nresource data is ready on n1, n2\n",
    "  attached  1           /dev/mapper/hawser-data.",
    "\nresource data is attached to n2, taken over from n1\n",
    "\nahoy\n",
];

#[test]
fn every_line_of_the_five_minutes_works_as_it_stands() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let (up, rest) = tour()?.split_first().map(|(up, rest)| (*up, rest.to_vec())).context("an empty tour")?;
    ensure!(up.starts_with("make lab-up"), "the tour begins with {up:?}");
    ensure!(MAKEFILE.contains("lab-up: setup\n\t$(LAB) up\n"), "`make lab-up` does something else");
    // What `make lab-up` does, in a lab that ends with this test.
    let cluster = Cluster::up("tour", 3)?;

    let said = type_all(&cluster, &rest)?;
    println!("{}", said.output);

    ensure!(said.ok(), "the tour stopped after:\n{}{}", said.output, said.error);
    for words in SEEN {
        ensure!(said.output.contains(words), "nobody saw {words:?} in\n{}", said.output);
    }
    Ok(())
}

/// The lines after a prompt in README's first block below "Five minutes".
fn tour() -> Result<Vec<&'static str>> {
    let section = README.split("## Five minutes").nth(1).context("README has no five minutes")?;
    let block = section.split("```").nth(1).context("the five minutes have no block of commands")?;
    Ok(block.lines().filter_map(|line| line.strip_prefix("$ ")).collect())
}

/// Types the lines into one shell, which shows each before its answer and ends with the first that fails.
fn type_all(cluster: &Cluster, lines: &[&str]) -> Result<Said> {
    // Some lines end with a comment.
    let typed = |line: &&str| format!("printf '$ %s\\n' {}\n{{ {line}\n}} || exit 1\n", quoted(line));
    let script: String = lines.iter().map(typed).collect();
    let programs = cluster.program("hawser-lab");
    let programs = programs.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let output = Command::new("bash")
        .args(["-c", &script.replace("target/debug/", &format!("{programs}/"))])
        .env("HAWSER_LAB_DIRECTORY", cluster.directory().path())
        .stdin(Stdio::null())
        .output()?;
    Ok(output.into())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
