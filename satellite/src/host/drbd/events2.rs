//! Reads what `drbdsetup events2 --statistics all` says, of DRBD 8.4 and 9.
//!
//! Pure. Unknown keys, kinds and objects are skipped, since every release of DRBD adds some; a line that
//! cannot be understood where it matters is an error, never a guess.

use std::collections::BTreeMap;

use hawser_plan::observed::{ConnectionState, DiskState, Role, Suspended};

use crate::host::percentage;

/// Every resource in the kernel, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelState {
    /// Resources.
    pub resources: BTreeMap<String, ResourceState>,
}

/// One resource as the kernel shows it, with its connections still named DRBD's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceState {
    /// Role here.
    pub role: Role,
    /// Why I/O is held.
    pub suspended: Suspended,
    /// Volumes, by number.
    pub devices: BTreeMap<u32, DeviceState>,
    /// Connections, by DRBD's node-id of the peer; 8.4 has one, numbered 0.
    pub connections: BTreeMap<u32, ConnectionFound>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Minor.
    pub minor: u32,
    /// State of the local disk.
    pub disk: DiskState,
    /// Usable bytes; 0 while the device has none.
    pub size_bytes: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFound {
    /// Name of the connection on 9, which is the peer's host name; "peer" on 8.4.
    pub name: String,
    /// State.
    pub state: ConnectionState,
    /// DRBD's word for the state.
    pub word: String,
    /// The peer's role.
    pub role: Role,
    /// The peer's volumes, by number.
    pub volumes: BTreeMap<u32, PeerDeviceState>,
}

/// A peer's volume as the kernel here knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDeviceState {
    /// State of the peer's disk.
    pub disk: DiskState,
    /// DRBD's word for the replication.
    pub replication: String,
    /// Bytes that differ.
    pub out_of_sync_bytes: u64,
    /// Of a resync under way, in hundredths of a percent; 0 if there is none or DRBD does not say.
    pub done_permyriad: u32,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line:?}: {problem}")]
pub struct LineError {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Whether a line tells anything more to come: the first full dump, or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The dump goes on, or a change was taken in.
    Taken,
    /// `exists -`: the dump is complete.
    DumpComplete,
    /// Nothing of this line is part of the state.
    Skipped,
}

/// Reads the complete answer of `drbdsetup events2 --now`.
///
/// # Errors
/// A line that cannot be understood, or an answer that ends before `exists -`: it was cut short and proves
/// the absence of nothing.
pub fn parse_dump(text: &str) -> Result<KernelState, LineError> {
    let mut state = KernelState::default();
    let mut complete = false;
    for line in text.lines() {
        complete |= state.take(line)? == Progress::DumpComplete;
    }
    if complete {
        Ok(state)
    } else {
        Err(LineError {
            line: text.lines().last().unwrap_or_default().to_owned(),
            problem: "the answer ends without `exists -`".to_owned(),
        })
    }
}

impl KernelState {
    /// Takes in one line of the dump, or of the changes after it.
    ///
    /// # Errors
    /// A line that matters and cannot be understood. The state is then no longer to be trusted.
    pub fn take(&mut self, line: &str) -> Result<Progress, LineError> {
        let mut words = line.split_ascii_whitespace().peekable();
        // `--timestamps` puts one in front; kinds begin with a letter.
        if words.peek().is_some_and(|word| word.starts_with(|first: char| first.is_ascii_digit())) {
            words.next();
        }
        let (Some(kind), object) = (words.next(), words.next()) else { return Ok(Progress::Skipped) };
        let removes = match kind {
            "exists" if object == Some("-") => return Ok(Progress::DumpComplete),
            "exists" | "create" | "change" => false,
            "destroy" => true,
            _ => return Ok(Progress::Skipped),
        };
        let fields = Fields { line, pairs: words.filter_map(|word| word.split_once(':')).collect() };
        match object {
            Some("resource") if removes => {
                self.resources.remove(fields.text("name")?);
            }
            Some("resource") => self.take_resource(&fields)?,
            Some("device") => self.take_device(&fields, removes)?,
            Some("connection") => self.take_connection(&fields, removes)?,
            Some("peer-device") => self.take_peer_device(&fields, removes)?,
            _ => return Ok(Progress::Skipped),
        }
        Ok(Progress::Taken)
    }

