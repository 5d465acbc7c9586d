//! DRBD 8.4's internal metadata: reads the superblock, and says what `drbdmeta` has to write.
//!
//! Reading takes no process and no lock. It must never call a device blank that holds anything at the place
//! of the superblock.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::super::devices::{self, SECTOR};

/// Size of the superblock, and what it is aligned to.
const BLOCK: u64 = 4096;

const MAGIC_CLEAN: u32 = 0x8374_026b;
const MAGIC_UNCLEAN: u32 = 0x8374_026c;
const FLAG_CONSISTENT: u32 = 1;
const FLAG_WAS_UP_TO_DATE: u32 = 1 << 4;
const FLAG_ACTIVITY_LOG_CLEAN: u32 = 1 << 7;

/// The current UUID of metadata that has seen no data yet.
pub const JUST_CREATED: u64 = 4;

/// What lies where the superblock belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Superblock {
    /// Zeros only.
    Blank,
    /// Metadata of DRBD 8.4.
    V8_4(Metadata84),
    /// Something else, e.g. metadata of DRBD 9 or a consumer's data.
    Foreign,
}

/// A superblock of DRBD 8.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata84 {
    /// Usable size when it was last attached, in sectors; 0 before.
    pub last_size_sectors: u64,
    /// UUID of the current data generation.
    pub current_uuid: u64,
    /// The activity log has to be applied to the bitmap before the disk is attached.
    pub unclean: bool,
    /// Data is consistent.
    pub consistent: bool,
    /// Data was up to date.
    pub was_up_to_date: bool,
}

/// Reads the superblock of a device or file.
///
/// # Errors
/// It cannot be read, or is smaller than metadata.
pub fn read(path: &Path) -> io::Result<Superblock> {
    let size = devices::size(path)?;
    let offset = (size & !(BLOCK - 1))
        .checked_sub(BLOCK)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "too small for metadata"))?;
    let mut block = [0_u8; BLOCK as usize];
    File::open(path)?.read_exact_at(&mut block, offset)?;
    Ok(parse(&block))
}

/// Reads the block that lies where the superblock belongs.
pub fn parse(block: &[u8; BLOCK as usize]) -> Superblock {
    if block.iter().all(|byte| *byte == 0) {
        return Superblock::Blank;
    }
    let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let (flags, magic) = (word(56), word(60));
    if magic != MAGIC_CLEAN && magic != MAGIC_UNCLEAN {
        return Superblock::Foreign;
    }
    Superblock::V8_4(Metadata84 {
        last_size_sectors: long(0),
        // The lowest bit says "was Primary"; it is no part of the identity.
        current_uuid: long(8),
        unclean: magic == MAGIC_UNCLEAN,
        consistent: flags & FLAG_CONSISTENT != 0,
        was_up_to_date: flags & FLAG_WAS_UP_TO_DATE != 0,
    })
}

/// What has to be written to a device for a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// Everything.
    All,
    /// Metadata was created and the day-0 generation not written yet.
    Day0Only,
    /// Nothing: it is as asked for.
    Nothing,
}

/// What has to be written, given what is there.
///
/// # Errors
/// What is there is neither blank nor as this making leaves it. The words say what it is.
pub fn making(found: &Superblock, day0: Option<u64>, size_bytes: u64) -> Result<Making, String> {
    let found = match found {
        Superblock::Blank => return Ok(Making::All),
        Superblock::Foreign => {
            return Err("there is data where the metadata belongs; it is left alone".to_owned());
        }
        Superblock::V8_4(found) => found,
    };
    let untouched = found.current_uuid == JUST_CREATED && found.last_size_sectors == 0;
    match day0 {
        None if found.current_uuid == JUST_CREATED => Ok(Making::Nothing),
        Some(_) if untouched => Ok(Making::Day0Only),
        Some(day0)
            if found.current_uuid == day0
                && found.last_size_sectors == size_bytes / SECTOR
                && found.consistent
                && found.was_up_to_date =>
        {
            Ok(Making::Nothing)
        }
        _ => Err(format!(
            "there is metadata of another making, with the UUID {:016X}; it is left alone",
            found.current_uuid
        )),
    }
}

/// What `drbdmeta` has to be told, one after the other, before the disk may be attached.
///
/// A disk that a sync was written to holds less than its bitmap says after a power cut: DRBD clears the bits of a block as
/// soon as the disk has taken it, and asks no flush of a cache, nor of a thin pool whose mappings are not committed yet.
/// The flag of consistent data comes with a flush. Without it everything has to be synced again.
pub fn before_attaching(found: &Metadata84) -> Vec<&'static str> {
    let was_in_a_sync = !found.consistent && found.current_uuid != JUST_CREATED;
    let logged = found.unclean.then_some("apply-al");
    logged.into_iter().chain(was_in_a_sync.then_some("invalidate")).collect()
}

