//! What helper and satellite say to each other: one line of JSON each way.
//!
//! Both ends are the same program, but not always the same version: fields are only ever added.

use serde::{Deserialize, Serialize};

/// Role of this node when the kernel called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedAs {
    /// It is Primary: I/O is frozen until there is an answer.
    Primary,
    /// It is being promoted: the kernel holds the resource's lock.
    Secondary,
    /// The helper could not tell.
    Unknown,
}

/// What the helper asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceQuestion {
    /// Name of the DRBD resource.
    pub resource: String,
    /// `uname -n` of the peer, where the kernel named one.
    pub peer: Option<String>,
    /// Role of this node.
    pub role: AskedAs,
}

/// What the satellite answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceAnswer {
    /// The peer is outdated: go on.
    pub outdated: bool,
    /// Why, for the log.
    pub reason: String,
}

/// The longest line that either end reads.
pub(crate) const LONGEST_LINE: u64 = 4096;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};

    use super::*;

    const QUESTION: &str = r#"{"resource":"vol1.7","peer":"n2","role":"primary"}"#;
    const ANSWER: &str = r#"{"outdated":true,"reason":"committed"}"#;

    #[test]
    fn hostile_questions() {
        check(&texts(&[QUESTION, ANSWER], &["null", "primary", "unknown", "peer"]), |line| {
            if let Ok(question) = serde_json::from_str::<FenceQuestion>(&line) {
                let again = serde_json::to_string(&question).unwrap();
                assert_eq!(serde_json::from_str::<FenceQuestion>(&again).unwrap(), question);
            }
        });
    }

    #[test]
    fn only_a_whole_answer_lets_a_primary_go_on() {
        check(&texts(&[ANSWER, QUESTION], &["true", "false", "outdated"]), |line| {
            if serde_json::from_str::<FenceAnswer>(&line).is_ok_and(|answer| answer.outdated) {
                assert!(line.contains("outdated") && line.contains("true"), "{line}");
            }
        });
    }
}
