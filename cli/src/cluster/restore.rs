//! `hawser cluster restore`: the order to begin a new lineage of a cluster out of a backup, signed by its authority.
//!
//! It needs no network and must never touch a directory that holds something.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use hawser_process::tls::Authority;
use hawser_proto::v1;
use serde::Serialize;

use super::{
    backup_file,
    create_store::{self, CreateStore},
    init::{beside, controllers, refuse_to_overwrite},
};
use crate::{failure::Failure, output::Screen};

/// Name under which a controller looks for the backup, beside its order.
const BACKUP: &str = "restore.backup";

/// Prepare a controller that begins the cluster anew out of a backup
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster restore prod-2026-11-26.backup --controller n1=10.77.0.1:6470 --directory prod --out restored

For when all controllers are lost, or a majority for good. Stop every controller that is left, and see to it that none
comes back. What it writes belongs into the data directory of one controller, /var/lib/hawser/controller/, where nothing
may be. When that one leads, `hawser cluster add-member` lets the others join, with empty data directories.

Nothing is removed and no minor, port or node-id is handed out before every node has said what it holds, or was declared
lost (`hawser node lost`). Volumes that were made after the backup go on as they are: `hawser cluster unknown` shows them.
Restoring the same backup twice gives the same lineage, of which a node takes the first; a higher --lineage takes its
place.")]
pub(crate) struct Restore {
    /// File that `hawser cluster backup` wrote
    file: PathBuf,
    /// Name of the first controller and host:port under which all others reach it
    #[arg(long, value_name = "NAME=HOST:PORT")]
    controller: String,
    /// Directory that `hawser cluster init` made; the key in its ca/ signs the restore
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Lineage of the restored cluster; else that of the backup and one
    #[arg(long, value_name = "NUMBER")]
    lineage: Option<u64>,
}

/// What was made, for programs.
#[derive(Serialize)]
struct Prepared<'a> {
    cluster_id: &'a str,
    from_lineage: u64,
    from_revision: u64,
    lineage: u64,
    controller: &'a str,
    directory: &'a Path,
}

impl Restore {
    pub(super) fn run(self, screen: &Screen) -> Result<(), Failure> {
        let named = [self.controller.clone()];
        let controllers = controllers(&named)?;
        let (name, address) = controllers[0];
        refuse_to_overwrite(&self.out)?;
        let authority = Authority::open(&self.directory.join("ca"))?;
        let contents = backup_file::read(&self.file)?;
        if contents.cluster_id != authority.cluster_id() {
            return Err(Failure::NoBackup {
                path: self.file.clone(),
                reason: format!(
                    "is of cluster {} ({}), but the authority in {} is that of cluster {}: use the directory that \
                     `hawser cluster init` made for the cluster of the backup",
                    contents.cluster_name,
                    contents.cluster_id,
                    self.directory.display(),
                    authority.cluster_id()
                ),
            });
        }
        let lineage = self.lineage.unwrap_or(contents.lineage.saturating_add(1));
        if lineage <= contents.lineage {
            return Err(Failure::Usage(format!(
                "--lineage {lineage}: the backup has lineage {}, and the restored cluster needs a higher one",
                contents.lineage
            )));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let statement = v1::RestoreStatement {
            cluster_id: contents.cluster_id.clone(),
            from_lineage: contents.lineage,
            from_revision: contents.revision,
            lineage,
            restore_id: uuid::Uuid::new_v4().as_u64_pair().0 | 1,
            at_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        let statement = prost::Message::encode_to_vec(&statement);
        let order = CreateStore::Restore {
            cluster_id: contents.cluster_id.clone(),
            cluster_name: contents.cluster_name.clone(),
            lineage,
            name: name.to_owned(),
            address: address.to_owned(),
            signature: hexadecimal(&authority.sign_restore(&statement)?),
            statement: hexadecimal(&statement),
        };
        self.write(&order)?;
        let out = self.out.display();
        let sentence = format!(
            "a controller {name} with {} is prepared in {out}; its lineage is {lineage}\n\
             next: stop every controller that is left, copy what is in {out} to {name}:/var/lib/hawser/controller/, where \
             nothing may be, start hawser-controller there, and try\n  hawser cluster status\n\
             then let the others join, with empty data directories\n  hawser cluster add-member NAME HOST:PORT",
            contents.line()
        );
        let prepared = Prepared {
            cluster_id: &contents.cluster_id,
            from_lineage: contents.lineage,
            from_revision: contents.revision,
            lineage,
            controller: name,
            directory: &self.out,
        };
        screen.answer(&sentence, &prepared)
    }

    /// Made aside and renamed: whoever finds the directory finds all of it.
    fn write(&self, order: &CreateStore) -> Result<(), Failure> {
        let failed = |source: io::Error| Failure::Write { path: self.out.clone(), source };
        let aside = beside(&self.out);
        let copy = || -> io::Result<()> {
            DirBuilder::new().mode(0o700).create(&aside)?;
            let target = aside.join(BACKUP);
            let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
            io::copy(&mut File::open(&self.file)?, &mut target)?;
            target.sync_all()
        };
        let made = copy().map_err(failed).and_then(|()| {
            // What was copied is what was looked at.
            backup_file::read(&aside.join(BACKUP))?;
            order.write(&aside.join(create_store::FILE))?;
            fs::rename(&aside, &self.out).map_err(failed)
        });
        if made.is_err() {
            // It may not be there yet; what matters is the failure before.
            let _leftover = fs::remove_dir_all(&aside);
        }
        made
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
