//! The short names of nouns and verbs, e.g. `hawser r l` for `hawser resource list`.
//!
//! They are for fingers: scripts and documents must not use them, and the long names are the only ones in any answer.

use clap::Command;

/// Of nouns that are not in here nobody types many.
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

/// The command line with its short names.
pub(crate) fn with_short_names(command: Command) -> Command {
    command.mut_subcommands(|noun| named(noun, &NOUNS).mut_subcommands(|verb| named(verb, &VERBS)))
}

fn named(command: Command, names: &[(&str, &'static str)]) -> Command {
    match names.iter().find(|(long, _)| *long == command.get_name()) {
        Some((_, short)) => command.visible_alias(*short),
        None => command,
    }
}
