//! Configuration files in TOML: read whole, checked at once, refused with file, line and field.
//!
//! It must never fill in what a file leaves out: defaults belong to the type that is read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// There is no such file.
    #[error("configuration file {} does not exist; create it or name another with --config", .path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error("configuration file {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML, or a field is wrong, unknown or missing.
    #[error("configuration file {}, {place}: {message}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, column and text of the place that is wrong.
        place: String,
        /// What is wrong there; names the field where one is missing or unknown.
        message: String,
    },
    /// A field has a value that the program cannot use.
    #[error("configuration file {}, field {field}: {message}", .path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, dotted.
        field: String,
        /// What is wrong and what to write instead.
        message: String,
    },
}

/// Reads `path` into `T`.
///
/// `T` carries `#[serde(deny_unknown_fields)]`, so that a misspelt field is refused, not ignored.
///
/// # Errors
/// Names the file and what is wrong in it.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigurationError> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigurationError::Missing { path: path.to_owned() },
        _ => ConfigurationError::Unreadable { path: path.to_owned(), source },
    })?;
    parse(path, &text)
}

/// Reads `text`, which came from `path`, into `T`.
///
/// # Errors
/// As [`load`], but for reading.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigurationError> {
    toml::from_str(text).map_err(|error| ConfigurationError::Wrong {
        path: path.to_owned(),
        place: error.span().map_or_else(|| "whole file".to_owned(), |span| place(text, span.start)),
        message: error.message().trim().replace('\n', ", "),
    })
}

/// Line and column (both from 1) of byte `offset`, with the line's text.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|character| *character != '\n').count();
    let shown = text.lines().nth(line).unwrap_or_default().trim();
    if shown.is_empty() {
        format!("line {}", line + 1)
    } else {
        format!("line {}, column {} (`{shown}`)", line + 1, column + 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        #[serde(default)]
        raft: Raft,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Raft {
        heartbeat_ms: u64,
    }

    #[test]
    fn a_good_file_is_read_and_a_missing_one_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("controller.toml");

        let missing = load::<Example>(&path).unwrap_err().to_string();
        fs::write(&path, "name = \"n1\"\n[raft]\nheartbeat_ms = 100\n").unwrap();
        let read: Example = load(&path).unwrap();

        assert!(missing.contains("controller.toml does not exist"), "{missing}");
        assert_eq!(read, Example { name: "n1".into(), raft: Raft { heartbeat_ms: 100 } });
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_field() {
        for (text, expected) in [
            ("nmae = \"n1\"\n", "line 1, column 1 (`nmae = \"n1\"`): unknown field `nmae`"),
            ("name = 7\n", "line 1, column 8 (`name = 7`): invalid type: integer `7`, expected a string"),
            ("[raft]\nheartbeat_ms = 1\n", "missing field `name`"),
            ("name = \"n1\"\n[raft]\nheartbeat_ms = -1\n", "line 3, column 16 (`heartbeat_ms = -1`)"),
            ("name = \"n1\"\n[raft]\nhearbeat_ms = 1\n", "unknown field `hearbeat_ms`"),
            ("name = \"n1", "line 1"),
        ] {
            let error = parse::<Example>(Path::new("/etc/hawser/x.toml"), text).unwrap_err().to_string();
            assert!(error.starts_with("configuration file /etc/hawser/x.toml, "), "{error}");
            assert!(error.contains(expected), "{text:?} gave {error:?}, not {expected:?}");
            assert!(!error.contains('\n'), "one line: {error:?}");
        }
    }

    #[test]
    fn hostile_files() {
        let samples = ["name = \"n1\"\n[raft]\nheartbeat_ms = 100\n", "name = \"\"\"\na\n\"\"\"\n"];
        check(&texts(&samples, &["name", "[raft]", "[[", " = ", "heartbeat_ms"]), |text| {
            if let Err(error) = parse::<Example>(Path::new("/etc/hawser/x.toml"), &text) {
                let error = error.to_string();
                assert!(error.starts_with("configuration file /etc/hawser/x.toml, "), "{error}");
            }
        });
    }
}
