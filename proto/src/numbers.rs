//! DRBD's minors and TCP ports: the ranges that a cluster hands out, as people write them and as every door checks
//! them.
//!
//! It must never guess the end of a range, nor accept one that nothing can be handed out of.

use crate::{
    names::{Checked, InvalidField, shown},
    v1::{NumberRange, Numbers},
};

/// Minors that a cluster hands out where nothing else was said.
pub const DEFAULT_MINORS: NumberRange = NumberRange { first: 1000, last: 49_999 };
/// Ports that a cluster hands out on each node where nothing else was said.
pub const DEFAULT_PORTS: NumberRange = NumberRange { first: 7000, last: 7999 };

/// The kernel has 20 bits for a minor (`MINORBITS`); 0 stands for none in Hawser's forms.
const MINORS: NumberRange = NumberRange { first: 1, last: (1 << 20) - 1 };
/// Port 0 stands for any.
const PORTS: NumberRange = NumberRange { first: 1, last: 65_535 };

/// Reads a range as people write it: `FIRST-LAST` with both ends included, or one number.
///
/// # Errors
/// What is neither, with the right form.
pub fn range(field: &str, text: &str) -> Checked<NumberRange> {
    let number =
        |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) => Ok(NumberRange { first, last }),
        _ => Err(InvalidField::new(
            field,
            format!("{} is not a range: write FIRST-LAST, like 7000-7999, or one number", shown(text)),
        )),
    }
}

/// Reads ranges that are separated by commas; an empty text has none.
///
/// # Errors
/// As [`range`].
pub fn ranges(field: &str, text: &str) -> Checked<Vec<NumberRange>> {
    text.split(',').filter(|_| !text.is_empty()).map(|part| range(field, part)).collect()
}

/// A range as [`range`] reads it.
#[must_use]
pub fn written(range: &NumberRange) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

/// Checks minors that are to be handed out.
///
/// # Errors
/// What the kernel has no minors for.
pub fn check_minors(field: &str, minors: &NumberRange) -> Checked {
    check_within(field, minors, MINORS, "minor")
}

/// Checks ports that are to be handed out.
///
/// # Errors
/// What TCP has no ports for.
pub fn check_ports(field: &str, ports: &NumberRange) -> Checked {
    check_within(field, ports, PORTS, "TCP port")
}

/// Checks the ports that are never handed out, although they lie among those that are.
///
/// # Errors
/// What TCP has no ports for, and ranges that leave nothing of `ports`.
pub fn check_reserved_ports(field: &str, reserved: &[NumberRange], ports: &NumberRange) -> Checked {
    for range in reserved {
        check_within(field, range, PORTS, "TCP port")?;
    }
    match first_outside(ports, reserved) {
        Some(_) => Ok(()),
        None => Err(InvalidField::new(
            field,
            format!("nothing is left of the ports {}: reserve fewer, or hand out more", written(ports)),
        )),
    }
}

/// The smallest number of `range` that is in none of `others`.
#[must_use]
pub fn first_outside(range: &NumberRange, others: &[NumberRange]) -> Option<u32> {
    let mut candidate = range.first;
    while let Some(other) = others.iter().find(|other| (other.first..=other.last).contains(&candidate)) {
        candidate = other.last.checked_add(1)?;
    }
    (candidate <= range.last).then_some(candidate)
}

/// What a cluster hands out, with what was said of it filled up.
#[must_use]
pub fn or_default(said: Option<&Numbers>) -> (NumberRange, NumberRange, Vec<NumberRange>) {
    let said = said.cloned().unwrap_or_default();
    (said.minors.unwrap_or(DEFAULT_MINORS), said.ports.unwrap_or(DEFAULT_PORTS), said.reserved_ports)
}