/// The dump that `drbdmeta restore-md` turns into metadata of a replica that starts from `day0`: consistent,
/// up to date, of its final size, with no block out of sync. (With `set-gi` alone the size stays unknown,
/// and the kernel marks the whole device when it learns it.)
pub fn day0_dump(day0: u64, size_bytes: u64) -> String {
    let flags = FLAG_CONSISTENT | FLAG_WAS_UP_TO_DATE | FLAG_ACTIVITY_LOG_CLEAN;
    let sectors = size_bytes / SECTOR;
    format!(
        "version \"v08\";\n\
         uuid {{\n    0x{day0:016X}; 0x0000000000000000; 0x0000000000000000; 0x0000000000000000;\n    \
         flags 0x{flags:08X};\n}}\n\
         la-size-sect {sectors};\n\
         bm-byte-per-bit 4096;\n\
         device-uuid 0x0000000000000000;\n\
         la-peer-max-bio-size 0;\n\
         al-stripes 1;\n\
         al-stripe-size-4k 8;\n\
         bm {{ }}\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check, each_flip};

    use super::*;

    const CREATED: &[u8; 4096] = include_bytes!("../../../tests/recorded/drbd84_superblock_just_created.bin");
    const ATTACHED: &[u8; 4096] = include_bytes!("../../../tests/recorded/drbd84_superblock_attached.bin");
    const DAY0: &[u8; 4096] = include_bytes!("../../../tests/recorded/drbd84_superblock_day0.bin");

    #[test]
    fn real_superblocks_are_read() {
        let Superblock::V8_4(created) = parse(CREATED) else { panic!("not recognised") };
        assert_eq!(
            (created.current_uuid, created.last_size_sectors, created.unclean),
            (JUST_CREATED, 0, false)
        );
        let Superblock::V8_4(attached) = parse(ATTACHED) else { panic!("not recognised") };
        assert_eq!((attached.last_size_sectors, attached.unclean), (409_600, true));
        let Superblock::V8_4(day0) = parse(DAY0) else { panic!("not recognised") };
        assert_eq!((day0.current_uuid, day0.last_size_sectors), (0x1234_5678_90AB_CDE0, 409_600));
        assert!(day0.consistent && day0.was_up_to_date && !day0.unclean);
    }

    #[test]
    fn a_disk_that_was_in_a_sync_is_attached_as_one_that_lacks_everything() {
        let found = |unclean, consistent, current_uuid| Metadata84 {
            last_size_sectors: 409_600,
            current_uuid,
            unclean,
            consistent,
            was_up_to_date: false,
        };
        for (found, expected) in [
            (found(false, true, 0x40), &[][..]),
            (found(true, true, 0x40), &["apply-al"]),
            (found(false, false, 0x40), &["invalidate"]),
            (found(true, false, 0x40), &["apply-al", "invalidate"]),
            // DRBD syncs all of that anyway.
            (found(false, false, JUST_CREATED), &[]),
        ] {
            assert_eq!(before_attaching(&found), expected, "{found:?}");
        }
    }

    #[test]
    fn only_zeros_are_blank() {
        assert_eq!(parse(&[0; 4096]), Superblock::Blank);
        for at in [0, 60, 4095] {
            let mut block = [0; 4096];
            block[at] = 1;
            assert_eq!(parse(&block), Superblock::Foreign, "byte {at}");
        }
    }

    #[test]
    fn the_superblock_is_read_at_the_end_of_the_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(read(file.path()).unwrap(), Superblock::Blank);
        file.as_file().write_all_at(CREATED, (1 << 20) - 4096).unwrap();
        assert_eq!(read(file.path()).unwrap(), parse(CREATED));
        file.as_file().set_len(100).unwrap();
        assert!(read(file.path()).is_err());
    }

    #[test]
    fn nothing_is_made_over_what_is_there() {
        let size = 409_600 * SECTOR;
        let day0 = Some(0x1234_5678_90AB_CDE0);
        for (found, day0, size, expected) in [
            (parse(&[0; 4096]), day0, size, Ok(Making::All)),
            (parse(&[0; 4096]), None, size, Ok(Making::All)),
            (parse(CREATED), day0, size, Ok(Making::Day0Only)),
            (parse(CREATED), None, size, Ok(Making::Nothing)),
            (parse(DAY0), day0, size, Ok(Making::Nothing)),
            (parse(DAY0), day0, size + 4096, Err(())),
            (parse(DAY0), Some(6), size, Err(())),
            (parse(DAY0), None, size, Err(())),
            (parse(ATTACHED), day0, size, Err(())),
            (Superblock::Foreign, day0, size, Err(())),
            (Superblock::Foreign, None, size, Err(())),
        ] {
            assert_eq!(making(&found, day0, size).map_err(drop), expected, "{found:?} {day0:?} {size}");
        }
    }

    #[test]
    fn a_superblock_with_a_flipped_bit_is_never_made_anew() {
        let (day0, size) = (Some(0x1234_5678_90AB_CDE0), 409_600 * SECTOR);
        for whole in [CREATED, ATTACHED, DAY0] {
            each_flip(whole, |at, flipped| {
                let found = parse(flipped.try_into().unwrap());
                assert_ne!(making(&found, day0, size), Ok(Making::All), "byte {at}: {found:?}");
            });
        }
    }

    #[test]
    fn hostile_superblocks() {
        check(&bytes(&[CREATED, ATTACHED, DAY0], &[]), |bytes| {
            let mut block = [0; BLOCK as usize];
            let length = bytes.len().min(block.len());
            block[..length].copy_from_slice(&bytes[..length]);
            let is_blank = block.iter().all(|byte| *byte == 0);
            assert_eq!(parse(&block) == Superblock::Blank, is_blank);
        });
    }

    #[test]
    fn the_dump_names_generation_size_and_flags() {
        let dump = day0_dump(0x1234_5678_90AB_CDE0, 1 << 30);
        assert!(dump.contains("0x1234567890ABCDE0; 0x0000000000000000;"), "{dump}");
        assert!(dump.contains("flags 0x00000091;") && dump.contains("la-size-sect 2097152;"), "{dump}");
    }
}
