//! `hawser cluster certificate`: signs a further certificate where the authority's key lies.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use hawser_process::tls::{Authority, Role};
use hawser_proto::names;
use serde::Serialize;

use crate::{failure::Failure, output::Screen};

/// Sign a certificate for a controller, a satellite or an administrator
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hawser cluster certificate satellite n1 --directory prod
  hawser cluster certificate administrator ada --directory prod --out ada

Without --out, the files go to controllers/NAME/tls, satellites/NAME/tls or administrators/NAME/tls
in the directory. On a node they belong into /etc/hawser/tls/controller or /etc/hawser/tls/satellite.")]
pub(crate) struct Certificate {
    /// controller, satellite or administrator
    #[arg(value_parser = role)]
    role: Role,
    /// Name of the controller, the node or the person
    name: String,
    /// Directory that `hawser cluster init` made
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Directory for ca.crt, tls.crt and tls.key; it may not hold them yet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was made, for programs.
#[derive(Serialize)]
struct Signed<'a> {
    cluster_id: &'a str,
    role: &'static str,
    name: &'a str,
    directory: &'a Path,
}

impl Certificate {
    pub(super) fn run(self, screen: &Screen) -> Result<(), Failure> {
        names::node_name("NAME", &self.name)?;
        let authority = Authority::open(&self.directory.join("ca"))?;
        let out = self
            .out
            .unwrap_or_else(|| self.directory.join(format!("{}s", self.role)).join(&self.name).join("tls"));
        authority.sign(self.role, &self.name, SystemTime::now())?.save(&out)?;
        let sentence = format!("certificate of {} {} is in {}", self.role, self.name, out.display());
        let signed = Signed {
            cluster_id: authority.cluster_id(),
            role: self.role.as_str(),
            name: &self.name,
            directory: &out,
        };
        screen.answer(&sentence, &signed)
    }
}

fn role(word: &str) -> Result<Role, String> {
    word.parse().map_err(|error: hawser_process::tls::UnknownRole| error.to_string())
}
