//! Reads percentages as LVM's and DRBD's tools print them.
//!
//! Pure. It must never take for a number what only looks like one.

/// "12.34" percent as 1234; `None` for what is no such number. More than two digits after the point are cut off.
pub(super) fn permyriad(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let hundredths = format!("{fraction:0<2}");
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.get(..2)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn hundredths_of_a_percent_are_read() {
        for (text, expected) in [
            ("0.00", Some(0)),
            ("10.94", Some(1094)),
            ("100.00", Some(10_000)),
            ("12.3", Some(1230)),
            ("12.349", Some(1234)),
            ("7", Some(700)),
            ("42949672.95", Some(u32::MAX)),
        ] {
            assert_eq!(permyriad(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_percentage_is_none() {
        for text in
            ["", ".", "1.", ".5", "+1", "1.+5", "-1", "1.2.3", "1,5", "\u{e4}", "42949672.96", "99999999999"]
        {
            assert_eq!(permyriad(text), None, "{text:?}");
        }
    }

    #[test]
    fn hostile_percentages() {
        check(&texts(&["10.94", "100.00"], &[]), |text| {
            if let Some(permyriad) = permyriad(&text) {
                let whole = text.split('.').next().and_then(|whole| whole.parse::<u32>().ok());
                assert_eq!(Some(permyriad / 100), whole, "{text:?}");
            }
        });
    }
}
