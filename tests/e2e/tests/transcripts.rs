//! What a person types and what the programs answer, word for word; ids, times and ages are masked.

use anyhow::Result;
use hawser_e2e::cluster::{Cluster, lab_or_skipped};

/// In order: each line sees what the lines before it did.
const TYPED: [&str; 38] = [
    "node list",
    "node show n1",
    "pool list",
    "cluster status",
    "group create fast --replicas 2 --pool thin --net max-buffers=8000",
    "group list",
    "resource create data --size 64MiB --group fast --node n1 --node n2",
    "resource list",
    "resource show data",
    "replica list",
    "attachment list",
    "attachment create data n1",
    "attachment create data n1",
    "attachment list",
    "resource show data",
    "attachment create data n2",
    "resource delete data",
    "attachment delete data n1",
    "attachment delete data n1",
    "group delete fast",
    "resource create data --size 64MiB",
    "resource create wide --size 64MiB --replicas 3",
    "resource create vast --size 10TiB",
    "resource delete data",
    "resource show data",
    "group delete fast",
    "group delete fast",
    "operation list",
    "operation show 999999",
    "operation wait 999999",
    "operation cancel 999999",
    "pool delete n3 thin",
    "pool create n3 thin --lvm-thin hawser/thin",
    "pool create n3 none --lvm-thin hawser/none",
    "node create n4 --address 10.77.0.4",
    "node delete n4",
    "cluster add-member n1 10.77.0.1:6470 --out /nowhere/ticket.json",
    "cluster certificate satellite n9 --directory /nowhere",
];

#[test]
fn the_programs_answer_as_written_down() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("transcripts", 3)?;
    let mut transcript = String::new();
    for line in TYPED {
        let words: Vec<&str> = line.split_whitespace().collect();
        let said = cluster.hawser(&words)?;
        transcript.push_str(&format!("$ hawser {line}\n{}{}", said.output, said.error));
        if !transcript.ends_with('\n') {
            transcript.push('\n');
        }
        if let Some(code @ 1..) = said.code {
            transcript.push_str(&format!("(exit code {code})\n"));
        }
        transcript.push('\n');
    }

    let mut settings = insta::Settings::clone_current();
    for (pattern, mask) in [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r"transcripts-\d+", "LAB"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ ]*", "TIME"),
        (r"data\.\d+", "data.N"),
        (r"\b(\d+(ms|s|m|h))+ ago", "AGE ago"),
        (r"(?m)^(incarnation|revision|term|document|boot)( +).*$", "$1 N"),
        (r"(operation|revision) \d{1,5}\b", "$1 N"),
        (r"(?m)^(n\d +10\.77\.0\.\d:6470 +\w+) +\d+ +\d+", "$1 N N"),
        (r"(?m)^\d{1,5} +(create|delete|attach|detach)", "N $1"),
        (r" {2,}", "  "),
    ] {
        settings.add_filter(pattern, mask);
    }
    settings.bind(|| insta::assert_snapshot!("transcript", transcript));
    Ok(())
}
