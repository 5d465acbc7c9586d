//! `hawser`, the administrator's command line.
//!
//! It states requests and shows answers; it must never decide what the cluster should do.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod cluster;
mod configuration;
mod confirmation;
mod context;
mod events;
mod failure;
mod noun;
mod output;
mod progress;
mod view;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::Runtime(error).report(),
    };
    match runtime.block_on(arguments.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
