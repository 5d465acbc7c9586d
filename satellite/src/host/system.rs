//! The real host: puts the providers, DRBD's driver, the gates and the openers together behind the door.
//!
//! It holds no lock while a command runs, so one slow command delays no other.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{
        ConnectionState, KernelPeer, KernelPeerVolume, KernelResource, KernelVolume, Looked, Met, Opener,
        PoolFound, ReplicaFound, Subject,
    },
    step::{DrbdPeer, GateTarget, Generation, Provider, Step},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
};

use super::{
    CommandError, Deadline, Facts, Host, HostError, Numbers,
    command::{CommandLine, start},
    devices::{self, Map},
    directory::{DirectoryPool, Lane},
    drbd::{
        DrbdDriver,
        configuration::Surroundings,
        driver84::Driver84,
        events2::{ConnectionFound, KernelState, ResourceState},
        meetings::Meetings,
    },
    facts,
    gate::Gates,
    lvm::{Lvm, thick::LvmVolumeGroup, thin::LvmThinPool},
    numbers, openers,
    storage::{StorageProvider, device_of},
};

const SYS: &str = "/sys";
/// Where DRBD's tools look for further files; the kernel's helper reads only what is included from here.
const INCLUDING_FILE: &str = "/etc/drbd.d/hawser.res";
/// A look that takes longer says "unknown".
const LOOK: Duration = Duration::from_secs(30);
/// Pause before the stream of events is started again.
const RESTART: Duration = Duration::from_secs(2);

/// What the administrator sets for the host layer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Given to every LVM command as `--config`, if set.
    pub lvm_config: Option<String>,
    /// Where the `.res` files lie. Made if it is not there.
    pub configuration_directory: PathBuf,
    /// Command line of the fence-peer handler.
    pub fence_peer_handler: String,
}

/// The system below this very process.
pub struct SystemHost {
    facts: Facts,
    lvm: Arc<Lvm>,
    directories: Mutex<BTreeMap<String, Lane>>,
    drbd: Driver84,
    gates: Gates,
    changes: watch::Receiver<u64>,
    meetings: Arc<Mutex<Meetings>>,
    /// Ends the stream of events with the host.
    _events: tokio_util::task::AbortOnDropHandle<()>,
}

impl SystemHost {
    /// Looks at the node, makes the folder of the configurations and includes it in DRBD's own.
    ///
    /// # Errors
    /// A file or folder could not be made.
    pub async fn start(settings: Settings) -> Result<Self, HostError> {
        let facts = facts::find().await;
        let directory = &settings.configuration_directory;
        for path in [directory.as_path(), Path::new("/run/drbd/lock"), Path::new("/var/lib/drbd")] {
            fs::create_dir_all(path).map_err(|error| HostError::file(path, &error))?;
        }
        let including = Path::new(INCLUDING_FILE);
        include(including, directory).map_err(|error| HostError::file(including, &error))?;
        let surroundings = Surroundings {
            fence_peer_handler: settings.fence_peer_handler,
            authenticate: facts.connections_authenticate,
        };
        let (sender, changes) = watch::channel(0);
        let meetings = Arc::<Mutex<Meetings>>::default();
        let events = tokio::spawn(follow_events(sender, Arc::clone(&meetings)));
        Ok(SystemHost {
            facts,
            lvm: Arc::new(Lvm::new(settings.lvm_config)),
            directories: Mutex::default(),
            drbd: Driver84::new(directory, surroundings, |volume| device_of(&volume.provider, &volume.name)),
            gates: Gates::new(Path::new(SYS)),
            changes,
            meetings,
            _events: tokio_util::task::AbortOnDropHandle::new(events),
        })
    }

    fn provider(&self, provider: &Provider) -> Result<Box<dyn StorageProvider>, HostError> {
        Ok(match provider {
            Provider::LvmThin { volume_group, thin_pool } => {
                Box::new(LvmThinPool::new(Arc::clone(&self.lvm), volume_group, thin_pool))
            }
            Provider::Lvm { volume_group } => {
                Box::new(LvmVolumeGroup::new(Arc::clone(&self.lvm), volume_group))
            }
            Provider::Directory { path } => {
                let mut lanes = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
                Box::new(DirectoryPool::new(path, lanes.entry(path.clone()).or_default().clone()))
            }
            Provider::Zfs { .. } => {
                return Err(HostError::Unsupported {
                    what: "ZFS storage".to_owned(),
                    reason: "this release has LVM and directories".to_owned(),
                });
            }
        })
    }

