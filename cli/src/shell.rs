//! What `hawser` does for the shell that it is typed in, without any cluster: completions and manual pages.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::{arguments::Arguments, failure::Failure, output::Screen};

/// In whose presence `hawser` completes a command line in place of running it.
pub(crate) const VARIABLE: &str = "HAWSER_COMPLETE";

/// Print what makes a shell complete `hawser`, with the names that are in the cluster
///
/// The names come from a controller of the client configuration, at each completion.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hawser completion bash > /etc/bash_completion.d/hawser
  hawser completion zsh > /usr/local/share/zsh/site-functions/_hawser
  hawser completion fish > ~/.config/fish/completions/hawser.fish")]
pub(crate) struct Completion {
    /// The shell
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
        let sentence = format!("the manual pages are in {}; `man hawser` is the first", directory.display());
        screen.answer(&sentence, &directory)
    }
}
