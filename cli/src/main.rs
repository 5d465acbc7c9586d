//! `hawser`, the administrator's command line.
//!
//! It states requests and shows answers; it must never decide what the cluster should do.

use std::process::ExitCode;

use clap_complete::CompleteEnv;

mod arguments;
mod cluster;
mod completion;
mod configuration;
mod confirmation;
mod context;
mod events;
mod failure;
mod listing;
mod noun;
mod output;
mod progress;
mod shell;
mod short_names;
mod view;

#[cfg(test)]
mod reference_tests;

fn main() -> ExitCode {
    CompleteEnv::with_factory(arguments::Arguments::completed_line).var(shell::VARIABLE).complete();
    let arguments = arguments::Arguments::of_process();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::Runtime(error).report(),
    };
    match runtime.block_on(arguments.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