    fn driver(&self, generation: Generation) -> Result<&dyn DrbdDriver, HostError> {
        let what = || format!("DRBD {}", if generation == Generation::V9 { "9" } else { "8.4" });
        match &self.facts.drbd {
            Some((found, _)) if *found == generation && generation == Generation::V8_4 => Ok(&self.drbd),
            Some((_, version)) => {
                Err(HostError::Unsupported { what: what(), reason: format!("the kernel has DRBD {version}") })
            }
            None => Err(HostError::Unsupported { what: what(), reason: "the kernel has no DRBD".to_owned() }),
        }
    }

    async fn kernel_state(&self, deadline: &Deadline) -> Result<KernelState, HostError> {
        if self.facts.drbd.is_none() {
            // Without the module nothing of DRBD can be in the kernel.
            return Ok(KernelState::default());
        }
        self.drbd.state(deadline).await
    }

    async fn create_metadata(
        &self,
        metadata: &hawser_plan::step::Metadata,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let provider = self.provider(&metadata.backing.provider)?;
        if metadata.day0.is_some() && metadata.equal_peers {
            provider.new_volumes_read_zero(deadline).await?;
        }
        let device = provider.device(&metadata.backing.name);
        self.driver(metadata.generation)?.create_metadata(metadata, &device, deadline).await
    }

    /// Brings what is remembered of the subjects' pools up to date, beside the other questions of a look.
    async fn remember_storage(&self, subjects: &[Subject], deadline: &Deadline) {
        let domain =
            |subject: &Subject| subject.provider.as_ref().map(|it| it.contention_domain().to_owned());
        let one_each: BTreeMap<_, _> = subjects.iter().map(|subject| (domain(subject), subject)).collect();
        for subject in one_each.values() {
            if let (Some(provider), Some(volume)) = (&subject.provider, subject.volumes.first())
                && let Ok(provider) = self.provider(provider)
            {
                provider.look(&volume.backing_name, deadline).await;
            }
        }
    }

    /// Who holds the gates of the subject, and how often, by volume. The walk goes on in its own thread if it takes too
    /// long.
    async fn openers(
        &self,
        subject: &Subject,
        kernel: &Looked<KernelResource>,
        maps: &[Map],
        deadline: &Deadline,
    ) -> (Looked<Vec<Opener>>, BTreeMap<u32, u32>) {
        let unknown = |why| (Looked::Unknown(why), BTreeMap::new());
        let ways_in = match openers::ways_in(Path::new(SYS), &subject.volumes, kernel, maps) {
            Ok(ways_in) if ways_in.is_empty() => return (Looked::Present(Vec::new()), BTreeMap::new()),
            Ok(ways_in) => ways_in,
            Err(error) => return unknown(format!("its gate is not found, and {error}")),
        };
        let all = maps.to_vec();
        let walk = tokio::task::spawn_blocking(move || {
            let ours: Vec<&Map> = ways_in.iter().collect();
            openers::find(Path::new("/proc"), Path::new(SYS), &ours, &all)
        });
        match tokio::time::timeout(deadline.left(), walk).await {
            Ok(Ok(found)) => {
                let opens = subject.volumes.iter().filter_map(|volume| {
                    let gate = maps.iter().find(|map| map.name == volume.gate_name)?;
                    Some((volume.number, *found.opens.get(&gate.number)?))
                });
                (found.openers, opens.collect())
            }
            Ok(Err(error)) => unknown(format!("the walk through /proc failed: {error}")),
            Err(_) => unknown("the walk through /proc does not end".to_owned()),
        }
    }
}

#[async_trait]
impl Host for SystemHost {
    async fn facts(&self) -> Facts {
        self.facts.clone()
    }

    async fn numbers(&self) -> Numbers {
        let looking = tokio::task::spawn_blocking(|| numbers::find(Path::new(SYS), Path::new("/proc")));
        // It panics only where this program has a fault; nothing found then is nothing to avoid.
        looking.await.unwrap_or_default()
    }

