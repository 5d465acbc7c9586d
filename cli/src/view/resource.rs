//! Resources.

use hawser_proto::{sizes, v1};
use jiff::Timestamp;
use serde::Serialize;

use super::{attachment::AttachmentDesired, condition::Condition, group::Options, replica::Replica, word};
use crate::output::table::{Row, columns, pairs};

#[derive(Debug, Serialize)]
pub(crate) struct Resource {
    pub(crate) desired: ResourceDesired,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) attachment: Option<AttachmentDesired>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResourceDesired {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) group: String,
    pub(crate) lifecycle: String,
    pub(crate) layers: Vec<String>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) drbd_name: String,
    pub(crate) drbd_generation: String,
    pub(crate) maximum_peers: u32,
    pub(crate) options: Options,
    /// Somebody may have written to it: a new replica always syncs.
    pub(crate) data_may_exist: bool,
    pub(crate) arbitration: Arbitration,
    pub(crate) revision: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Volume {
    pub(crate) number: u32,
    pub(crate) size_bytes: u64,
    pub(crate) minor: u32,
}

/// Who may write, and whose replica is known to be behind.
#[derive(Debug, Serialize)]
pub(crate) struct Arbitration {
    pub(crate) owner: Option<String>,
    pub(crate) generation: u64,
    pub(crate) outdated: Vec<Outdated>,
    /// Who is about to take it over from the owner.
    pub(crate) claim: Option<Claim>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Claim {
    pub(crate) node: String,
    pub(crate) number: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Outdated {
    pub(crate) node: String,
    pub(crate) number: u64,
}

impl From<&v1::ResourceView> for Resource {
    fn from(view: &v1::ResourceView) -> Self {
        Self {
            desired: ResourceDesired::from(&view.desired.clone().unwrap_or_default()),
            replicas: view.replicas.iter().map(Replica::from).collect(),
            attachment: view.attachment.as_ref().map(AttachmentDesired::from),
            conditions: Condition::all(&view.conditions),
        }
    }
}

impl From<&v1::Resource> for ResourceDesired {
    fn from(resource: &v1::Resource) -> Self {
        let volume = |volume: &v1::Volume| Volume {
            number: volume.number,
            size_bytes: volume.size_bytes,
            minor: volume.minor,
        };
        let arbitration = resource.arbitration.clone().unwrap_or_default();
        let outdated =
            |outdated: v1::OutdatedReplica| Outdated { node: outdated.node, number: outdated.number };
        Self {
            name: resource.name.clone(),
            incarnation: resource.incarnation,
            group: resource.group.clone(),
            lifecycle: word::resource_lifecycle(resource.lifecycle),
            layers: resource.layers.iter().map(|layer| word::layer(*layer)).collect(),
            volumes: resource.volumes.iter().map(volume).collect(),
            drbd_name: resource.drbd_name.clone(),
            drbd_generation: word::drbd_generation(resource.drbd_generation),
            maximum_peers: resource.maximum_peers,
            options: Options::from(resource.options.as_ref()),
            data_may_exist: resource.data_may_exist,
            arbitration: Arbitration {
                owner: word::text(&arbitration.owner),
                generation: arbitration.generation,
                outdated: arbitration.outdated.into_iter().map(outdated).collect(),
                claim: arbitration.claim.map(|claim| Claim { node: claim.node, number: claim.number }),
            },
            revision: resource.revision,
        }
    }
}

impl Resource {
    fn nodes(&self) -> String {
        self.replicas.iter().map(|replica| replica.desired.node.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn sizes(&self) -> String {
        self.desired
            .volumes
            .iter()
            .map(|volume| sizes::format(volume.size_bytes))
            .collect::<Vec<_>>()
            .join(" + ")
    }

    /// How many of the diskful replicas are UpToDate, as far as is known.
    fn up_to_date(&self) -> String {
        let diskful = self.replicas.iter().filter(|replica| replica.desired.kind == "diskful");
        let (mut good, mut all) = (0, 0);
        for replica in diskful {
            all += 1;
            good += usize::from(replica.observed.as_ref().is_some_and(|observed| observed.is_up_to_date()));
        }
        format!("{good}/{all}")
    }

    fn attached(&self) -> String {
        match &self.attachment {
            Some(attachment) if attachment.lifecycle == "attached" => attachment.node.clone(),
            Some(attachment) => format!("{} ({})", attachment.node, attachment.lifecycle),
            None => String::new(),
        }
    }

    /// The text of `show`: what was asked for, what is there, and why they differ.
    pub(crate) fn describe(&self, width: Option<u16>, _now: Timestamp) -> String {
        let desired = &self.desired;
        let arbitration = &desired.arbitration;
        let claim = arbitration.claim.as_ref();
        let about_to =
            claim.map(|claim| format!(", {} is about to take over", claim.node)).unwrap_or_default();
        let owner = match &arbitration.owner {
            Some(node) => format!("{node} (generation {}){about_to}", arbitration.generation),
            None => "nobody".to_owned(),
        };
        let outdated: Vec<&str> = arbitration.outdated.iter().map(|replica| replica.node.as_str()).collect();
        let mut text = pairs(&[
            ("resource", desired.name.clone()),
            ("state", desired.lifecycle.clone()),
            ("group", desired.group.clone()),
            ("layers", desired.layers.join(",")),
            ("drbd", format!("{} (DRBD {})", desired.drbd_name, desired.drbd_generation)),
            ("options", desired.options.line()),
            ("attached", self.attached()),
            ("owner", owner),
            ("outdated", outdated.join(", ")),
            ("incarnation", desired.incarnation.to_string()),
            ("revision", desired.revision.to_string()),
        ]);
        let volumes = desired
            .volumes
            .iter()
            .map(|volume| {
                vec![volume.number.to_string(), sizes::format(volume.size_bytes), volume.minor.to_string()]
            })
            .collect();
        let replicas = self.replicas.iter().map(Replica::cells).collect();
        text.push_str(&format!("\n{}\n", columns(&["VOLUME", "SIZE", "MINOR"], volumes, width)));
        text.push_str(&format!("\n{}\n\n", columns(Replica::COLUMNS, replicas, width)));
        text.push_str(&Condition::paragraph(&self.conditions));
        let remarks: Vec<String> = self.replicas.iter().flat_map(Replica::remarks).collect();
        if !remarks.is_empty() {
            text.push_str("Reported by the nodes:\n");
            remarks.iter().for_each(|remark| text.push_str(&format!("  {remark}\n")));
        }
        text
    }
}

impl Row for Resource {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "GROUP", "SIZE", "STATE", "REPLICAS", "UPTODATE", "ATTACHED", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.desired.name.clone(),
            self.desired.group.clone(),
            self.sizes(),
            self.desired.lifecycle.clone(),
            self.nodes(),
            self.up_to_date(),
            self.attached(),
            Condition::reasons(&self.conditions),
        ]
    }

    fn amount(&self, column: &str) -> Option<u64> {
        let bytes = self.desired.volumes.iter().map(|volume| volume.size_bytes);
        (column == "SIZE" && !self.desired.volumes.is_empty()).then(|| bytes.fold(0, u64::saturating_add))
    }
}
