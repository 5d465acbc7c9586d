//! The tree of commands, as `hawser` itself shows it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hawser_lab::options::programs;

/// What `hawser … --help` prints.
pub(crate) fn page(command: &[String]) -> Result<String> {
    let output = Command::new(programs().join("hawser"))
        .args(command)
        .arg("--help")
        .env_remove("HAWSER_CONFIG")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "`hawser {} --help` failed", command.join(" "));
    String::from_utf8(output.stdout).context("a page of help that is no text")
}

/// Every command that has verbs below it, `hawser` itself first, and every command that has none.
pub(crate) fn tree() -> Result<(Vec<Vec<String>>, Vec<String>)> {
    let (mut nouns, mut verbs) = (Vec::new(), Vec::new());
    let mut unread = vec![Vec::new()];
    while let Some(command) = unread.pop() {
        let below = below(&page(&command)?);
        if below.is_empty() {
            verbs.push(command.join(" "));
            continue;
        }
        // Read from the end, so that they come in the order in which they are shown.
        unread.extend(below.into_iter().rev().map(|word| [&command[..], &[word]].concat()));
        nouns.push(command);
    }
    Ok((nouns, verbs))
}

/// The words below "Commands:".
fn below(page: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let words = lines
        .take_while(|line| !line.is_empty())
        // Deeper lines go on with the description of the line before.
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(str::to_owned).collect()
}
