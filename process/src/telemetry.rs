//! Log lines of the daemons: to standard error, filtered by `HAWSER_LOG`, compact or JSON.
//!
//! It must never decide what is worth a line; that is for who writes it.

use std::env;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Environment variable with the filter, e.g. `info,hawser_satellite=debug`.
pub const FILTER_VARIABLE: &str = "HAWSER_LOG";
/// What is shown without it. The consensus and storage libraries tell every step at level `info`, and openraft
/// warns of every heartbeat that an absent member misses: ten lines a second for hours.
const DEFAULT_FILTER: &str = "info,openraft=error,sled=warn";
/// Environment variable with the form of the lines: `compact` or `json`.
pub const FORMAT_VARIABLE: &str = "HAWSER_LOG_FORMAT";

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "{FILTER_VARIABLE}={value:?} is not a filter: {reason}; use a level (error, warn, info, debug, trace) \
         or target=level, separated by commas"
    )]
    Filter {
        /// What the variable holds.
        value: String,
        /// What the parser says.
        reason: String,
    },
    /// The form is neither `compact` nor `json`.
    #[error("{FORMAT_VARIABLE}={0:?} is not known; use compact or json")]
    Format(String),
    /// A subscriber is installed already.
    #[error("telemetry is installed already")]
    Installed,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One short line each, for people and the journal.
    Compact,
    /// One JSON object each, for log collectors.
    Json,
}

/// Installs the subscriber for the whole process, as the two environment variables say; without them,
/// compact lines of Hawser from level `info` on.
///
/// # Errors
/// If a variable holds what cannot be understood, or a subscriber is there already.
pub fn install() -> Result<(), TelemetryError> {
    let filter = filter(env::var(FILTER_VARIABLE).ok().as_deref())?;
    let format = format(env::var(FORMAT_VARIABLE).ok().as_deref())?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Compact => registry.with(lines.compact()).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    }
    .map_err(|_| TelemetryError::Installed)
}

fn filter(value: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let value = value.unwrap_or(DEFAULT_FILTER);
    EnvFilter::try_new(value)
        .map_err(|error| TelemetryError::Filter { value: value.to_owned(), reason: error.to_string() })
}

fn format(value: Option<&str>) -> Result<Format, TelemetryError> {
    match value {
        None | Some("" | "compact") => Ok(Format::Compact),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(TelemetryError::Format(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn known_formats_are_understood_and_others_refused_by_name() {
        for (value, expected) in [
            (None, Format::Compact),
            (Some(""), Format::Compact),
            (Some("compact"), Format::Compact),
            (Some("json"), Format::Json),
        ] {
            assert_eq!(format(value).unwrap(), expected);
        }
        let error = format(Some("xml")).unwrap_err().to_string();
        assert!(error.contains("HAWSER_LOG_FORMAT=\"xml\""), "{error}");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused_by_name() {
        assert!(filter(Some("warn,hawser=debug")).is_ok());
        let error = filter(Some("hawser=loud")).unwrap_err().to_string();
        assert!(error.contains("HAWSER_LOG=\"hawser=loud\""), "{error}");
    }
}
