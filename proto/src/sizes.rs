//! Sizes: what people write and read, and what a volume may have.
//!
//! Everything inside counts bytes. It must never use floating point, and never accept a size that it
//! would have to guess the meaning of.

use crate::names::{Checked, InvalidField, shown};

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;
/// Bytes in a TiB.
pub const TIB: u64 = 1 << 40;

/// Volumes are multiples of this: the largest logical block size in use.
pub const VOLUME_GRANULARITY: u64 = 4 * KIB;
/// The smallest volume: one LVM extent.
pub const SMALLEST_VOLUME: u64 = 4 * MIB;
/// The largest volume: what DRBD 8.4 takes with one bitmap.
pub const LARGEST_VOLUME: u64 = 16 * TIB;

const UNITS: [(&str, u64); 5] = [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// Reads a size as people write it: a whole number of bytes, or one with a unit, e.g. `1GiB`, `512MiB`,
/// `4096`. The units are those of IEC 80000-13; `G` and `GB`, which mean different things to different
/// tools, are refused.
pub fn parse(field: &str, text: &str) -> Checked<u64> {
    let invalid = || {
        InvalidField::new(
            field,
            format!(
                "{} is not a size: use a whole number of bytes, or one with KiB, MiB, GiB or TiB, like 10GiB",
                shown(text)
            ),
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let factor = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?.1,
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| InvalidField::new(field, format!("{} is more than 2^64 bytes", shown(text))))
}

/// Writes a size for people: exact where one unit divides it, else with two digits after the point,
/// rounded down, so that a capacity never looks larger than it is.
pub fn format(bytes: u64) -> String {
    let (unit, factor) = UNITS.iter().find(|(_, factor)| bytes >= *factor).copied().unwrap_or(("B", 1));
    let whole = bytes / factor;
    if bytes.is_multiple_of(factor) {
        return format!("{whole} {unit}");
    }
    // At most TiB, so the remainder times 100 stays below 2^64.
    let hundredths = (bytes % factor) * 100 / factor;
    format!("{whole}.{hundredths:02} {unit}")
}

/// The size that a volume asked for with `bytes` gets: rounded up to [`VOLUME_GRANULARITY`].
///
/// # Errors
/// Outside [`SMALLEST_VOLUME`]..=[`LARGEST_VOLUME`].
pub fn volume(field: &str, bytes: u64) -> Checked<u64> {
    if bytes < SMALLEST_VOLUME {
        return Err(InvalidField::new(
            field,
            format!("{} is too small: a volume has at least {}", format(bytes), format(SMALLEST_VOLUME)),
        ));
    }
    if bytes > LARGEST_VOLUME {
        return Err(InvalidField::new(
            field,
            format!("{} is too large: a volume has at most {}", format(bytes), format(LARGEST_VOLUME)),
        ));
    }
    Ok(bytes.next_multiple_of(VOLUME_GRANULARITY))
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("1KiB", KIB),
            ("512MiB", 512 * MIB),
            ("1GiB", GIB),
            ("16TiB", 16 * TIB),
        ] {
            assert_eq!(parse("size", text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "+1",
            "1.5GiB",
            "1 GiB",
            "1G",
            "1GB",
            "1gib",
            "0x10",
            "1e3",
            "18446744073709551616",
            "16777216TiB",
        ] {
            assert_eq!(parse("size", text).expect_err(text).field, "size");
        }
    }

    #[test]
    fn sizes_are_written() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (KIB, "1 KiB"),
            (GIB, "1 GiB"),
            (GIB + GIB / 2, "1.50 GiB"),
            (GIB - 1, "1023.99 MiB"),
            (u64::MAX, "16777215.99 TiB"),
        ] {
            assert_eq!(format(bytes), text);
        }
    }

    #[test]
    fn a_volume_is_rounded_up_and_bounded() {
        for (asked, given) in
            [(4 * MIB, 4 * MIB), (4 * MIB + 1, 4 * MIB + 4096), (LARGEST_VOLUME, LARGEST_VOLUME)]
        {
            assert_eq!(volume("volume_sizes[0]", asked), Ok(given));
        }
        for asked in [0, 1, 4 * MIB - 1, LARGEST_VOLUME + 1, 1 << 63, u64::MAX] {
            assert_eq!(volume("volume_sizes[0]", asked).expect_err("out of bounds").field, "volume_sizes[0]");
        }
    }

    #[test]
    fn hostile_sizes() {
        check(
            &texts(&["10GiB", "4096", "16TiB", "512MiB"], &["KiB", "GB", "B", "18446744073709551615"]),
            |text| match parse("size", &text) {
                Ok(bytes) => assert_eq!(parse("size", &bytes.to_string()), Ok(bytes)),
                Err(error) => assert!(error.field == "size" && error.message.len() < 1000, "{error}"),
            },
        );
    }
}
