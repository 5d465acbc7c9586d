//! Why desired and observed differ.

use hawser_proto::v1;
use serde::Serialize;

use super::word;

/// One reason.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Condition {
    /// An append-only word, e.g. `NodeUnreachable`.
    pub(crate) reason: String,
    pub(crate) node: Option<String>,
    pub(crate) message: String,
}

impl From<&v1::Condition> for Condition {
    fn from(condition: &v1::Condition) -> Self {
        Self {
            reason: condition.reason.clone(),
            node: word::text(&condition.node),
            message: condition.message.clone(),
        }
    }
}

impl Condition {
    /// All of `conditions`.
    pub(crate) fn all(conditions: &[v1::Condition]) -> Vec<Self> {
        conditions.iter().map(Self::from).collect()
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        match &self.node {
            Some(node) => format!("{} on {node}: {}", self.reason, self.message),
            None => format!("{}: {}", self.reason, self.message),
        }
    }

    /// The reasons of `conditions`, each once, for a column.
    pub(crate) fn reasons(conditions: &[Self]) -> String {
        let mut words: Vec<&str> = conditions.iter().map(|condition| condition.reason.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        words.join(", ")
    }

    /// A paragraph for people: each reason on a line, or that there is none.
    pub(crate) fn paragraph(conditions: &[Self]) -> String {
        if conditions.is_empty() {
            return "Desired and observed agree.\n".to_owned();
        }
        let lines: String = conditions.iter().map(|condition| format!("  {}\n", condition.line())).collect();
        format!("Desired and observed differ:\n{lines}")
    }
}
