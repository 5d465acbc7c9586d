//! The command line as a whole: options that every verb takes, and the nouns.

use std::{path::PathBuf, time::Duration};

use clap::{
    Command, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};
use jiff::SignedDuration;

use crate::{
    cluster, completion, configuration,
    context::Context,
    events::Events,
    failure::Failure,
    noun::{attachment, group, node, operation, pool, replica, resource},
    output::{Format, Screen},
    shell,
    short_names::{Shown, is_short, with_short_names},
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  refused or failed
  2  the command line or the client configuration is wrong
  3  no controller could be reached or trusted
  4  timed out while waiting for an operation, which goes on

Examples:
  hawser node create n1 --address 10.77.0.1
  hawser pool create n1 ssd --lvm-thin vg0/thin
  hawser resource create data --size 10GiB --replicas 2
  hawser attachment create data n1
  hawser resource show data";

/// Administers a Hawser cluster: replicated block storage with DRBD.
#[derive(Debug, Parser)]
#[command(name = "hawser", version, after_help = AFTER_HELP, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    noun: Noun,
}

/// Options that every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Options {
    /// Client configuration; else $XDG_CONFIG_HOME/hawser/client.toml, ~/.config/hawser/client.toml or
    /// /etc/hawser/client.toml
    #[arg(long, global = true, env = configuration::VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask these controllers (host:port, separated by commas) instead of those of the configuration
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',')]
    controllers: Vec<String>,
    /// Form of the answer; json and yaml are stable and made for programs
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    output: Format,
    /// Do not wait for the operation that a change starts; print its id
    #[arg(long, global = true)]
    no_wait: bool,
    /// How long to wait for an operation, e.g. 90s or 5m
    #[arg(long, global = true, value_parser = duration, default_value = "2m", value_name = "DURATION")]
    timeout: Duration,
    /// Read from the memory of the controller that is asked, however old; works without a leader
    #[arg(long, global = true)]
    stale: bool,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Machines with a satellite
    #[command(subcommand)]
    Node(node::Verb),
    /// Storage pools: what volumes are cut from
    #[command(subcommand)]
    Pool(pool::Verb),
    /// Resource groups: placement and DRBD policy that resources are made from
    #[command(subcommand)]
    Group(group::Verb),
    /// Resources: replicated volumes
    #[command(subcommand)]
    Resource(resource::Verb),
    /// Replicas: a resource's presence on one node
    #[command(subcommand)]
    Replica(replica::Verb),
    /// Attachments: who may open a resource where
    #[command(subcommand)]
    Attachment(attachment::Verb),
    /// Operations: durable jobs that carry changes out
    #[command(subcommand)]
    Operation(operation::Verb),
    Events(Events),
    /// The cluster itself: certificates and controllers
    #[command(subcommand)]
    Cluster(cluster::Verb),
    Completion(shell::Completion),
    Manual(shell::Manual),
}

impl Arguments {
    /// The command line that is parsed and described.
    pub(crate) fn line() -> Command {
        with_short_names(Self::command(), Shown::Yes)
    }

    /// The command line that is completed. An engine of completions takes a name that is shown beside another for a
    /// choice of its own.
    pub(crate) fn completed_line() -> Command {
        completion::with_names(with_short_names(Self::command(), Shown::No))
    }

    /// The command line of this process, which ends with exit code 2 where that cannot be understood.
    pub(crate) fn of_process() -> Self {
        let read = Self::line().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches));
        read.unwrap_or_else(|error| without_short_names(error).exit())
    }

    /// Does what the command line says.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { options, noun } = self;
        let screen = Screen::of_process(options.output);
        match noun {
            Noun::Node(verb) => verb.run(&options.context(screen)?).await,
            Noun::Pool(verb) => verb.run(&options.context(screen)?).await,
            Noun::Group(verb) => verb.run(&options.context(screen)?).await,
            Noun::Resource(verb) => verb.run(&options.context(screen)?).await,
            Noun::Replica(verb) => verb.run(&options.context(screen)?).await,
            Noun::Attachment(verb) => verb.run(&options.context(screen)?).await,
            Noun::Operation(verb) => verb.run(&options.context(screen)?).await,
            Noun::Events(verb) => verb.run(&options.context(screen)?).await,
            Noun::Cluster(cluster::Verb::Remote(verb)) => verb.run(&options.context(screen)?).await,
            // Without a client configuration: there may be none yet.
            Noun::Cluster(cluster::Verb::Local(verb)) => verb.run(&screen),
            Noun::Completion(verb) => verb.run(&screen),
            Noun::Manual(verb) => verb.run(&screen),
        }
    }
}

impl Options {
    fn context(self, screen: Screen) -> Result<Context, Failure> {
        let client = configuration::client(self.config.as_deref(), &self.controllers)?;
        Ok(Context { client, screen, wait: !self.no_wait, timeout: self.timeout, stale: self.stale })
    }
}

/// Takes short names out of what is suggested for a word that was misspelt.
fn without_short_names(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::Strings(words)) = error.get(ContextKind::SuggestedSubcommand) {
        let long: Vec<_> = words.iter().filter(|word| !is_short(word)).cloned().collect();
        if long.is_empty() {
            error.remove(ContextKind::SuggestedSubcommand);
        } else {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(long));
        }
    }
    error
}

/// A duration with its unit, e.g. `90s`; longer than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with its unit, like 30s, 5m or 1h".to_owned();
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(duration).map_err(|_| wrong())?;
    if duration.is_zero() { Err(wrong()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::line().debug_assert();
        Arguments::completed_line().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|inner| check(inner, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let shown = path.trim();
                assert!(help.contains("Example"), "`{shown}` shows no example");
                assert!(help.contains(shown), "the example of `{shown}` does not use it: {help}");
            }
        }
        check(&Arguments::line(), "");
    }

    #[test]
    fn durations_need_a_unit_and_are_longer_than_nothing() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "5", "-5s", "0s", "soon", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_durations() {
        check(
            &texts(&["90s", "1h30m", "5 minutes"], &["h", "ms", "-", "y", "99999999999999999999"]),
            |text| match duration(&text) {
                Ok(duration) => assert!(!duration.is_zero()),
                Err(words) => assert!(words.contains("write a number with its unit"), "{words}"),
            },
        );
    }

    #[test]
    fn hostile_command_lines() {
        let samples = [
            "resource create data --size 10GiB --replicas 2",
            "pool create n1 ssd --lvm-thin vg0/thin",
            "--controllers a:1,b:2 -o json --timeout 5m group create g --net max-buffers=8000",
            "attachment create data n1 --no-wait",
        ];
        check(&texts(&samples, &["--", "-o", "--size", "=", "--help"]), |line| {
            let words = std::iter::once("hawser").chain(line.split(' '));
            if let Err(refused) = Arguments::line().try_get_matches_from(words) {
                assert!(!refused.to_string().is_empty());
            }
        });
    }
}
