//! The numbers in an order to begin a cluster: ranges of minors and ports, as people write them.
//!
//! It must never let a range through that the state would refuse: the cluster could not begin.

use hawser_proto::{names::InvalidField, numbers, v1};
use serde::{Deserialize, Serialize};

/// What a new cluster may hand out for DRBD. What is missing stands for Hawser's own ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedNumbers {
    /// Minors, `FIRST-LAST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minors: Option<String>,
    /// TCP ports on each node, `FIRST-LAST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Ports that are never handed out, with commas between numbers and ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_ports: Option<String>,
}

impl OrderedNumbers {
    /// The ranges, read and checked.
    ///
    /// # Errors
    /// Names the field that cannot be.
    pub fn read(&self) -> Result<v1::Numbers, InvalidField> {
        let range = |field: &str, text: &Option<String>| {
            text.as_deref().map(|text| numbers::range(field, text)).transpose()
        };
        let ordered = v1::Numbers {
            minors: range("numbers.minors", &self.minors)?,
            ports: range("numbers.ports", &self.ports)?,
            reserved_ports: numbers::ranges(
                "numbers.reserved_ports",
                self.reserved_ports.as_deref().unwrap_or_default(),
            )?,
        };
        let (minors, ports, reserved_ports) = numbers::or_default(Some(&ordered));
        numbers::check_minors("numbers.minors", &minors)?;
        numbers::check_ports("numbers.ports", &ports)?;
        numbers::check_reserved_ports("numbers.reserved_ports", &reserved_ports, &ports)?;
        Ok(ordered)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(json: &str) -> Result<v1::Numbers, InvalidField> {
        serde_json::from_str::<OrderedNumbers>(json).unwrap().read()
    }

    #[test]
    fn what_is_ordered_is_read_and_the_rest_is_left_to_the_state() {
        let range = |first, last| v1::NumberRange { first, last };
        assert_eq!(read("{}").unwrap(), v1::Numbers::default());
        let all = r#"{"minors":"20-29","ports":"9000-9009","reserved_ports":"9000,9003-9004"}"#;
        let expected = v1::Numbers {
            minors: Some(range(20, 29)),
            ports: Some(range(9000, 9009)),
            reserved_ports: vec![range(9000, 9000), range(9003, 9004)],
        };
        assert_eq!(read(all).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        for (json, field) in [
            (r#"{"minors":"many"}"#, "numbers.minors"),
            (r#"{"minors":"0-9"}"#, "numbers.minors"),
            (r#"{"ports":"7000-70000"}"#, "numbers.ports"),
            (r#"{"reserved_ports":"7000-"}"#, "numbers.reserved_ports"),
            (r#"{"reserved_ports":"7000-7999"}"#, "numbers.reserved_ports"),
        ] {
            assert_eq!(read(json).unwrap_err().field, field, "{json}");
        }
    }
}
