//! DRBD's options as a request has them. Which of them may be chosen is for the state to say.

use hawser_proto::{names, v1};

use crate::api::error::ApiError;

/// Whether every key and value can stand in DRBD's configuration.
///
/// # Errors
/// The first that cannot, with its section.
pub(super) fn check(options: &v1::DrbdOptions) -> Result<(), ApiError> {
    let sections = [("resource", &options.resource), ("net", &options.net), ("disk", &options.disk)];
    for (section, options) in sections {
        for (key, value) in options {
            names::drbd_option(&format!("options.{section}"), key, value)?;
        }
    }
    Ok(())
}