    async fn pool(&self, provider: &Provider) -> Result<PoolFound, HostError> {
        self.provider(provider)?.pool(&Deadline::after(LOOK)).await
    }

    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound> {
        let deadline = &Deadline::after(LOOK);
        let maps = self.gates.maps();
        let mut names = subjects.iter().flat_map(|subject| &subject.volumes).map(|volume| &volume.gate_name);
        let any_gate =
            maps.as_ref().is_ok_and(|maps| names.any(|name| maps.iter().any(|map| map.name == *name)));
        let counts =
            async { if any_gate { self.gates.open_counts(deadline).await } else { Ok(BTreeMap::new()) } };
        let (kernel, counts, ()) =
            tokio::join!(self.kernel_state(deadline), counts, self.remember_storage(subjects, deadline));
        let mut found = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let mut backing = BTreeMap::new();
            if let Some(provider) = &subject.provider {
                for volume in &subject.volumes {
                    let looked = match self.provider(provider) {
                        Ok(provider) => provider.look(&volume.backing_name, deadline).await,
                        Err(error) => Looked::Unknown(error.to_string()),
                    };
                    backing.insert(volume.number, looked);
                }
            }
            let (configuration, in_kernel) = match &subject.drbd_name {
                None => (Looked::Absent, Looked::Absent),
                Some(name) => (self.configuration_found(name), resource_found(&kernel, name, &subject.peers)),
            };
            let gates = subject.volumes.iter().map(|volume| {
                let looked = match (&maps, &counts) {
                    (Ok(maps), Ok(counts)) => {
                        Gates::look(maps, counts, &volume.gate_name, gate_target(subject, volume).as_deref())
                    }
                    (Err(error), _) | (_, Err(error)) => Looked::Unknown(error.to_string()),
                };
                (volume.number, looked)
            });
            let (openers, opens_found) = match &maps {
                Ok(maps) if subject.openers => {
                    self.openers(subject, &in_kernel, maps, &Deadline::after(LOOK)).await
                }
                Ok(_) => (Looked::Unknown("not asked for".to_owned()), BTreeMap::new()),
                Err(error) => (Looked::Unknown(error.to_string()), BTreeMap::new()),
            };
            found.push(ReplicaFound {
                backing,
                configuration,
                kernel: in_kernel,
                gates: gates.collect(),
                openers,
                opens_found,
                met: self.met(&kernel, subject.drbd_name.as_deref()),
            });
        }
        found
    }

    async fn execute(&self, step: &Step, deadline: Duration) -> Result<(), HostError> {
        let deadline = &Deadline::after(deadline);
        // Steps that name no generation concern what is in this kernel.
        let loaded = || self.driver(self.facts.drbd.as_ref().map_or(Generation::V8_4, |(found, _)| *found));
        match step {
            Step::EnsureBackingVolume(volume) => {
                self.provider(&volume.provider)?.ensure(volume, deadline).await
            }
            Step::RemoveBackingVolume(volume) => {
                self.provider(&volume.provider)?.remove(volume, deadline).await
            }
            Step::CreateMetadata(metadata) => self.create_metadata(metadata, deadline).await,
            Step::WriteConfiguration(configuration) => {
                self.driver(configuration.generation)?.write_configuration(configuration, deadline).await
            }
            Step::RemoveConfiguration { drbd_name } => {
                lock(&self.meetings).forget(drbd_name);
                self.drbd.remove_configuration(drbd_name)
            }
            Step::BringUp { configuration, attach, connect } => {
                self.driver(configuration.generation)?
                    .bring_up(configuration, *attach, *connect, deadline)
                    .await
            }
            Step::AttachDisk { configuration } => {
                self.driver(configuration.generation)?.attach(configuration, deadline).await
            }
            Step::Connect(connection) => {
                self.driver(connection.configuration.generation)?.connect(connection, deadline).await
            }
            Step::TurnAway(connection) => {
                self.driver(connection.configuration.generation)?.turn_away(connection, deadline).await
            }
            Step::Adjust { configuration } => {
                self.driver(configuration.generation)?.adjust(configuration, deadline).await
            }
            Step::Promote { drbd_name, minors } => loaded()?.promote(drbd_name, minors, deadline).await,
            Step::Demote { drbd_name, minors } => loaded()?.demote(drbd_name, minors, deadline).await,
            Step::OpenGate(gate) => {
                let device = match &gate.target {
                    GateTarget::Drbd { minor } => PathBuf::from(format!("/dev/drbd{minor}")),
                    GateTarget::Backing(volume) => self.provider(&volume.provider)?.device(&volume.name),
                };
                self.gates.open(&gate.name, &device, deadline).await
            }
            Step::CloseGate { name } => self.gates.close(name, deadline).await,
            Step::FailGate { name } => self.gates.fail(name, deadline).await,
            Step::DetachForce { drbd_name, minor } => {
                loaded()?.detach_force(drbd_name, *minor, deadline).await
            }
            Step::ResumeIo { minor, .. } => loaded()?.resume_io(*minor, deadline).await,
            Step::TakeDown { drbd_name } => loaded()?.take_down(drbd_name, deadline).await,
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

impl SystemHost {
    fn met(&self, kernel: &Result<KernelState, HostError>, drbd_name: Option<&str>) -> Met {
        match (kernel, drbd_name) {
            (Ok(state), Some(name)) => lock(&self.meetings).met(name, state.resources.get(name)),
            (Err(_), _) | (_, None) => Met::Unknown,
        }
    }

    fn configuration_found(&self, drbd_name: &str) -> Looked<u64> {
        match self.drbd.fingerprint(drbd_name) {
            Ok(None) => Looked::Absent,
            Ok(Some(fingerprint)) => Looked::Present(fingerprint),
            Err(error) => Looked::Unknown(error.to_string()),
        }
    }
}

/// Block name of the device that a gate of the subject should lead to; `None` if that is not there.
fn gate_target(subject: &Subject, volume: &hawser_plan::observed::SubjectVolume) -> Option<String> {
    if subject.drbd_name.is_some() {
        return Some(format!("drbd{}", volume.minor));
    }
    let device = device_of(subject.provider.as_ref()?, &volume.backing_name);
    devices::block_name(Path::new(SYS), &device).ok()
}

fn resource_found(
    kernel: &Result<KernelState, HostError>,
    drbd_name: &str,
    peers: &[DrbdPeer],
) -> Looked<KernelResource> {
    match kernel {
        Err(error) => Looked::Unknown(error.to_string()),
        Ok(state) => match state.resources.get(drbd_name) {
            None => Looked::Absent,
            Some(resource) => Looked::Present(named_by_node(resource, peers)),
        },
    }
}

/// The kernel's resource with its connections named by Hawser's nodes. 8.4 names none: its only connection
/// is the one to the only peer.
pub(super) fn named_by_node(resource: &ResourceState, peers: &[DrbdPeer]) -> KernelResource {
    let volumes = resource.devices.iter().map(|(number, device)| {
        (*number, KernelVolume { minor: device.minor, disk: device.disk, size_bytes: device.size_bytes })
    });
    let peer_at = |node_id: u32, connection: &ConnectionFound| match peers {
        [only] => Some(only),
        several => several.iter().find(|peer| peer.node_id == node_id && peer.uname == connection.name),
    };
    let to_a_stranger = resource.connections.iter().any(|(node_id, connection)| {
        connection.state != ConnectionState::StandAlone && peer_at(*node_id, connection).is_none()
    });
    let connections = resource.connections.iter().filter_map(|(node_id, connection)| {
        let peer = peer_at(*node_id, connection)?;
        let volumes = connection.volumes.iter().map(|(number, volume)| {
            let volume = KernelPeerVolume {
                disk: volume.disk,
                replication: volume.replication.clone(),
                out_of_sync_bytes: volume.out_of_sync_bytes,
                done_permyriad: volume.done_permyriad,
            };
            (*number, volume)
        });
        let found = KernelPeer {
            connection: connection.state,
            connection_word: connection.word.clone(),
            role: connection.role,
            volumes: volumes.collect(),
        };
        Some((peer.node.clone(), found))
    });
    KernelResource {
        role: resource.role,
        suspended: resource.suspended,
        volumes: volumes.collect(),
        peers: connections.collect(),
        to_a_stranger,
    }
}

/// Makes DRBD's tools read the files of `directory`.
fn include(including: &Path, directory: &Path) -> io::Result<()> {
    let text = format!("# Written by Hawser.\ninclude \"{}/*.res\";\n", directory.display());
    if fs::read_to_string(including).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::create_dir_all(including.parent().unwrap_or(Path::new("/")))?;
    let aside = including.with_extension("res_new");
    fs::write(&aside, text)?;
    fs::rename(&aside, including)
}

fn lock(meetings: &Mutex<Meetings>) -> std::sync::MutexGuard<'_, Meetings> {
    meetings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the changes that the kernel reports, for as long as anybody wants to know, and watches who meets whom.
async fn follow_events(changes: watch::Sender<u64>, meetings: Arc<Mutex<Meetings>>) {
    let command = CommandLine::new("drbdsetup").args(["events2", "all"]);
    while !changes.is_closed() {
        lock(&meetings).interrupt();
        match start(&command, true) {
            Ok(mut child) => {
                if let Some(output) = child.stdout.take() {
                    let mut lines = BufReader::new(output).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        let taken = lock(&meetings).take(&line);
                        changes.send_modify(|count| *count += 1);
                        if let Err(error) = taken {
                            tracing::warn!(%error, "changes of DRBD are followed anew");
                            break;
                        }
                    }
                }
                lock(&meetings).interrupt();
            }
            Err(error @ CommandError::Missing { .. }) => {
                tracing::warn!(%error, "changes of DRBD are not followed");
                return;
            }
            Err(error) => tracing::warn!(%error, "changes of DRBD are not followed"),
        }
        // Whatever happened while nobody listened is found by looking.
        changes.send_modify(|count| *count += 1);
        tokio::time::sleep(RESTART).await;
    }
}
