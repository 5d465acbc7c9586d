//! The table: what became of each operation, by moment and victim, and the words that one needs to read it.
//!
//! It must never show a cell as passed in which nobody was killed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::grid::{Cell, Moment, Operation, Victim};
use super::interrupt::{Fell, Outcome};

/// How to read it.
const LEGEND: &str = "\
How to read it. A row is an operation and the moment at which something was killed: as soon as the leader showed the
operation in that phase, which is after the phase above it and before its own work was done; `ended` is after the last
phase. A satellite does `promote` and `open-gate`, and `close-gate` and `demote`, in one go and reports then: between
the two it was the node's own kernel that was looked at.

A column is what was killed: processes with -9, which their keeper starts again, and nodes by a power cut. `here` is the
node that the operation is about (of create and delete, the first of the two; of attach and detach, the one where it is
attached; of add and remove, the one whose replica joins or leaves), `there` the node with the other replica; of add and
remove, it is written to there meanwhile. The node whose controller leads may be here, there or the third one.

    2.1 s       the operation ended by itself, so long after the kill; a node without power was not needed
    2.1 s a     it said that it waited for the reason under that letter, got the node's power back, and then ended;
                the time includes the node's boot
    late        the operation had ended before the kill was done
    missed      the phase was over before anybody saw it; nobody was killed
    FAILED      see below
    .           not part of this run

After every cell all nodes, satellites and controllers had to be back and both replicas UpToDate within a minute and a
half; every acknowledged record was read on each replica, from below DRBD; and after every deletion nothing of the
volume was left on any node: no logical volume, file, map, DRBD object, device or port.
";

/// What came of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The operation ended, everybody came back, the data was the same, and nothing was left.
    Passed(Outcome),
    /// What did not hold.
    Failed(String),
}

/// What came of all cells.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// The cells of this run.
    pub cells: BTreeMap<Cell, Verdict>,
    /// What it ran on, e.g. "Linux 6.1.176, DRBD 8.4.11".
    pub versions: String,
    /// The seed that chose.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
}

impl Matrix {
    /// Why the run did not pass, in a line each; empty if it did.
    pub fn problems(&self) -> Vec<String> {
        let failed = self.cells.iter().filter_map(|(cell, result)| match result {
            Verdict::Failed(why) => Some(format!("{cell}: {why}")),
            Verdict::Passed(_) => None,
        });
        let mut problems: Vec<String> = failed.collect();
        let (fell, all) = (self.count(Fell::In), self.cells.len());
        if fell * 4 < all * 3 {
            problems
                .push(format!("only {fell} of {all} kills fell into the moment that they were meant for"));
        }
        problems
    }

    fn outcomes(&self) -> impl Iterator<Item = (&Cell, &Outcome)> {
        self.cells.iter().filter_map(|(cell, result)| match result {
            Verdict::Passed(outcome) => Some((cell, outcome)),
            Verdict::Failed(_) => None,
        })
    }

    fn count(&self, fell: Fell) -> usize {
        self.outcomes().filter(|(_, outcome)| outcome.fell == fell).count()
    }

    /// A letter for each reason, in the order of the table.
    fn letters(&self) -> Vec<&str> {
        let mut reasons = Vec::new();
        for reason in self.outcomes().filter_map(|(_, outcome)| outcome.waited_for.as_deref()) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }

    fn cell(&self, cell: Cell, letters: &[&str]) -> String {
        let outcome = match self.cells.get(&cell) {
            None => return ".".to_owned(),
            Some(Verdict::Failed(_)) => return "FAILED".to_owned(),
            Some(Verdict::Passed(outcome)) => outcome,
        };
        let seconds = outcome.took.as_secs_f32();
        match (outcome.fell, &outcome.waited_for) {
            (Fell::Nowhere, _) => "missed".to_owned(),
            (Fell::Late, _) => "late".to_owned(),
            (Fell::In, _) if cell.moment == Moment::Ended => "ended".to_owned(),
            (Fell::In, None) => format!("{seconds:.1} s"),
            (Fell::In, Some(reason)) => {
                let number = letters.iter().position(|known| known == reason).unwrap_or_default();
                format!("{seconds:.1} s {}", letter(number))
            }
        }
    }
}

/// a to z, then aa and so on.
fn letter(number: usize) -> String {
    let own = char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    let before = if number < 26 { String::new() } else { letter(number / 26 - 1) };
    format!("{before}{own}")
}

