//! What `hawser` does for the shell that it is typed in: the script that completes, and manual pages.
//!
//! It must never need a cluster, nor a configuration.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use serde::Serialize;

use crate::{arguments::Arguments, failure::Failure, output::Screen};

/// In whose presence `hawser` completes a command line in place of running it.
pub(crate) const VARIABLE: &str = "HAWSER_COMPLETE";

/// Print a script that completes commands, and names that are in the cluster
///
/// The names come from the controllers that the line names, or those of the client configuration, at each completion.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, each a line for the shell's own configuration, so that the script always fits the program:
  source <(hawser completion bash)
  source <(hawser completion zsh)
  hawser completion fish | source")]
pub(crate) struct Completion {
    /// Shell to print it for
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Write a manual page for every command
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser manual /usr/local/share/man/man1")]
pub(crate) struct Manual {
    /// Directory for the pages; it is made where there is none
    directory: PathBuf,
}

/// The answer to `manual`, for programs.
#[derive(Serialize)]
struct Written {
    directory: PathBuf,
}

impl Completion {
    pub(crate) fn run(self, screen: &Screen) -> Result<(), Failure> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        // Found in PATH, so that the script outlives a move of the program.
        shell.write_registration(VARIABLE, "hawser", "hawser", "hawser", &mut script)?;
        screen.raw(&script)
    }
}

impl Manual {
    pub(crate) fn run(self, screen: &Screen) -> Result<(), Failure> {
        let Self { directory } = self;
        let write = || {
            fs::create_dir_all(&directory)?;
            clap_mangen::generate_to(Arguments::line(), &directory)
        };
        write().map_err(|source| Failure::Write { path: directory.clone(), source })?;
        let sentence = format!("the manual pages are in {}; the first is hawser.1", directory.display());
        screen.answer(&sentence, &Written { directory })
    }
}
