//! Names from the cluster, for a shell that completes a command line.
//!
//! It must never say anything but names: whatever is wrong, there is nothing to complete. Nor may it take long.

use std::{env, path::PathBuf, time::Duration};

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
        ("operation", _, "id") => Some(Named::Operation),
        _ => None,
    }
}

fn candidates(named: Named) -> Vec<CompletionCandidate> {
    let found = || -> Option<Vec<String>> {
        let configuration = env::var_os(configuration::VARIABLE).map(PathBuf::from);
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            let context = Context {
                client: configuration::client(configuration.as_deref(), &[]).ok()?,
                screen: Screen::of_process(Format::Table),
                wait: false,
                timeout: LONGEST,
                // Any controller answers that, also without a leader.
                stale: true,
            };
            timeout(LONGEST, names(named, &context)).await.ok()?.ok()
        })
    };
    found().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

async fn names(named: Named, context: &Context) -> Result<Vec<String>, Failure> {
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
        Named::Operation => {
            let request = v1::ListOperationsRequest::default();
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

    use crate::arguments::Arguments;

    use super::*;

    #[test]
    fn what_names_something_that_is_there_is_completed_from_the_cluster() {
        let mut shown = String::new();
        for noun in Arguments::line().get_subcommands() {
            for verb in noun.get_subcommands() {
                for argument in verb.get_arguments() {
                    if let Some(named) = named(noun.get_name(), verb.get_name(), argument) {
                        assert!(argument.get::<ArgValueCandidates>().is_some(), "{argument:?}");
                        let what = argument.get_long().map_or("", |_| "--");
                        let (noun, verb) = (noun.get_name(), verb.get_name());
                        let _always_fits =
                            writeln!(shown, "{noun} {verb} {what}{}: {named:?}", argument.get_id());
                    }
                }
            }
        }
        insta::assert_snapshot!(shown);
    }
}
