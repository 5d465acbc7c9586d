//! The files of a lab's cluster on the host: what `hawser cluster init` makes, and what each node gets of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::API;
use super::administrator::run_program;
use crate::error::{LabError, Tried};
use crate::lab::{Lab, copy};
use crate::network::addresses::cluster;
use crate::options::LabOptions;

/// The share's part for these files; nodes see it below `/host`.
const STAGE: &str = "cluster";

/// The cluster's files.
pub(super) struct Identity {
    directory: PathBuf,
    /// For `hawser` on the host: forwarded ports and the administrator's certificate.
    pub(super) client_configuration: PathBuf,
}

impl Identity {
    /// Makes the authority, every certificate and every configuration.
    pub(super) async fn make(lab: &Lab, options: &LabOptions, controllers: u8) -> Result<Self, LabError> {
        let directory = lab.directory().cluster();
        let hawser = options.programs.join("hawser");
        let members = options.node_names().into_iter().filter(|(_, number)| *number <= controllers);
        let members: Vec<_> =
            members.map(|(name, number)| (name, format!("{}:{API}", cluster(number)))).collect();
        let named: Vec<_> = members.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let mut init: Vec<&OsStr> =
            ["cluster", "init", &options.name, "--directory"].map(OsStr::new).to_vec();
        init.push(directory.as_os_str());
        for controller in &named {
            init.extend([OsStr::new("--controller"), OsStr::new(controller)]);
        }
        run_program(&hawser, &init).await?;
        for (name, _) in options.node_names() {
            let mut sign =
                ["cluster", "certificate", "satellite", &name, "--directory"].map(OsStr::new).to_vec();
            sign.push(directory.as_os_str());
            run_program(&hawser, &sign).await?;
        }
        let client_configuration = lab.directory().client_configuration();
        let identity = Self { directory, client_configuration };
        identity.write_client(lab, &members).await?;
        let addresses: Vec<_> = members.iter().map(|(_, address)| address.as_str()).collect();
        for (name, number) in options.node_names() {
            identity.stage(lab, &name, number <= controllers, &addresses)?;
        }
        Ok(identity)
    }

    /// Where a node finds its files, laid out as below its root.
    pub(super) fn staged(&self, node: &str) -> PathBuf {
        Path::new("/host").join(STAGE).join(node)
    }

    /// Where the order to make a further controller's store is written on the host.
    pub(super) fn create_store(&self, node: &str) -> PathBuf {
        self.directory.join("controllers").join(node).join("create-store.json")
    }

    /// Lays that order out for its node; answers with the path in the node.
    pub(super) fn staged_order(&self, lab: &Lab, node: &str) -> Result<PathBuf, LabError> {
        let name = format!("{STAGE}/{node}-order");
        lab.copy_in(
            &self.create_store(node),
            &format!("{name}/var/lib/hawser/controller/create-store.json"),
        )?;
        Ok(Path::new("/host").join(name))
    }

    async fn write_client(&self, lab: &Lab, members: &[(String, String)]) -> Result<(), LabError> {
        let mut controllers = Vec::new();
        for (name, _) in members {
            controllers.push(format!("127.0.0.1:{}", lab.forward(name, API).await?));
        }
        let administrator = self.directory.join("administrator");
        let text =
            format!("controllers = {controllers:?}\ntls_directory = {:?}\n", administrator.to_string_lossy());
        write(&self.client_configuration, &text)
    }

    fn stage(&self, lab: &Lab, node: &str, controls: bool, controllers: &[&str]) -> Result<(), LabError> {
        let stage = lab.directory().share().join(STAGE).join(node);
        let etc = stage.join("etc/hawser");
        let satellite = format!("node = {node:?}\ncontrollers = {controllers:?}\n");
        write(&etc.join("satellite.toml"), &satellite)?;
        lay_out(&self.directory.join("satellites").join(node).join("tls"), &etc.join("tls/satellite"))?;
        if !controls {
            return Ok(());
        }
        let own = self.directory.join("controllers").join(node);
        lay_out(&own.join("tls"), &etc.join("tls/controller"))?;
        lay_out(&own.join("controller.toml"), &etc.join("controller.toml"))?;
        let order = self.create_store(node);
        if order.exists() {
            lay_out(&order, &stage.join("var/lib/hawser/controller/create-store.json"))?;
        }
        Ok(())
    }
}

fn lay_out(source: &Path, target: &Path) -> Result<(), LabError> {
    copy(source, target).tried(|| format!("cannot copy {} to {}", source.display(), target.display()))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).tried(|| format!("cannot make {}", parent.display()))?;
    fs::write(path, text).tried(|| format!("cannot write {}", path.display()))
}
