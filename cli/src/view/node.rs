//! Nodes.

use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{condition::Condition, word};
use crate::output::{
    age,
    table::{Row, pairs},
};

#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) desired: NodeDesired,
    pub(crate) observed: Option<NodeObserved>,
    pub(crate) online: bool,
    pub(crate) observed_age_ms: Option<u64>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeDesired {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) addresses: Vec<Address>,
    pub(crate) uname: Option<String>,
    pub(crate) document_revision: u64,
    /// Revision that declared it lost; null for a node that is not.
    pub(crate) lost_since: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) ip: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeObserved {
    pub(crate) boot_id: String,
    pub(crate) satellite_version: String,
    pub(crate) kernel_version: String,
    pub(crate) drbd_version: Option<String>,
    pub(crate) drbd_generation: String,
    pub(crate) helper_can_run: bool,
    /// Tools and modules that are missing, each with the package that has it.
    pub(crate) missing: Vec<String>,
}

impl From<&v1::NodeView> for Node {
    fn from(view: &v1::NodeView) -> Self {
        let desired = view.desired.clone().unwrap_or_default();
        Self {
            desired: NodeDesired {
                name: desired.name,
                incarnation: desired.incarnation,
                addresses: desired
                    .addresses
                    .into_iter()
                    .map(|address| Address { name: address.name, ip: address.ip })
                    .collect(),
                uname: word::text(&desired.uname),
                document_revision: desired.document_revision,
                lost_since: (desired.lost_since != 0).then_some(desired.lost_since),
            },
            observed: view.observed.as_ref().map(NodeObserved::from),
            online: view.online,
            observed_age_ms: view.observed.as_ref().map(|_| view.observed_age_ms),
            conditions: Condition::all(&view.conditions),
        }
    }
}

impl From<&v1::NodeObserved> for NodeObserved {
    fn from(observed: &v1::NodeObserved) -> Self {
        let facts = observed.facts.clone().unwrap_or_default();
        Self {
            boot_id: observed.boot_id.clone(),
            satellite_version: observed.satellite_version.clone(),
            kernel_version: observed.kernel_version.clone(),
            drbd_version: word::text(&facts.drbd_version),
            drbd_generation: word::drbd_generation(facts.drbd_generation),
            helper_can_run: facts.helper_can_run,
            missing: observed.missing.clone(),
        }
    }
}

impl Node {
    fn state(&self) -> &'static str {
        match (self.desired.lost_since, self.online) {
            (Some(_), _) => "lost",
            (None, true) => "online",
            (None, false) => "offline",
        }
    }

    fn addresses(&self) -> String {
        let shown = |address: &Address| match address.name.as_str() {
            "default" => address.ip.clone(),
            name => format!("{name}={}", address.ip),
        };
        self.desired.addresses.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    fn drbd(&self) -> String {
        self.observed.as_ref().and_then(|observed| observed.drbd_version.clone()).unwrap_or_default()
    }

    /// The text of `show`.
    pub(crate) fn describe(&self, _width: Option<u16>, _now: Timestamp) -> String {
        let observed =
            |field: fn(&NodeObserved) -> String| self.observed.as_ref().map(field).unwrap_or_default();
        let seen = match self.observed_age_ms {
            Some(milliseconds) => format!("{} ago", age::milliseconds(milliseconds)),
            None => "never by the present leader".to_owned(),
        };
        let facts = pairs(&[
            ("node", self.desired.name.clone()),
            ("state", self.state().to_owned()),
            ("addresses", self.addresses()),
            ("uname", self.desired.uname.clone().unwrap_or_default()),
            ("seen", seen),
            ("satellite", observed(|it| it.satellite_version.clone())),
            ("kernel", observed(|it| it.kernel_version.clone())),
            ("drbd", self.drbd()),
            ("missing", observed(|it| it.missing.join(", "))),
            ("incarnation", self.desired.incarnation.to_string()),
            ("document", format!("revision {}", self.desired.document_revision)),
        ]);
        format!("{facts}\n{}", Condition::paragraph(&self.conditions))
    }
}

impl Row for Node {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "STATE", "ADDRESSES", "DRBD", "SATELLITE", "SEEN", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.desired.name.clone(),
            self.state().to_owned(),
            self.addresses(),
            self.drbd(),
            self.observed.as_ref().map(|observed| observed.satellite_version.clone()).unwrap_or_default(),
            self.observed_age_ms
                .map(|milliseconds| format!("{} ago", age::milliseconds(milliseconds)))
                .unwrap_or_default(),
            Condition::reasons(&self.conditions),
        ]
    }

    fn amount(&self, column: &str) -> Option<u64> {
        self.observed_age_ms.filter(|_| column == "SEEN")
    }
}
