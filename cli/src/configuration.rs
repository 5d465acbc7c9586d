//! The client configuration: which controllers to ask, and as whom.

use std::{
    env,
    path::{Path, PathBuf},
};

use hawser_client::Client;
use hawser_process::{
    configuration,
    tls::{Identity, Role},
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Environment variable that names the file.
pub(crate) const VARIABLE: &str = "HAWSER_CONFIG";

/// The file's content.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientConfiguration {
    /// host:port of each controller.
    pub(crate) controllers: Vec<String>,
    /// Directory of the identity; relative to the file's own directory.
    pub(crate) tls_directory: PathBuf,
}

/// A client as the configuration says, asking `controllers` if there are any.
pub(crate) fn client(named: Option<&Path>, controllers: &[String]) -> Result<Client, Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => find(&places(env::var_os("XDG_CONFIG_HOME").map(PathBuf::from), env::home_dir()))?,
    };
    let configuration: ClientConfiguration = configuration::load(&path)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let identity = Identity::load(&beside.join(&configuration.tls_directory))?;
    if identity.own().role != Role::Administrator {
        return Err(Failure::NotAnAdministrator {
            directory: beside.join(&configuration.tls_directory),
            found: identity.own().caller(),
        });
    }
    let addresses = if controllers.is_empty() { &configuration.controllers } else { controllers };
    Ok(Client::new(addresses, &identity)?)
}

fn places(configuration_home: Option<PathBuf>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let own = configuration_home.filter(|path| path.is_absolute()).or(home.map(|home| home.join(".config")));
    own.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|directory| directory.join("hawser/client.toml"))
        .collect()
}

fn find(places: &[PathBuf]) -> Result<PathBuf, Failure> {
    places
        .iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or_else(|| Failure::NoConfiguration { looked_at: places.to_vec() })
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn the_users_own_file_comes_before_the_machines() {
        let home = || Some(PathBuf::from("/home/ada"));
        let shown = |places: Vec<PathBuf>| places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let system = "/etc/hawser/client.toml";
        for (configuration_home, home, expected) in [
            (Some("/xdg"), home(), vec!["/xdg/hawser/client.toml", system]),
            (Some("relative"), home(), vec!["/home/ada/.config/hawser/client.toml", system]),
            (None, home(), vec!["/home/ada/.config/hawser/client.toml", system]),
            (None, None, vec![system]),
        ] {
            assert_eq!(shown(places(configuration_home.map(PathBuf::from), home)), expected);
        }
    }

    #[test]
    fn without_any_file_the_places_are_named() {
        let error = find(&places(None, None).iter().map(|p| p.join("not-there")).collect::<Vec<_>>())
            .expect_err("there is none")
            .to_string();
        assert!(error.contains("/etc/hawser/client.toml"), "{error}");
        assert!(error.contains("--config"), "{error}");
    }

    #[test]
    fn hostile_configurations() {
        let whole = "controllers = [\"10.77.0.1:6470\", \"n2:6470\"]\ntls_directory = \"tls\"\n";
        check(&texts(&[whole], &["controllers", "tls_directory", "[[", "= "]), |text| {
            let read = configuration::parse::<ClientConfiguration>(Path::new("/x/client.toml"), &text);
            if let Err(error) = read {
                assert!(error.to_string().contains("/x/client.toml, "), "{error}");
            }
        });
    }
}