    fn resource(&mut self, fields: &Fields<'_>) -> Result<&mut ResourceState, LineError> {
        let name = fields.text("name")?;
        Ok(self.resources.entry(name.to_owned()).or_insert_with(|| ResourceState {
            role: Role::Unknown,
            suspended: Suspended::default(),
            devices: BTreeMap::new(),
            connections: BTreeMap::new(),
        }))
    }

    fn take_resource(&mut self, fields: &Fields<'_>) -> Result<(), LineError> {
        let role = fields.optional("role").map(|word| role(fields, word)).transpose()?;
        let suspended = fields.optional("suspended").map(|word| suspended(fields, word)).transpose()?;
        let resource = self.resource(fields)?;
        resource.role = role.unwrap_or(resource.role);
        resource.suspended = suspended.unwrap_or(resource.suspended);
        Ok(())
    }

    fn take_device(&mut self, fields: &Fields<'_>, removes: bool) -> Result<(), LineError> {
        let (volume, minor) = (fields.number("volume")?, fields.number("minor")?);
        let disk = fields.optional("disk").map(|word| disk(fields, word)).transpose()?;
        let size = fields.kibibytes("size")?;
        let devices = &mut self.resource(fields)?.devices;
        if removes {
            devices.remove(&volume);
            return Ok(());
        }
        let device =
            devices.entry(volume).or_insert(DeviceState { minor, disk: DiskState::Diskless, size_bytes: 0 });
        device.disk = disk.unwrap_or(device.disk);
        device.size_bytes = size.unwrap_or(device.size_bytes);
        Ok(())
    }

    fn take_connection(&mut self, fields: &Fields<'_>, removes: bool) -> Result<(), LineError> {
        let peer = fields.number("peer-node-id")?;
        let peer_role = fields.optional("role").map(|word| role(fields, word)).transpose()?;
        let connections = &mut self.resource(fields)?.connections;
        if removes {
            connections.remove(&peer);
            return Ok(());
        }
        let connection = connections.entry(peer).or_insert_with(ConnectionFound::stand_alone);
        if let Some(name) = fields.optional("conn-name") {
            name.clone_into(&mut connection.name);
        }
        if let Some(word) = fields.optional("connection") {
            connection.state = connection_state(word);
            word.clone_into(&mut connection.word);
        }
        connection.role = peer_role.unwrap_or(connection.role);
        Ok(())
    }

    fn take_peer_device(&mut self, fields: &Fields<'_>, removes: bool) -> Result<(), LineError> {
        let (peer, volume) = (fields.number("peer-node-id")?, fields.number("volume")?);
        let peer_disk = fields.optional("peer-disk").map(|word| disk(fields, word)).transpose()?;
        let out_of_sync = fields.kibibytes("out-of-sync")?;
        let done = fields.optional("done").map(|word| permyriad(fields, word)).transpose()?;
        let connections = &mut self.resource(fields)?.connections;
        if removes {
            if let Some(connection) = connections.get_mut(&peer) {
                connection.volumes.remove(&volume);
            }
            return Ok(());
        }
        let volumes = &mut connections.entry(peer).or_insert_with(ConnectionFound::stand_alone).volumes;
        let found = volumes.entry(volume).or_insert_with(|| PeerDeviceState {
            disk: DiskState::Unknown,
            replication: "Off".to_owned(),
            out_of_sync_bytes: 0,
            done_permyriad: 0,
        });
        if let Some(word) = fields.optional("replication") {
            word.clone_into(&mut found.replication);
            if !word.starts_with("Sync") && !word.starts_with("PausedSync") {
                found.done_permyriad = 0;
            }
        }
        found.disk = peer_disk.unwrap_or(found.disk);
        found.out_of_sync_bytes = out_of_sync.unwrap_or(found.out_of_sync_bytes);
        found.done_permyriad = done.unwrap_or(found.done_permyriad);
        Ok(())
    }
}

