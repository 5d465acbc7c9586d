//! DRBD's options, wherever they are stored: at a node, a group, a resource or a connection.
//!
//! It must never let an option through that Hawser's own safety rests on.

use std::collections::BTreeMap;

use hawser_proto::{names, v1::DrbdOptions};

use crate::verdict::{Denial, Verdict};

const MOST_OPTIONS: usize = 64;

/// Options that the satellite sets itself, in whatever section: who may write and what counts as
/// written depend on them.
const OWN_OPTIONS: [&str; 18] = [
    "after-sb-0pri",
    "after-sb-1pri",
    "after-sb-2pri",
    "allow-two-primaries",
    "always-asbp",
    "auto-promote",
    "cram-hmac-alg",
    "fencing",
    "on-io-error",
    "on-no-data-accessible",
    "on-no-quorum",
    "on-suspended-primary-outdated",
    "protocol",
    "quorum",
    "quorum-minimum-redundancy",
    "rr-conflict",
    "shared-secret",
    "size",
];

/// Whether these options may be stored. `field` is where they stand in the command.
pub(super) fn check(field: &str, options: &DrbdOptions) -> Verdict<()> {
    check_section(&format!("{field}.resource"), &options.resource)?;
    check_section(&format!("{field}.net"), &options.net)?;
    check_section(&format!("{field}.disk"), &options.disk)
}

fn check_section(field: &str, section: &BTreeMap<String, String>) -> Verdict<()> {
    if section.len() > MOST_OPTIONS {
        return Err(Denial::invalid(field, format!("a section has at most {MOST_OPTIONS} options")));
    }
    for (key, value) in section {
        names::drbd_option(field, key, value)?;
        if OWN_OPTIONS.contains(&key.as_str()) {
            let message = format!("{key} is set by Hawser itself and cannot be chosen");
            return Err(Denial::invalid(&format!("{field}.{key}"), message));
        }
    }
    Ok(())
}
