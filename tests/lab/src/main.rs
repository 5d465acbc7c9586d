//! `hawser-lab`: boots real nodes on this machine and does to them what machine rooms do.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if hawser_lab::guest::init::is_first_process() {
        hawser_lab::guest::init::run();
        return ExitCode::FAILURE;
    }
    match commands::run(commands::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hawser-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
