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

/// Reads `find NAME`, `await SIGN` or `SIGNAL NAME`, and answers each with one line. Reading from a pipe that nobody
/// writes to is a pause that starts no program.
const SCRIPT: &str = r#"
    declare -A found
    [ -p /dev/watch ] || mkfifo /dev/watch
    primary() {
        local line
        while read -r line; do [[ $line == *ro:Primary/* ]] && return 0; done </proc/drbd
        return 1
    }
    no-gate() {
        local file name
        for file in /sys/block/dm-*/dm/name; do
            { read -r name <"$file"; } 2>/dev/null && [[ $name == hawser-* ]] && return 1
        done
        return 0
    }
    while read -r verb name; do
        case $verb in
            find) found[$name]=$(pgrep -o -f "$name\$") && echo done || echo "no $name runs" ;;
            await)
                SECONDS=0 answer=done
                until "$name"; do
                    if ((SECONDS > 60)); then answer="never $name"; break; fi
                    read -r -t 0.005 <>/dev/watch
                done
                echo "$answer"
                ;;
            *) kill -"$verb" "${found[$name]}" && echo done || echo "$name is gone" ;;
        esac
    done
"#;

/// What a node's kernel shows where the API does not: a satellite reports when it has done all that it can do in one
/// go, and a promotion and the gate, or a gate and a demotion, are one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The volume is Primary there.
    Primary,
    /// No gate is there any more.
    NoGate,
}

impl Sign {
    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::NoGate => "no-gate",
        }
    }
}

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

    fn tell(&mut self, verb: &str, name: &str) -> Result<()> {
        writeln!(self.input, "{verb} {name}")?;
        Ok(self.input.flush()?)
    }

    fn answer(&mut self) -> Result<String> {
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
        let hand = self.grown(cluster, node)?;
        cluster.wait(&format!("{} to run on {node}", program.name()), LONGEST_RESTART, || {
            hand.tell("find", program.name())?;
            let answer = hand.answer()?;
            Ok(if answer == DONE { Progress::Reached(()) } else { Progress::NotYet(answer) })
        })
    }

    /// Has a hand look for a sign from now on; it takes no other orders until [`Self::seen`].
    pub(super) fn look_for(&mut self, cluster: &Cluster, node: &str, sign: Sign) -> Result<()> {
        self.grown(cluster, node)?.tell("await", sign.name())
    }

    /// Waits until the sign is seen that a hand looks for.
    pub(super) fn seen(&mut self, node: &str) -> Result<()> {
        let answer = self.there(node)?.answer().with_context(|| format!("the hand in {node}"))?;
        ensure!(answer == DONE, "the kernel of {node} did not show what was waited for: {answer}");
        Ok(())
    }

    fn grown(&mut self, cluster: &Cluster, node: &str) -> Result<&mut Hand> {
        Ok(match self.0.entry(node.to_owned()) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(Hand::in_node(cluster, node)?),
        })
    }

    fn there(&mut self, node: &str) -> Result<&mut Hand> {
        self.0.get_mut(node).with_context(|| format!("no hand in {node}"))
    }

    /// Sends a signal to a process that was aimed at.
    pub(super) fn signal(&mut self, node: &str, signal: &str, program: Program) -> Result<()> {
        let hand = self.there(node)?;
        hand.tell(signal, program.name())?;
        let answer = hand.answer().with_context(|| format!("the hand in {node}"))?;
        ensure!(answer == DONE, "the signal {signal} to {} on {node}: {answer}", program.name());
        Ok(())
    }

    /// Forgets the hand in a node without power.
    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }
}
