//! What a person types and what the programs answer, word for word; ids, times and ages are masked.
//!
//! Every verb is typed at least once with success.
#![allow(clippy::print_stdout)]

mod help;
mod stories;
mod transcript;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, lab_or_skipped};

use stories::{CLUSTER, OPERATIONS, REPLICAS, TAKE_OVER, VOLUME};
use transcript::{Line, Typist, compare};

#[test]
fn the_programs_answer_as_written_down() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let (_, verbs) = help::tree()?;
    let cluster = Cluster::up("transcripts", 3)?;
    let place = tempfile::tempdir()?;
    // Where the lab's own authority lies, for whoever restores a backup of it.
    std::os::unix::fs::symlink(cluster.directory().cluster(), place.path().join("lab"))?;
    let mut typist = Typist::new(&cluster, place.path());
    let stories: [(&str, &[Line]); 5] = [
        ("volume", &VOLUME),
        ("cluster", &CLUSTER),
        ("operations", &OPERATIONS),
        ("replicas", &REPLICAS),
        ("take_over", &TAKE_OVER),
    ];
    for (name, story) in stories {
        compare(name, &typist.tell(story)?);
    }
    let missing: Vec<_> = verbs.iter().filter(|verb| !typist.succeeded.contains(*verb)).collect();
    ensure!(missing.is_empty(), "no story types these with success: {missing:?}");
    Ok(())
}

#[test]
fn the_help_says_what_there_is() -> Result<()> {
    let (nouns, verbs) = help::tree()?;
    ensure!(verbs.len() > 20, "the tree of commands was not understood: {verbs:?}");
    let mut pages = String::new();
    for noun in nouns {
        let typed = ["hawser"].into_iter().chain(noun.iter().map(String::as_str)).collect::<Vec<_>>();
        pages.push_str(&format!("$ {} --help\n{}\n", typed.join(" "), help::page(&noun)?));
    }
    insta::assert_snapshot!("help", pages);
    Ok(())
}
