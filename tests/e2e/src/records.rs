//! Numbered, checksummed records in a file: what a story writes before a failure and looks for afterwards.
//!
//! A record counts as acknowledged only after `fdatasync` returned. This module must never repair or
//! skip what it reads: a record is there, whole and under its own number, or the check says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of one record: one block, so that no record shares a block with another.
pub const RECORD_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"HAWSERRC";

/// Encodes record `number`. Its filling depends on the number, so that a misplaced block is noticed.
pub fn encode(number: u64) -> [u8; RECORD_BYTES] {
    let mut block = [0_u8; RECORD_BYTES];
    block[..8].copy_from_slice(MAGIC);
    block[8..16].copy_from_slice(&number.to_le_bytes());
    for (offset, byte) in block[16..RECORD_BYTES - 4].iter_mut().enumerate() {
        *byte = (number.wrapping_mul(31).wrapping_add(offset as u64) & 0xff) as u8;
    }
    let checksum = crc32c::crc32c(&block[..RECORD_BYTES - 4]);
    block[RECORD_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// Whether `block` is record `number`, whole.
pub fn is_record(block: &[u8], number: u64) -> bool {
    block == encode(number)
}

/// Appends records to a file, one durable write each.
pub struct RecordWriter {
    file: File,
    next: u64,
}

impl RecordWriter {
    /// Opens `path`, made if it is not there, and goes on after `last`.
    pub fn open(path: &Path, last: u64) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {} for writing records", path.display()))?;
        Ok(Self { file, next: last + 1 })
    }

    /// Writes the next record and returns its number once it is durable.
    pub fn append(&mut self) -> io::Result<u64> {
        let number = self.next;
        self.file.write_all_at(&encode(number), (number - 1) * RECORD_BYTES as u64)?;
        self.file.sync_data()?;
        self.next += 1;
        Ok(number)
    }
}

/// Checks that records 1 to `last` are all in `path`, and returns how many whole ones follow them.
///
/// # Errors
/// Names the first record that is missing or damaged.
pub fn verify(path: &Path, last: u64) -> Result<u64> {
    let file = File::open(path).with_context(|| format!("cannot open {} for reading", path.display()))?;
    let mut block = [0_u8; RECORD_BYTES];
    for number in 1..=last {
        file.read_exact_at(&mut block, (number - 1) * RECORD_BYTES as u64)
            .with_context(|| format!("record {number} of {last} acknowledged ones cannot be read"))?;
        ensure!(is_record(&block, number), "record {number} of {last} acknowledged ones is lost or damaged");
    }
    let mut beyond = 0;
    while file.read_exact_at(&mut block, (last + beyond) * RECORD_BYTES as u64).is_ok()
        && is_record(&block, last + beyond + 1)
    {
        beyond += 1;
    }
    Ok(beyond)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(directory: &tempfile::TempDir, count: u64) -> std::path::PathBuf {
        let path = directory.path().join("records");
        let mut writer = RecordWriter::open(&path, 0).unwrap();
        for number in 1..=count {
            assert_eq!(writer.append().unwrap(), number);
        }
        path
    }

    #[test]
    fn what_was_written_is_found_and_what_follows_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(&directory, 5);

        assert_eq!(verify(&path, 5).unwrap(), 0);
        assert_eq!(verify(&path, 3).unwrap(), 2);
    }

    #[test]
    fn a_missing_and_a_damaged_record_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(&directory, 3);

        assert!(verify(&path, 4).unwrap_err().to_string().contains("record 4 of 4"));

        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"x", RECORD_BYTES as u64 + 100).unwrap();
        assert_eq!(
            verify(&path, 3).unwrap_err().to_string(),
            "record 2 of 3 acknowledged ones is lost or damaged"
        );
    }

    #[test]
    fn a_record_in_the_place_of_another_is_not_taken_for_it() {
        assert!(is_record(&encode(7), 7));
        assert!(!is_record(&encode(7), 8));
    }
}
