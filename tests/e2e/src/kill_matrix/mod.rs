//! The kill matrix: every process and every node dies before and after every phase of every operation on a volume.
//!
//! Each operation has to end, or to say why it waits for a node and to end once that is back; the data has to stay the
//! same, and nothing may be left. This file hands the cells out to labs; it must never judge an outcome.

mod api;
mod grid;
mod hand;
mod interrupt;
mod life;
mod table;
mod volume;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow};

pub use grid::{Cell, Moment, Operation, Victim, full, short};
pub use interrupt::{Fell, Outcome};
pub use table::{Matrix, Verdict};

use life::{Life, NODES, Place};

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The cells, in their order.
    pub cells: Vec<Cell>,
    /// The seed that chose them.
    pub seed: u64,
    /// Labs at once.
    pub labs: usize,
    /// How often a cell is tried whose moment was missed.
    pub tries: u32,
    /// Where the logs of labs are kept in which something did not hold.
    pub directory: PathBuf,
}

/// What is left to do and what was done.
struct Board {
    left: VecDeque<(Cell, u32)>,
    lives: usize,
    matrix: Matrix,
}

/// Runs the cells and tells each one's outcome as it comes.
///
/// # Errors
/// If a lab cannot be had. What did not hold in it is in the matrix.
pub fn run(run: &Run, tell: &(dyn Fn(&str) + Sync)) -> Result<Matrix> {
    let began = Instant::now();
    let left = run.cells.iter().map(|cell| (*cell, 1)).collect();
    let matrix = Matrix { seed: run.seed, ..Matrix::default() };
    let all = Mutex::new(Board { left, lives: 0, matrix });
    let board = &all;
    std::thread::scope(|scope| -> Result<()> {
        let labs: Vec<_> =
            (0..run.labs.max(1)).map(|lab| scope.spawn(move || work(run, lab, board, tell))).collect();
        labs.into_iter().try_for_each(|lab| lab.join().map_err(|_| anyhow!("a lab's thread panicked"))?)
    })?;
    let board = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Matrix { took: began.elapsed(), ..board.matrix })
}

/// Lives in one lab after another until nothing is left: what did not hold may not be laid to what comes next.
fn work(run: &Run, lab: usize, board: &Mutex<Board>, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let mut place: Option<Place> = None;
    while let Some((number, cells)) = take(board) {
        let mut there = match place.take() {
            Some(there) => there,
            None => {
                let there = Place::new(&format!("kills{lab}"))?;
                with(board, |board| -> Result<()> {
                    if board.matrix.versions.is_empty() {
                        board.matrix.versions = there.cluster.versions(NODES[0])?;
                    }
                    Ok(())
                })?;
                there
            }
        };
        let began = Instant::now();
        let tried = cells.clone();
        let cells = cells.into_iter().map(|(operation, (cell, _))| (operation, cell)).collect();
        let mut life = Life::new(&mut there, number, cells);
        let lived = life.live(number);
        let (outcomes, current) = (std::mem::take(&mut life.outcomes), life.current);
        let failed = lived.err().map(|error| (current, format!("{error:#}")));
        let words = settle(run, board, number, &tried, outcomes, failed.as_ref());
        tell(&format!("{words}life {number} took {:.0} s", began.elapsed().as_secs_f32()));
        if failed.is_some() {
            let kept = run.directory.join(format!("life{number}"));
            match keep_logs(&there, &kept) {
                Ok(()) => tell(&format!("its logs are kept in {}", kept.display())),
                Err(error) => tell(&format!("its logs cannot be kept in {}: {error:#}", kept.display())),
            }
        } else {
            place = Some(there);
        }
    }
    Ok(())
}

type Tried = BTreeMap<Operation, (Cell, u32)>;

/// A cell of each operation, as far as there are any.
fn take(board: &Mutex<Board>) -> Option<(usize, Tried)> {
    with(board, |board| {
        let mut cells = Tried::new();
        board.left.retain(|(cell, tries)| {
            let is_free = !cells.contains_key(&cell.operation);
            if is_free {
                cells.insert(cell.operation, (*cell, *tries));
            }
            !is_free
        });
        let number = board.lives;
        board.lives += 1;
        (!cells.is_empty()).then_some((number, cells))
    })
}

/// Notes what came of a life's cells, puts back those that are to be tried again, and says it in words.
fn settle(
    run: &Run,
    board: &Mutex<Board>,
    number: usize,
    tried: &Tried,
    outcomes: Vec<(Cell, Outcome)>,
    failed: Option<&(Option<Cell>, String)>,
) -> String {
    with(board, |board| {
        let mut words = String::new();
        let mut settled: Vec<Operation> = Vec::new();
        for (cell, outcome) in outcomes {
            settled.push(cell.operation);
            let tries = tried.get(&cell.operation).map_or(0, |(_, tries)| *tries);
            words.push_str(&format!("life {number}: {cell} ({}): {}\n", outcome.node, told(&outcome)));
            if outcome.fell != Fell::In && tries < run.tries {
                board.left.push_back((cell, tries + 1));
            } else {
                board.matrix.cells.insert(cell, Verdict::Passed(outcome));
            }
        }
        let Some((current, why)) = failed else { return words };
        words.push_str(&format!("life {number}: FAILED: {why}\n"));
        let failed_at = current.or_else(|| tried.values().next().map(|(cell, _)| *cell));
        if let Some(cell) = failed_at {
            settled.push(cell.operation);
            board.left.retain(|(other, _)| *other != cell);
            board.matrix.cells.insert(cell, Verdict::Failed(why.clone()));
        }
        let not_begun = tried.iter().filter(|(operation, _)| !settled.contains(operation));
        board.left.extend(not_begun.map(|(_, left)| *left));
        words
    })
}

fn told(outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs_f32();
    match (outcome.fell, &outcome.waited_for) {
        (Fell::Nowhere, _) => "missed".to_owned(),
        (Fell::Late, _) => format!("late, the kill took {} ms", outcome.delay.as_millis()),
        (Fell::In, None) => format!("ended after {seconds:.1} s"),
        (Fell::In, Some(reason)) => format!("waited for \"{reason}\", ended after {seconds:.1} s"),
    }
}

fn with<T>(board: &Mutex<Board>, action: impl FnOnce(&mut Board) -> T) -> T {
    action(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}

fn keep_logs(place: &Place, directory: &Path) -> Result<()> {
    for node in NODES {
        let from = place.cluster.directory().service_logs(node);
        let to = directory.join(node);
        std::fs::create_dir_all(&to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        std::fs::copy(place.cluster.directory().console(node), to.join("console.log"))?;
    }
    Ok(())
}
