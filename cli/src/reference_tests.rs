//! `docs/commands.md` says what the program says. It must never be written but by this.

use std::{env, fmt::Write, fs};

use clap::Command;

use crate::arguments::Arguments;

/// Environment variable: where it is set, the document is written anew.
const WRITE: &str = "HAWSER_WRITE_REFERENCE";
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
const BEGINNING: &str = "\
# Commands

Every noun and verb of `hawser`, as `--help` shows them. The options in the first section can stand anywhere. Short
names (`hawser r l` for `hawser resource list`) are for typing; scripts use the long ones, and `-o json` or `-o yaml`.
";

fn reference() -> String {
    let mut line = with_width(Arguments::line());
    line.build();
    let mut document = BEGINNING.to_owned();
    describe(&line, false, &mut document);
    document
}

fn with_width(command: Command) -> Command {
    command.term_width(120).mut_subcommands(with_width)
}

fn describe(command: &Command, is_below: bool, document: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    let mut shown = command.clone().mut_args(|argument| {
        // Said once, at the top; and without what the environment happens to hold.
        let is_repeated = argument.is_global_set() && is_below;
        let is_hidden = is_repeated || argument.is_hide_set();
        argument.hide(is_hidden).hide_env_values(true)
    });
    let name = command.get_bin_name().unwrap_or("hawser");
    let help = shown.render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    let _always_fits = write!(document, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
    for inner in command.get_subcommands() {
        describe(inner, true, document);
    }
}

#[test]
fn the_reference_of_the_commands_is_what_they_say() {
    let reference = reference();
    if env::var_os(WRITE).is_some() {
        fs::write(PLACE, &reference).expect("the checkout can be written");
    }
    let written = fs::read_to_string(PLACE).unwrap_or_default();
    assert!(
        written == reference,
        "docs/commands.md is out of date; write it anew with {WRITE}=1 cargo test -p hawser-cli reference"
    );
}
