//! Times as people read them: how long ago, in one unit or two.

use jiff::Timestamp;

/// How long ago `then` (milliseconds of Unix time) was, e.g. `12s`, `3m5s`, `2h`, `5d`.
pub(crate) fn since(then_unix_ms: u64, now: Timestamp) -> String {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    // Wall clocks of other machines may be ahead; nothing is younger than now.
    milliseconds(now.saturating_sub(then_unix_ms))
}

/// A length of time in a form that fits a column.
pub(crate) fn milliseconds(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        60..3600 => format!("{minutes}m"),
        3600..36000 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        3600..86400 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// RFC 3339, for programs; `None` for a time that was never set.
pub(crate) fn rfc3339(unix_ms: u64) -> Option<String> {
    let milliseconds = i64::try_from(unix_ms).ok().filter(|milliseconds| *milliseconds > 0)?;
    Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_take_one_unit_or_two() {
        for (length, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (60_000, "1m"),
            (185_000, "3m5s"),
            (600_000 + 5_000, "10m"),
            (3_600_000, "1h"),
            (5_400_000, "1h30m"),
            (86_399_000, "23h"),
            (5 * 86_400_000, "5d"),
        ] {
            assert_eq!(milliseconds(length), expected);
        }
    }

    #[test]
    fn a_time_in_the_future_counts_as_now() {
        let now = Timestamp::from_millisecond(1_000_000).unwrap();
        assert_eq!(since(2_000_000, now), "0ms");
        assert_eq!(since(940_000, now), "1m");
    }

    #[test]
    fn times_for_programs_are_rfc_3339() {
        assert_eq!(rfc3339(1_700_000_000_123).unwrap(), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
