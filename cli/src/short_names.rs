//! The short names of nouns and verbs, e.g. `hawser r l` for `hawser resource list`.
//!
//! They are for fingers. They must never be in a script, nor in what is shown, completed or suggested in place of a name.

use clap::Command;

/// `completion` and `manual` are typed once.
const NOUNS: [(&str, &str); 9] = [
    ("node", "n"),
    ("pool", "p"),
    ("group", "g"),
    ("resource", "r"),
    ("replica", "rp"),
    ("attachment", "a"),
    ("operation", "o"),
    ("events", "e"),
    ("cluster", "c"),
];

/// The same below every noun that has them.
const VERBS: [(&str, &str); 4] = [("create", "c"), ("delete", "d"), ("list", "l"), ("show", "s")];

/// Whether help shows the short names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Yes,
    No,
}

/// The command line with its short names.
pub(crate) fn with_short_names(command: Command, shown: Shown) -> Command {
    command
        .mut_subcommands(|noun| named(noun, &NOUNS, shown).mut_subcommands(|verb| named(verb, &VERBS, shown)))
}

/// Whether a noun or verb is a short one.
pub(crate) fn is_short(name: &str) -> bool {
    NOUNS.iter().chain(&VERBS).any(|(_, short)| *short == name)
}

fn named(command: Command, names: &[(&str, &'static str)], shown: Shown) -> Command {
    match (names.iter().find(|(long, _)| *long == command.get_name()), shown) {
        (Some((_, short)), Shown::Yes) => command.visible_alias(*short),
        (Some((_, short)), Shown::No) => command.alias(*short),
        (None, _) => command,
    }
}