fn check_within(field: &str, range: &NumberRange, all: NumberRange, what: &str) -> Checked {
    let problem = if range.first > range.last {
        format!("{}-{} is not a range: the first number is the smaller one", range.first, range.last)
    } else if range.first < all.first || range.last > all.last {
        format!("{} is not within {}: there is no such {what}", written(range), written(&all))
    } else {
        return Ok(());
    };
    Err(InvalidField::new(field, problem))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_hostile::{check, texts};

    use super::*;

    fn of(first: u32, last: u32) -> NumberRange {
        NumberRange { first, last }
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for (text, expected) in [("7000-7999", of(7000, 7999)), ("7010", of(7010, 7010)), ("0-0", of(0, 0))] {
            assert_eq!(range("--ports", text).unwrap(), expected);
        }
        assert_eq!(written(&of(7000, 7999)), "7000-7999");
        assert_eq!(written(&of(7010, 7010)), "7010");
        assert_eq!(ranges("f", "").unwrap(), []);
        assert_eq!(ranges("f", "7010,7020-7029").unwrap(), [of(7010, 7010), of(7020, 7029)]);
        for text in ["", "a", "7000-", "-7000", "7000-7999-8000", "+1", "1.5", " 7000", "4294967296"] {
            let error = range("--ports", text).unwrap_err();
            assert_eq!(error.field, "--ports");
            assert!(error.message.contains("write FIRST-LAST"), "{error}");
        }
        assert!(ranges("f", "7010,").is_err());
    }

    #[test]
    fn only_what_can_be_handed_out_is_accepted() {
        type Check = fn(&str, &NumberRange) -> Checked;
        let cases: [(Check, NumberRange, Option<&str>); 8] = [
            (check_minors, of(1, 1_048_575), None),
            (check_minors, of(0, 5), Some("no such minor")),
            (check_minors, of(1, 1_048_576), Some("no such minor")),
            (check_minors, of(9, 8), Some("the smaller one")),
            (check_ports, of(1, 65_535), None),
            (check_ports, of(0, 5), Some("no such TCP port")),
            (check_ports, of(7000, 65_536), Some("no such TCP port")),
            (check_ports, of(7001, 7000), Some("the smaller one")),
        ];
        for (check, range, problem) in cases {
            match (check("f", &range), problem) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => assert!(error.message.contains(words), "{error}"),
                (outcome, _) => panic!("{range:?}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn reserved_ports_leave_some() {
        let ports = of(7000, 7009);
        for (reserved, fine) in [
            (vec![], true),
            (vec![of(6000, 7008)], true),
            (vec![of(1, 65_535)], false),
            (vec![of(7005, 7009), of(6999, 7004)], false),
            (vec![of(7005, 7004)], false),
            (vec![of(0, 1)], false),
        ] {
            assert_eq!(check_reserved_ports("f", &reserved, &ports).is_ok(), fine, "{reserved:?}");
        }
    }

    #[test]
    fn the_first_number_outside_is_found_whatever_the_order() {
        let others = [of(5, 6), of(1, 2), of(3, 4), of(4, 4), of(9, u32::MAX)];
        assert_eq!(first_outside(&of(1, 10), &others), Some(7));
        assert_eq!(first_outside(&of(9, 10), &others), None);
        assert_eq!(first_outside(&of(1, 6), &others), None);
        assert_eq!(first_outside(&of(3, 1), &[]), None);
    }

    #[test]
    fn hostile_ranges() {
        check(&texts(&["7000-7999", "7010,7020-7029", "0-4294967295"], &["4294967295-", ",,"]), |text| {
            match ranges("ports", &text) {
                Ok(found) => {
                    let again = found.iter().map(written).collect::<Vec<_>>().join(",");
                    assert_eq!(ranges("ports", &again).unwrap(), found);
                    for range in &found {
                        let first = first_outside(range, &found);
                        assert!(first.is_none(), "{first:?} of {range:?} is in none of {found:?}");
                        let checked = [check_minors("f", range), check_ports("f", range)];
                        assert!(
                            checked
                                .iter()
                                .flat_map(|checked| checked.as_ref().err())
                                .all(|error| error.field == "f")
                        );
                    }
                }
                Err(error) => assert_eq!(error.field, "ports"),
            }
        });
    }
}
