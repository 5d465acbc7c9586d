//! Hands in the nodes: a shell in each that stops, continues and kills Hawser's processes at once, without starting a
//! program, which takes a node longer than most phases last.
//!
//! A hand must never touch anything but the process whose name it is given.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_lab::cluster::{CONTROLLER, SATELLITE};

use crate::cluster::{Cluster, Progress};

/// Reads `SIGNAL NAME` or `find NAME`, answers with one line.
const SCRIPT: &str = r#"
    declare -A found
    while read -r verb name; do
        if [ "$verb" = find ]; then
            found[$name]=$(pgrep -o -f "$name\$") && echo done || echo "no $name runs"
        else
            kill -"$verb" "${found[$name]}" && echo done || echo "$name is gone"
        fi
    done
"#;

const DONE: &str = "done";
/// The keeper of a node's services waits longer from one death to the next.
const LONGEST_RESTART: Duration = Duration::from_secs(15);

/// A process of a node that is stopped or killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Controller,
    Satellite,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Controller => CONTROLLER,
            Self::Satellite => SATELLITE,
        }
    }
}

struct Hand {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Hand {
    fn in_node(cluster: &Cluster, node: &str) -> Result<Self> {
        let mut child = cluster.converse(node, &["bash", "-c", SCRIPT])?;
        let input = child.stdin.take().context("the hand has no input")?;
        let output = BufReader::new(child.stdout.take().context("the hand has no output")?);
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, verb: &str, program: Program) -> Result<String> {
        writeln!(self.input, "{verb} {}", program.name())?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "the hand is gone");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // It may have ended with its node.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The hands in all nodes; one whose node lost its power grows again.
#[derive(Default)]
pub(super) struct Hands(BTreeMap<String, Hand>);

impl Hands {
    /// Finds a process; one that was killed is waited for until its keeper has started it again.
    pub(super) fn aim(&mut self, cluster: &Cluster, node: &str, program: Program) -> Result<()> {
        let hand = match self.0.entry(node.to_owned()) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(Hand::in_node(cluster, node)?),
        };
        cluster.wait(&format!("{} to run on {node}", program.name()), LONGEST_RESTART, || {
            let answer = hand.ask("find", program)?;
            Ok(if answer == DONE { Progress::Reached(()) } else { Progress::NotYet(answer) })
        })
    }

    /// Sends a signal to a process that was aimed at.
    pub(super) fn signal(&mut self, node: &str, signal: &str, program: Program) -> Result<()> {
        let hand = self.0.get_mut(node).with_context(|| format!("no hand in {node}"))?;
        let answer = hand.ask(signal, program).with_context(|| format!("the hand in {node}"))?;
        ensure!(answer == DONE, "the signal {signal} to {} on {node}: {answer}", program.name());
        Ok(())
    }

    /// Forgets the hand in a node without power.
    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }
}