impl fmt::Display for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.letters();
        write!(formatter, "| {:<8} | {:<15} |", "", "killed in")?;
        for victim in Victim::ALL {
            write!(formatter, " {} |", victim.word())?;
        }
        writeln!(formatter, "\n|{}", "---|".repeat(Victim::ALL.len() + 2))?;
        for operation in Operation::ALL {
            for (number, moment) in operation.moments().enumerate() {
                let name = if number == 0 { operation.word() } else { "" };
                write!(formatter, "| {name:<8} | {moment:<15} |")?;
                for victim in Victim::ALL {
                    let width = victim.word().len();
                    let text = self.cell(Cell { operation, moment, victim }, &letters);
                    write!(formatter, " {text:<width$} |")?;
                }
                writeln!(formatter)?;
            }
        }
        writeln!(formatter)?;
        for (number, reason) in letters.iter().enumerate() {
            writeln!(formatter, "    {:<4} {reason}", letter(number))?;
        }
        let mut delays: Vec<Duration> = self.outcomes().map(|(_, outcome)| outcome.delay).collect();
        delays.sort_unstable();
        let delay = |part: usize| delays.get(delays.len() * part / 100).map_or(0, Duration::as_millis);
        let problems = self.problems();
        writeln!(formatter, "\n{LEGEND}")?;
        writeln!(
            formatter,
            "{} cells in {:.0} s, seed {}, on {}: {} fell into their moment, {} came late, {} were missed, {} failed.\n\
             From the answer that showed the moment to the end of the kill: half within {} ms, nine of ten within {} ms.",
            self.cells.len(),
            self.took.as_secs_f32(),
            self.seed,
            self.versions,
            self.count(Fell::In),
            self.count(Fell::Late),
            self.count(Fell::Nowhere),
            self.cells.len() - self.outcomes().count(),
            delay(50),
            delay(90),
        )?;
        for problem in &problems {
            writeln!(formatter, "\nFAILED {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fell: Fell, waited_for: Option<&str>) -> Verdict {
        Verdict::Passed(Outcome {
            fell,
            node: "n1".into(),
            waited_for: waited_for.map(str::to_owned),
            took: Duration::from_millis(2140),
            delay: Duration::from_millis(4),
        })
    }

    fn matrix(results: &[Verdict]) -> Matrix {
        let victims = Victim::ALL.into_iter().zip(results);
        let cells = victims.map(|(victim, result)| {
            (Cell { operation: Operation::Create, moment: Moment::Phase("connect"), victim }, result.clone())
        });
        Matrix { cells: cells.collect(), ..Matrix::default() }
    }

    #[test]
    fn a_row_says_what_came_of_each_victim() {
        let failed = Verdict::Failed("it is stuck".into());
        let shown = matrix(&[
            outcome(Fell::In, None),
            outcome(Fell::In, Some("n1 is away")),
            outcome(Fell::In, Some("n2 is away")),
            outcome(Fell::In, Some("n1 is away")),
            outcome(Fell::Nowhere, None),
            failed,
        ])
        .to_string();
        let row = shown.lines().find(|line| line.contains("connect")).map(|row| {
            row.split('|').map(str::trim).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("|")
        });
        assert_eq!(row.as_deref(), Some("connect|2.1 s|2.1 s a|2.1 s b|2.1 s a|missed|FAILED|."));
        assert!(shown.contains("    b    n2 is away\n"), "{shown}");
        assert!(shown.contains("FAILED create: connect, power here: it is stuck"), "{shown}");
    }

    #[test]
    fn a_run_passes_when_nothing_failed_and_most_kills_fell_where_they_were_meant() {
        let (fell, missed) = (outcome(Fell::In, None), outcome(Fell::Nowhere, None));
        type Case<'a> = (&'a [&'a Verdict], &'a [&'a str]);
        let failed = Verdict::Failed("it is stuck".into());
        let table: [Case<'_>; 4] = [
            (&[&fell, &fell, &fell, &fell], &[]),
            (&[&fell, &fell, &fell, &missed], &[]),
            (&[&fell, &fell, &missed, &missed], &["only 2 of 4"]),
            (&[&fell, &fell, &fell, &failed], &["it is stuck"]),
        ];
        for (results, expected) in table {
            let results: Vec<Verdict> = results.iter().map(|result| (*result).clone()).collect();
            let problems = matrix(&results).problems();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            assert!(
                problems.iter().zip(expected).all(|(problem, words)| problem.contains(words)),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn letters_do_not_run_out() {
        for (number, expected) in [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (52, "ba")] {
            assert_eq!(letter(number), expected);
        }
    }
}
