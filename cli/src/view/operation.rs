//! Operations.

use std::fmt;

use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{condition::Condition, word};
use crate::output::{
    age,
    table::{Row, pairs},
};

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) resource: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) state: String,
    pub(crate) phase: Option<String>,
    pub(crate) can_be_cancelled: bool,
    pub(crate) waits_for: Option<Reason>,
    pub(crate) progress: Vec<Condition>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    #[serde(skip)]
    started_at_unix_ms: u64,
}

/// Why an operation does not advance.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reason {
    pub(crate) node: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) message: String,
}

impl From<&v1::OperationView> for Operation {
    fn from(view: &v1::OperationView) -> Self {
        let operation = view.operation.clone().unwrap_or_default();
        Self {
            id: operation.id,
            kind: word::operation_kind(operation.kind),
            resource: word::text(&operation.resource),
            node: word::text(&operation.node),
            state: word::operation_state(operation.state),
            phase: word::text(&view.phase),
            can_be_cancelled: operation.can_be_cancelled,
            waits_for: operation.waits_for.map(|reason| Reason {
                node: word::text(&reason.node),
                command: word::text(&reason.command),
                message: reason.message,
            }),
            progress: Condition::all(&view.progress),
            started_at: age::rfc3339(operation.started_at_unix_ms),
            ended_at: age::rfc3339(operation.ended_at_unix_ms),
            started_at_unix_ms: operation.started_at_unix_ms,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(formatter, "{node}: ")?;
        }
        formatter.write_str(&self.message)?;
        match &self.command {
            Some(command) => write!(formatter, " ({command})"),
            None => Ok(()),
        }
    }
}

impl Operation {
    /// What it does to which object, e.g. `attach data n2`.
    pub(crate) fn title(&self) -> String {
        let verb = match self.kind.as_str() {
            "create_resource" => "create resource",
            "delete_resource" => "delete resource",
            "attach" => "attach resource",
            "detach" => "detach resource",
            "create_replica" => "add replica of",
            "delete_replica" => "remove replica of",
            other => other,
        };
        let place = match (self.kind.as_str(), &self.node) {
            (_, None) => String::new(),
            ("attach", Some(node)) => format!(" to {node}"),
            ("detach", Some(node)) => format!(" from {node}"),
            (_, Some(node)) => format!(" on {node}"),
        };
        format!("{verb} {}{place}", self.resource.as_deref().unwrap_or_default())
    }

    /// Whether it has ended as it should.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.state == "succeeded"
    }

    /// What it waits for: what the leader sees right now, else what was last recorded, which is older.
    pub(crate) fn waiting(&self) -> Option<String> {
        match self.progress.first() {
            Some(condition) => Some(match &condition.node {
                Some(node) => format!("{node}: {}", condition.message),
                None => condition.message.clone(),
            }),
            None => self.waits_for.as_ref().map(Reason::to_string),
        }
    }

    /// The text of `show`.
    pub(crate) fn describe(&self, _width: Option<u16>, now: Timestamp) -> String {
        let ended = self.ended_at.clone().unwrap_or_default();
        let started = match &self.started_at {
            Some(time) => format!("{time} ({} ago)", age::since(self.started_at_unix_ms, now)),
            None => String::new(),
        };
        let cancel = if self.can_be_cancelled { "yes" } else { "no" };
        // The reason of an operation that has ended is why it ended as it did.
        let reason = if self.ended_at.is_some() { "because" } else { "waits for" };
        let mut text = pairs(&[
            ("operation", self.id.to_string()),
            ("does", self.title()),
            ("state", self.state.clone()),
            ("phase", self.phase.clone().unwrap_or_default()),
            (reason, self.waiting().unwrap_or_default()),
            ("started", started),
            ("ended", ended),
            ("can be cancelled", cancel.to_owned()),
        ]);
        if !self.progress.is_empty() {
            text.push_str("\nThe leader sees:\n");
            for condition in &self.progress {
                text.push_str(&format!("  {}\n", condition.line()));
            }
        }
        text
    }
}

impl Row for Operation {
    const COLUMNS: &'static [&'static str] =
        &["ID", "KIND", "RESOURCE", "NODE", "STATE", "PHASE", "STARTED", "WAITS FOR"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let running = self.ended_at.is_none();
        vec![
            self.id.to_string(),
            self.kind.replace('_', " "),
            self.resource.clone().unwrap_or_default(),
            self.node.clone().unwrap_or_default(),
            self.state.clone(),
            self.phase.clone().unwrap_or_default(),
            format!("{} ago", age::since(self.started_at_unix_ms, now)),
            self.waiting().filter(|_| running).unwrap_or_default(),
        ]
    }

    fn amount(&self, column: &str) -> Option<u64> {
        // The latest first, as in every column of ages.
        (column == "STARTED").then(|| u64::MAX - self.started_at_unix_ms)
    }
}
