//! The controller's program: configuration, telemetry, one controller, and an orderly end on SIGTERM.

use std::path::PathBuf;

use clap::Parser;
use hawser_controller::{
    api::random::Random,
    config::{self, Config},
    controller::Controller,
};
use hawser_process::{open_files, shutdown, telemetry, tls};

/// A controller of a Hawser cluster: decides where volumes live, with the other controllers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tls::install_crypto_provider();
    run(arguments)
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::install()?;
    open_files::raise_limit();
    let config = Config::load(&arguments.config)?;
    let asked_to_end = shutdown::cancelled_by_signal()?;
    let controller = Controller::start(&config, Random::from_system()).await?;
    controller.run(asked_to_end).await?;
    tracing::info!("this controller has ended in order");
    Ok(())
}
