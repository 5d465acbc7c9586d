//! `hawser cluster init`: the authority, the first certificates, and the order to begin the cluster.
//!
//! It needs no network and must never touch a directory that holds something.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use hawser_process::tls::{Authority, Role};
use hawser_proto::{names, numbers};
use serde::Serialize;

use super::create_store::{self, CreateStore, Numbers, write_new};
use crate::{configuration::ClientConfiguration, failure::Failure, output::Screen};

/// Make the certificate authority, the first certificates and a client configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hawser cluster init prod --controller n1=10.77.0.1:6470 --directory prod

What it writes into the directory, and where it belongs:
  ca/                        stays here: whoever has ca.key can give every right
  controllers/n1/controller.toml     on n1: /etc/hawser/controller.toml
  controllers/n1/tls/                on n1: /etc/hawser/tls/controller/
  controllers/n1/create-store.json   on n1: /var/lib/hawser/controller/
  client.toml, administrator/        for this command: ~/.config/hawser/

The first controller begins the cluster. Further ones named here get their certificates;
let them join with `hawser cluster add-member`.")]
pub(crate) struct Init {
    /// Name of the cluster
    name: String,
    /// Name of a controller and host:port under which all others reach it; may be repeated
    #[arg(long = "controller", id = "controller", required = true, value_name = "NAME=HOST:PORT")]
    controllers: Vec<String>,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// DRBD minors that the cluster may use, for its whole life
    #[arg(long, value_name = "FIRST-LAST", default_value = "1000-49999")]
    minors: String,
    /// TCP ports that DRBD may use on each node, for the cluster's whole life
    #[arg(long, value_name = "FIRST-LAST", default_value = "7000-7999")]
    ports: String,
    /// Ports among these that stay free, like 7010,7020-7029
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    reserved_ports: String,
}

/// What was made, for programs.
#[derive(Serialize)]
struct Made<'a> {
    cluster_id: &'a str,
    cluster_name: &'a str,
    directory: &'a Path,
}

/// Name in the certificate of the first administrator.
const ADMINISTRATOR: &str = "administrator";

impl Init {
    pub(super) fn run(self, screen: &Screen) -> Result<(), Failure> {
        names::cluster_name("name", &self.name)?;
        let controllers = controllers(&self.controllers)?;
        self.check_numbers()?;
        refuse_to_overwrite(&self.directory)?;
        let cluster_id = uuid::Uuid::new_v4().to_string();

        // Made aside and renamed: whoever finds the directory finds all of it.
        let aside = beside(&self.directory);
        let made = self
            .make(&aside, &cluster_id, &controllers)
            .and_then(|()| fs::rename(&aside, &self.directory).map_err(|source| self.cannot_write(source)));
        if let Err(failure) = made {
            // It may not be there yet; what matters is the failure before.
            let _leftover = fs::remove_dir_all(&aside);
            return Err(failure);
        }
        let directory = self.directory.display();
        let (first, further) = (controllers[0].0, &controllers[1..]);
        let mut sentence = format!(
            "cluster {} ({cluster_id}) is prepared in {directory}\n\
             next: copy {directory}/controllers/{first} to {first}, start hawser-controller there, and try\n  \
             hawser --config {directory}/client.toml cluster status",
            self.name
        );
        for (name, address) in further {
            let own = format!("{directory}/controllers/{name}");
            sentence.push_str(&format!(
                "\nthen let {name} join: announce it, copy {own} to {name}, and start hawser-controller there\n  \
                 hawser --config {directory}/client.toml cluster add-member {name} {address} --out {own}/{}",
                create_store::FILE
            ));
        }
        let made = Made { cluster_id: &cluster_id, cluster_name: &self.name, directory: &self.directory };
        screen.answer(&sentence, &made)
    }

    fn make(&self, place: &Path, cluster_id: &str, controllers: &[(&str, &str)]) -> Result<(), Failure> {
        let now = SystemTime::now();
        let authority = Authority::generate(cluster_id, now)?;
        authority.save(&place.join("ca"))?;
        for (index, (name, address)) in controllers.iter().enumerate() {
            let own = place.join("controllers").join(name);
            authority.sign(Role::Controller, name, now)?.save(&own.join("tls"))?;
            let configuration = format!("name = \"{name}\"\nadvertise = \"{address}\"\n");
            write_new(&own.join("controller.toml"), &configuration)?;
            if index == 0 {
                let order = CreateStore::Init {
                    cluster_id: cluster_id.to_owned(),
                    cluster_name: self.name.clone(),
                    name: (*name).to_owned(),
                    address: (*address).to_owned(),
                    numbers: Numbers {
                        minors: self.minors.clone(),
                        ports: self.ports.clone(),
                        reserved_ports: self.reserved_ports.clone(),
                    },
                };
                order.write(&own.join(create_store::FILE))?;
            }
        }
        authority.sign(Role::Administrator, ADMINISTRATOR, now)?.save(&place.join("administrator"))?;
        let client = ClientConfiguration {
            controllers: controllers.iter().map(|(_, address)| (*address).to_owned()).collect(),
            tls_directory: PathBuf::from("administrator"),
        };
        let client = toml::to_string(&client).map_err(|error| self.cannot_write(io::Error::other(error)))?;
        write_new(&place.join("client.toml"), &client)
    }

    fn check_numbers(&self) -> Result<(), Failure> {
        numbers::check_minors("--minors", &numbers::range("--minors", &self.minors)?)?;
        let ports = numbers::range("--ports", &self.ports)?;
        numbers::check_ports("--ports", &ports)?;
        let reserved = numbers::ranges("--reserved-ports", &self.reserved_ports)?;
        numbers::check_reserved_ports("--reserved-ports", &reserved, &ports)?;
        Ok(())
    }

    fn cannot_write(&self, source: io::Error) -> Failure {
        Failure::Write { path: self.directory.clone(), source }
    }
}

/// Names and addresses, checked, each name once.
pub(super) fn controllers(texts: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let mut controllers: Vec<(&str, &str)> = Vec::with_capacity(texts.len());
    for text in texts {
        let (name, address) = text.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("--controller {text:?}: write NAME=HOST:PORT, like n1=10.77.0.1:6470"))
        })?;
        names::member_name("--controller", name)?;
        names::endpoint("--controller", address)?;
        if controllers.iter().any(|(other, _)| *other == name) {
            return Err(Failure::Usage(format!(
                "--controller: {name} is named twice; give each its own name"
            )));
        }
        controllers.push((name, address));
    }
    Ok(controllers)
}

pub(super) fn refuse_to_overwrite(directory: &Path) -> Result<(), Failure> {
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::Exists(directory.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Failure::Exists(directory.to_owned()))
        }
        Err(source) => Err(Failure::Write { path: directory.to_owned(), source }),
    }
}

/// Where a directory is made before it is renamed.
pub(super) fn beside(directory: &Path) -> PathBuf {
    let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    directory.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn hostile_controllers() {
        check(&texts(&["n1=10.77.0.1:6470", "n2=[fd00::1]:6470"], &["=", ":0"]), |text| {
            match controllers(std::slice::from_ref(&text)) {
                Ok(found) => assert_eq!(
                    found.iter().map(|(name, address)| format!("{name}={address}")).collect::<Vec<_>>(),
                    [text]
                ),
                Err(error) => assert!(error.to_string().contains("--controller"), "{error}"),
            }
        });
    }
}