impl ConnectionFound {
    fn stand_alone() -> Self {
        ConnectionFound {
            name: String::new(),
            state: ConnectionState::StandAlone,
            word: "StandAlone".to_owned(),
            role: Role::Unknown,
            volumes: BTreeMap::new(),
        }
    }
}

/// The `key:value` words of one line.
struct Fields<'a> {
    line: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn wrong(&self, problem: String) -> LineError {
        LineError { line: self.line.to_owned(), problem }
    }

    fn optional(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(found, _)| *found == key).map(|(_, value)| *value)
    }

    fn text(&self, key: &str) -> Result<&'a str, LineError> {
        self.optional(key).ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    fn number(&self, key: &str) -> Result<u32, LineError> {
        let word = self.text(key)?;
        word.parse().map_err(|_| self.wrong(format!("`{key}` is not a number: {word:?}")))
    }

    /// A size, which DRBD gives in KiB.
    fn kibibytes(&self, key: &str) -> Result<Option<u64>, LineError> {
        let Some(word) = self.optional(key) else { return Ok(None) };
        let size = word.parse::<u64>().ok().and_then(|size| size.checked_mul(1024));
        size.map(Some).ok_or_else(|| self.wrong(format!("`{key}` is not a size in KiB: {word:?}")))
    }
}

fn role(fields: &Fields<'_>, word: &str) -> Result<Role, LineError> {
    match word {
        "Primary" => Ok(Role::Primary),
        "Secondary" => Ok(Role::Secondary),
        "Unknown" => Ok(Role::Unknown),
        _ => Err(fields.wrong(format!("unknown role {word:?}"))),
    }
}

fn disk(fields: &Fields<'_>, word: &str) -> Result<DiskState, LineError> {
    match word {
        "Diskless" => Ok(DiskState::Diskless),
        "Attaching" => Ok(DiskState::Attaching),
        "Detaching" => Ok(DiskState::Detaching),
        "Failed" => Ok(DiskState::Failed),
        "Negotiating" => Ok(DiskState::Negotiating),
        "Inconsistent" => Ok(DiskState::Inconsistent),
        "Outdated" => Ok(DiskState::Outdated),
        "DUnknown" => Ok(DiskState::Unknown),
        "Consistent" => Ok(DiskState::Consistent),
        "UpToDate" => Ok(DiskState::UpToDate),
        _ => Err(fields.wrong(format!("unknown disk state {word:?}"))),
    }
}

fn connection_state(word: &str) -> ConnectionState {
    match word {
        "StandAlone" => ConnectionState::StandAlone,
        "Disconnecting" => ConnectionState::Disconnecting,
        "Connecting" => ConnectionState::Connecting,
        "Connected" => ConnectionState::Connected,
        _ => ConnectionState::Broken,
    }
}

fn suspended(fields: &Fields<'_>, word: &str) -> Result<Suspended, LineError> {
    let mut found = Suspended::default();
    for reason in word.split(',') {
        match reason {
            "no" => {}
            "user" => found.user = true,
            "fencing" => found.fencing = true,
            "no-data" => found.no_data = true,
            "quorum" => found.quorum = true,
            _ => return Err(fields.wrong(format!("unknown reason of a suspension {reason:?}"))),
        }
    }
    Ok(found)
}

/// "12.34" percent as 1234.
fn permyriad(fields: &Fields<'_>, word: &str) -> Result<u32, LineError> {
    percentage::permyriad(word).ok_or_else(|| fields.wrong(format!("`done` is not a percentage: {word:?}")))
}

#[cfg(test)]
#[path = "events2_tests.rs"]
mod tests;
