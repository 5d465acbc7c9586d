//! A transcript: what was typed and what was answered, and which verbs have done their work in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, Said};

/// What is typed for the id of the operation that the last `--no-wait` has printed.
pub(crate) const THE_OPERATION: &str = "ID";

/// How long a line may be typed again until it answers what a story needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer has come to rest that stays the same, but for its numbers, for longer than a satellite's reports
/// are apart.
const AT_REST: Duration = Duration::from_millis(1500);

/// One line of a story.
pub(crate) enum Line {
    /// `hawser …`, typed once.
    Hawser(&'static str),
    /// `hawser …`, typed until its answer holds these words and has come to rest; the last one is written down.
    Until(&'static str, &'static [&'static str]),
    /// `hawser-lab …`, what happens to the machines.
    Lab(&'static str),
}

/// Types stories to one cluster.
pub(crate) struct Typist<'a> {
    cluster: &'a Cluster,
    /// Where files are written.
    place: &'a Path,
    operation: String,
    /// Noun and verb of every line that succeeded.
    pub(crate) succeeded: BTreeSet<String>,
}

impl<'a> Typist<'a> {
    pub(crate) fn new(cluster: &'a Cluster, place: &'a Path) -> Self {
        Self { cluster, place, operation: String::new(), succeeded: BTreeSet::new() }
    }

    /// Types a story and returns its transcript.
    pub(crate) fn tell(&mut self, story: &[Line]) -> Result<String> {
        let mut transcript = String::new();
        for line in story {
            let (typed, said) = match line {
                Line::Hawser(words) => (format!("hawser {words}"), self.hawser(words)?),
                Line::Until(words, expected) => {
                    (format!("hawser {words}"), self.hawser_until(words, expected)?)
                }
                Line::Lab(words) => {
                    let arguments: Vec<&str> = words.split_whitespace().collect();
                    let said = self.cluster.hawser_lab(&arguments)?;
                    ensure!(said.ok(), "`hawser-lab {words}` failed: {}", said.error);
                    (format!("hawser-lab {words}"), said)
                }
            };
            let said = written_down(&typed, &said);
            print!("{said}");
            transcript.push_str(&said);
        }
        Ok(transcript)
    }

    fn hawser(&mut self, words: &str) -> Result<Said> {
        let arguments: Vec<&str> = words
            .split_whitespace()
            .map(|word| if word == THE_OPERATION { self.operation.as_str() } else { word })
            .collect();
        let said = self.cluster.hawser_in(self.place, &arguments)?;
        if said.ok() {
            // A verb stands behind its noun, or alone.
            let verbs = [1, 2].into_iter().filter_map(|words| arguments.get(..words));
            self.succeeded.extend(verbs.map(|verb| verb.join(" ")));
            if arguments.contains(&"--no-wait") {
                self.operation = operation_in(&said.output);
            }
        }
        Ok(said)
    }

    fn hawser_until(&mut self, words: &str, expected: &[&str]) -> Result<Said> {
        let cluster = self.cluster;
        let (mut last, mut since) = (String::new(), Instant::now());
        cluster.wait(&format!("`hawser {words}` to say {expected:?}"), PATIENCE, || {
            let said = self.hawser(words)?;
            let answer = format!("{}{}", said.output, said.error);
            let as_expected = expected.iter().all(|word| answer.contains(word));
            let words = answer
                .split_whitespace()
                .filter(|word| !word.trim_start_matches('(').starts_with(|c: char| c.is_ascii_digit()));
            let without_numbers: String = words.collect();
            if without_numbers != last {
                (last, since) = (without_numbers, Instant::now());
            }
            Ok(if as_expected && since.elapsed() >= AT_REST {
                Progress::Reached(said)
            } else {
                Progress::NotYet(answer)
            })
        })
    }
}

/// The id that `--no-wait` prints: alone, or in JSON.
fn operation_in(answer: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    json.get("operation").unwrap_or(&json).to_string()
}

fn written_down(typed: &str, said: &Said) -> String {
    let mut text = format!("$ {typed}\n{}{}", said.output, said.error);
    if let Some(code @ 1..) = said.code {
        text.push_str(&format!("(exit code {code})\n"));
    }
    text.push('\n');
    text
}

/// Compares a transcript with the one that is written down, ids, times and ages masked.
pub(crate) fn compare(name: &str, transcript: &str) {
    let mut settings = insta::Settings::clone_current();
    for (pattern, mask) in [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"transcripts-\d+", "LAB"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r#"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\s"]*"#, "TIME"),
        (r"\b(data|apart|grown|ledger|spare)\.\d+", "$1.N"),
        (r"\b(\d+(ms|s|m|h))+ ago", "AGE ago"),
        (r#""(\w*(?:revision|incarnation|term)|id|operation|raft_id|observed_age_ms)": ?\d+"#, r#""$1": N"#),
        // The number of an outdated replica is a revision; volumes' numbers are not that great.
        (r#""number": \d\d+"#, r#""number": N"#),
        (r"(?m)^(incarnation|revision|term|document|boot)( +).*$", "$1 N"),
        (r"(operation(?: wait)?|revision) \d{1,5}\b", "$1 N"),
        (r"(?m)^operation +\d+$", "operation  N"),
        (r"(?m)^\d+$", "N"),
        (r"score \d+", "score N"),
        (r"\(member \d+\)", "(member N)"),
        (r"(?m)^ *\d+  (created|changed|removed) ", "N $1 "),
        // Who leads, and how far the others are, is the business of the moment.
        (r"(?m)^(n\d +10\.77\.0\.\d:6470 +)(?:leader|voter) +\d+ +\d+", "$1 ROLE N N"),
        (r#"(?m)^(leader +|.*"leader": "|.*"leads": )(?:n\d|true|false)"#, "${1}MASKED"),
        (r"(?m)^\d{1,5} +(create|delete|attach|detach)", "N $1"),
        (r"(\S) {2,}", "$1  "),
    ] {
        settings.add_filter(pattern, mask);
    }
    settings.bind(|| insta::assert_snapshot!(name, transcript));
}
