//! `hawser cluster backup`: a copy of all that the controllers know, in a file.

use std::path::PathBuf;

use clap::Args;
use hawser_proto::v1;

use super::backup_file::Unfinished;
use crate::{context::Context, failure::Failure};

/// Write all that the controllers know into a file
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster backup prod-2026-11-26.backup

It holds everything that was acknowledged before, as one moment of the cluster; not the data of the volumes.
It holds the secrets with which volumes replicate: only its owner may read it. Keep it away from the controllers.
When all controllers are lost: hawser cluster restore")]
pub(crate) struct Backup {
    /// File to write; it may not exist yet
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        // Before anything is asked for: that it cannot be written is known here.
        let mut unfinished = Unfinished::begin(&self.file)?;
        let mut chunks = context
            .read("take a backup", async |controller| controller.cluster().backup(v1::BackupRequest {}).await)
            .await?;
        let broke_off = |status: tonic::Status| Failure::BrokeOff { reason: status.message().to_owned() };
        while let Some(chunk) = chunks.message().await.map_err(broke_off)? {
            unfinished.write(&chunk.chunk)?;
        }
        let contents = unfinished.finish()?;
        let sentence = format!(
            "{} holds {}\nit holds the secrets of all resources: keep it where nobody else can read it, and away from the \
             controllers",
            self.file.display(),
            contents.line()
        );
        context.screen.answer(&sentence, &contents)
    }
}
