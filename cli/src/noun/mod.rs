//! The nouns of the command line, one file each: its verbs, their options, and the requests they state.

pub(crate) mod attachment;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod pool;
pub(crate) mod replica;
pub(crate) mod resource;

use serde::Serialize;

/// Nothing to add to the JSON form of an answer.
#[derive(Serialize)]
struct NothingMore {}

/// Splits `key=value`; the value may hold further equals signs.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value".to_owned()),
    }
}

/// Reads a size with its unit.
fn size(text: &str) -> Result<u64, String> {
    hawser_proto::sizes::parse("size", text).map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn keys_and_values_need_both() {
        assert_eq!(key_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        for text in ["", "a", "a=", "=b"] {
            assert!(key_and_value(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_need_a_unit_that_means_one_thing() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert!(size("1G").is_err());
    }

    #[test]
    fn hostile_keys_and_values() {
        check(&texts(&["max-buffers=8000", "10GiB"], &["="]), |text| {
            if let Ok((key, value)) = key_and_value(&text) {
                assert_eq!(format!("{key}={value}"), text);
            }
            if let Err(words) = size(&text) {
                assert!(!words.is_empty());
            }
        });
    }
}
