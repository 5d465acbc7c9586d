//! Names from the cluster, for a shell that completes a command line.
//!
//! It must never say anything but names: whatever is wrong, there is nothing to complete. Nor may it take long.

use std::{collections::BTreeSet, env, path::PathBuf, time::Duration};

use clap::{Arg, Command};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use hawser_proto::v1;
use tokio::{runtime::Builder, time::timeout};

use crate::{
    configuration,
    context::{Context, every_page},
    failure::Failure,
    output::{Format, Screen},
};

/// A person waits for it between two keys.
const LONGEST: Duration = Duration::from_secs(2);

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Node,
    Pool,
    Group,
    Resource,
    Operation,
    /// An operation that has not ended.
    RunningOperation,
}

/// The command line, with every argument that names something in the cluster completed from there.
pub(crate) fn with_names(command: Command) -> Command {
    command.mut_subcommands(|noun| {
        let noun_name = noun.get_name().to_owned();
        noun.mut_subcommands(|verb| {
            let verb_name = verb.get_name().to_owned();
            verb.mut_args(|argument| match named(&noun_name, &verb_name, &argument) {
                Some(named) => argument.add(ArgValueCandidates::new(move || candidates(named))),
                None => argument,
            })
        })
    })
}

/// What an argument of a verb names, if it is something that is there already.
pub(crate) fn named(noun: &str, verb: &str, argument: &Arg) -> Option<Named> {
    match (noun, verb, argument.get_id().as_str()) {
        // An option of DRBD's.
        ("group", "create", "resource") => None,
        (_, _, "node" | "nodes") => Some(Named::Node),
        (_, _, "resource" | "accept_data_loss") => Some(Named::Resource),
        (_, _, "pool") => Some(Named::Pool),
        (_, _, "group") => Some(Named::Group),
        // What is created has a name of its own.
        (_, "create", _) => None,
        ("node", _, "name") => Some(Named::Node),
        ("pool", _, "name") => Some(Named::Pool),
        ("group", _, "name") => Some(Named::Group),
        ("resource", _, "name") => Some(Named::Resource),
        ("operation", "wait" | "cancel", "id") => Some(Named::RunningOperation),
        ("operation", _, "id") => Some(Named::Operation),
        _ => None,
    }
}

fn candidates(named: Named) -> Vec<CompletionCandidate> {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let words: Vec<_> = env::args().skip_while(|word| word != "--").collect();
    let found = runtime.block_on(async { timeout(LONGEST, found(named, &words)).await });
    // A name server that does not answer holds up a thread, but not the person.
    runtime.shutdown_background();
    found.ok().flatten().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// The names, asked for as the command line in `words` would ask. `None`: whoever is asked does not say.
async fn found(named: Named, words: &[String]) -> Option<BTreeSet<String>> {
    let file = option(words, "--config").map(PathBuf::from);
    let file = file.or_else(|| env::var_os(configuration::VARIABLE).map(PathBuf::from));
    let controllers = option(words, "--controllers").unwrap_or_default();
    let controllers: Vec<String> =
        controllers.split(',').filter(|address| !address.is_empty()).map(str::to_owned).collect();
    let context = Context {
        client: configuration::client(file.as_deref(), &controllers).ok()?,
        screen: Screen::of_process(Format::Table),
        wait: false,
        timeout: LONGEST,
        // Any controller answers that, also without a leader.
        stale: true,
    };
    names(named, &context).await.ok()
}

/// The value of an option in a line that need not be complete; the last one counts.
fn option(words: &[String], name: &str) -> Option<String> {
    let mut value = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == name {
            value = words.next().cloned().or(value);
        } else if let Some(given) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            value = Some(given.to_owned());
        }
    }
    value
}

async fn names(named: Named, context: &Context) -> Result<BTreeSet<String>, Failure> {
    let names = match named {
        Named::Node => {
            let request = v1::ListNodesRequest::default();
            let (nodes, _) = every_page!(context, "list nodes", nodes.list_nodes, request, nodes);
            nodes.into_iter().filter_map(|view| Some(view.desired?.name)).collect()
        }
        Named::Pool => {
            let request = v1::ListPoolsRequest::default();
            let (pools, _) = every_page!(context, "list pools", pools.list_pools, request, pools);
            pools.into_iter().filter_map(|view| Some(view.desired?.name)).collect()
        }
        Named::Group => {
            let request = v1::ListResourceGroupsRequest::default();
            let (groups, _) =
                every_page!(context, "list groups", resource_groups.list_resource_groups, request, groups);
            groups.into_iter().map(|group| group.name).collect()
        }
        Named::Resource => {
            let request = v1::ListResourcesRequest::default();
            let (resources, _) =
                every_page!(context, "list resources", resources.list_resources, request, resources);
            resources.into_iter().filter_map(|view| Some(view.desired?.name)).collect()
        }
        Named::Operation | Named::RunningOperation => {
            let running_only = named == Named::RunningOperation;
            let request = v1::ListOperationsRequest { running_only, ..Default::default() };
            let (operations, _) =
                every_page!(context, "list operations", operations.list_operations, request, operations);
            operations.into_iter().filter_map(|view| Some(view.operation?.id.to_string())).collect()
        }
    };
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use hawser_hostile::{check, texts};

    use super::*;
    use crate::arguments::Arguments;

    /// Every value that is typed and what it is completed with, so that one that was forgotten is seen.
    #[test]
    fn values_of_the_command_line_and_what_completes_them() {
        let mut shown = String::new();
        for noun in Arguments::completed_line().get_subcommands() {
            for verb in noun.get_subcommands() {
                for argument in verb.get_arguments().filter(|argument| argument.get_action().takes_values()) {
                    let named = named(noun.get_name(), verb.get_name(), argument);
                    assert_eq!(
                        argument.get::<ArgValueCandidates>().is_some(),
                        named.is_some(),
                        "{argument:?}"
                    );
                    let typed = match argument.get_long() {
                        Some(long) => format!("--{long}"),
                        None => argument.get_id().to_string().to_uppercase(),
                    };
                    let named = named.map_or("-".to_owned(), |named| format!("{named:?}"));
                    let line = format!("{} {} {typed}: {named}", noun.get_name(), verb.get_name());
                    writeln!(shown, "{line}").expect("a string takes everything");
                }
            }
        }
        insta::assert_snapshot!(shown);
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_line_that_is_being_typed_says_whom_to_ask() {
        for (line, expected) in [
            ("-- hawser node show", None),
            ("-- hawser --config a.toml node show", Some("a.toml")),
            ("-- hawser --config=a.toml node --config b.toml show", Some("b.toml")),
            ("-- hawser node show --config", None),
            ("-- hawser --config a.toml node show --config", Some("a.toml")),
            ("-- hawser --configuration a.toml", None),
        ] {
            assert_eq!(option(&words(line), "--config").as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn hostile_lines_that_are_being_typed() {
        let samples =
            ["-- hawser --config a.toml node show", "-- hawser node --config=b.toml --controllers a:1,b:2"];
        check(&texts(&samples, &["--config", "=", "--config="]), |line| {
            if let Some(value) = option(&words(&line), "--config") {
                assert!(line.contains(&value), "{value:?}");
            }
        });
    }
}
