//! Makes a Hawser cluster of a lab's nodes, with nothing but the programs that an administrator has: `hawser` on
//! the host, LVM's tools in the nodes. It must never write to a store or speak Hawser's protocols itself.

pub mod administrator;
pub mod identity;

use std::path::PathBuf;
use std::time::Duration;

use crate::disk::DEVICE;
use crate::error::LabError;
use crate::lab::Lab;
use crate::network::addresses::cluster;
use crate::options::LabOptions;
use crate::wire::agent::Service;
use administrator::Administrator;
use identity::Identity;

/// The volume group on every node's data disk.
pub const VOLUME_GROUP: &str = "vg0";
/// That volume group and the thin pool in it.
pub const THIN_POOL: &str = "vg0/thin";
/// The name under which the thin pools are registered.
pub const POOL: &str = "thin";
/// The service that is a node's controller.
pub const CONTROLLER: &str = "hawser-controller";
/// The service that is a node's satellite.
pub const SATELLITE: &str = "hawser-satellite";

/// Port of a controller's API.
pub const API: u16 = 6470;
/// More voters cost time and gain nothing in a lab.
const MOST_CONTROLLERS: u8 = 3;
/// For each step that waits; a machine that is busy with other things takes many times the usual seconds.
const DEADLINE: Duration = Duration::from_secs(180);

/// A cluster that was formed.
#[derive(Debug, Clone)]
pub struct Formed {
    /// The client configuration for `hawser` on the host.
    pub client_configuration: PathBuf,
}

/// Checks that the programs that a cluster needs have been built; worth knowing before anything boots.
///
/// # Errors
/// Which one is missing and how to build it.
pub fn check_programs(options: &LabOptions) -> Result<(), LabError> {
    for program in ["hawser", CONTROLLER, SATELLITE] {
        let path = options.programs.join(program);
        if !path.is_file() {
            return Err(LabError::Unavailable {
                reason: format!("{} is not there", path.display()),
                remedy: "build it with `cargo build --workspace --bins`, or give --bare for nodes alone"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// Forms a cluster of all nodes: controllers on the first three (on the first alone where there are fewer),
/// a satellite and a registered thin pool on each.
///
/// # Errors
/// Which step failed on which node, with the words of the program that failed.
pub async fn form(lab: &Lab, options: &LabOptions) -> Result<Formed, LabError> {
    check_programs(options)?;
    let controllers = if options.nodes < MOST_CONTROLLERS { 1 } else { MOST_CONTROLLERS };
    let nodes = options.node_names();
    let identity = Identity::make(lab, options, controllers).await?;
    let hawser = Administrator::new(&options.programs, &identity.client_configuration);

    let configure = async |name: &str| {
        let staged = identity.staged(name);
        run(lab, name, &["cp", "-r", "-T", &staged.to_string_lossy(), "/"]).await
    };
    let (first, others) =
        nodes.split_first().ok_or_else(|| LabError::Refused("the lab has no nodes".to_owned()))?;
    let begin = async {
        configure(&first.0).await?;
        lab.set_services(&first.0, services(true)).await?;
        for (name, number) in others.iter().filter(|(_, number)| *number <= controllers) {
            let order = identity.create_store(name);
            hawser.add_member(name, &format!("{}:{API}", cluster(*number)), &order).await?;
        }
        Ok(())
    };
    let rest = all(others.iter().map(|(name, _)| configure(name)));
    let pools = all(nodes.iter().map(|(name, _)| make_pool(lab, name)));
    let ((), (), ()) = tokio::try_join!(begin, rest, pools)?;

    let start =
        all(others.iter().map(|(name, number)| start_node(lab, name, *number <= controllers, &identity)));
    let register = all(nodes.iter().map(|(name, number)| register(&hawser, name, *number)));
    let ((), ()) = tokio::try_join!(start, register)?;
    hawser.until_all_vote(usize::from(controllers), DEADLINE).await?;
    // `cp` leaves the configuration in the page cache, which a power cut empties.
    all(nodes.iter().map(|(name, _)| run(lab, name, &["sync"]))).await?;
    Ok(Formed { client_configuration: identity.client_configuration })
}

/// Makes a node's thin pool, as an administrator would.
///
/// # Errors
/// Which command failed, with its words.
pub async fn make_pool(lab: &Lab, name: &str) -> Result<(), LabError> {
    let group = VOLUME_GROUP;
    run(lab, name, &["vgcreate", "-q", group, DEVICE]).await?;
    let pool = ["lvcreate", "-q", "-T", "-l", "95%FREE", THIN_POOL, "--zero", "y", "--errorwhenfull", "y"];
    run(lab, name, &pool).await
}

async fn start_node(lab: &Lab, name: &str, controls: bool, identity: &Identity) -> Result<(), LabError> {
    if controls {
        let staged = identity.staged_order(lab, name)?;
        run(lab, name, &["cp", "-r", "-T", &staged.to_string_lossy(), "/"]).await?;
    }
    lab.set_services(name, services(controls)).await.map(drop)
}

async fn register(hawser: &Administrator, name: &str, number: u8) -> Result<(), LabError> {
    let address = cluster(number).to_string();
    hawser.until_created(&["node", "create", name, "--address", &address], DEADLINE).await?;
    // The pool is looked at through the satellite's session, which comes up in its own time.
    hawser.until_created(&["pool", "create", name, POOL, "--lvm-thin", THIN_POOL], DEADLINE).await
}

fn services(controls: bool) -> Vec<Service> {
    let service = |name: &str| Service {
        name: name.to_owned(),
        arguments: vec![name.to_owned()],
        environment: std::collections::BTreeMap::new(),
    };
    let controller = controls.then(|| service(CONTROLLER));
    controller.into_iter().chain([service(SATELLITE)]).collect()
}

async fn run(lab: &Lab, node: &str, arguments: &[&str]) -> Result<(), LabError> {
    let finished = lab.exec(node, arguments).await?;
    if finished.code == 0 {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&finished.error_output).trim().to_owned();
    Err(LabError::Refused(format!(
        "{} failed on node {node} with code {}: {words}",
        arguments.join(" "),
        finished.code
    )))
}

/// Runs all at once; the first error ends them.
async fn all(
    steps: impl Iterator<Item = impl Future<Output = Result<(), LabError>>>,
) -> Result<(), LabError> {
    let mut steps: Vec<_> = steps.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut failed = None;
        steps.retain_mut(|step| match step.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(result) => {
                failed = failed.take().or(result.err());
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if steps.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}
