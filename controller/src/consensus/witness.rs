//! A second place that remembers how far the log has come.
//!
//! sled cuts off what it finds damaged, without a word: one flipped bit can make a shorter log that looks
//! whole. The witness is a small file beside it, so that such a log is recognised. It may lag behind the log
//! by some syncs, and must never be ahead of it.
//!
//! The file has two slots, written in turn, so that a torn write leaves the older one. A slot is: number of
//! the write (u64), term (u64), length of the log (u64), crc32c of these (u32), little-endian.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::verify::damaged;

const SLOT_BYTES: usize = 8 + 8 + 8 + 4;
/// Each slot has a sector, and a block of any disk, of its own.
const SLOT_DISTANCE: u64 = 4096;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Testimony {
    /// Term of the latest vote.
    pub term: u64,
    /// Index after the last entry.
    pub length: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Witness {
    path: PathBuf,
    file: File,
    number: u64,
    latest: Testimony,
}

impl Witness {
    /// Makes the file for an empty log.
    ///
    /// # Errors
    /// If it is there already or the system refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(2 * SLOT_DISTANCE)?;
        let latest = Testimony::default();
        let mut witness = Self { path: path.to_owned(), file, number: 0, latest };
        witness.write(latest)?;
        witness.file.sync_all()?;
        Ok(witness)
    }

    /// Opens the file of a log.
    ///
    /// # Errors
    /// If it cannot be read, or says nothing that can be believed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(format!("{} is missing", path.display())),
            _ => error,
        })?;
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let (number, latest) = slots
            .into_iter()
            .flatten()
            .max_by_key(|(number, _)| *number)
            .ok_or_else(|| damaged(format!("{} is unreadable", path.display())))?;
        Ok(Self { path: path.to_owned(), file, number, latest })
    }

    /// What was written last.
    #[must_use]
    pub fn testimony(&self) -> Testimony {
        self.latest
    }

    /// Writes down, durably, what is on disk.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn testify(&mut self, testimony: Testimony) -> io::Result<()> {
        if testimony == self.latest { Ok(()) } else { self.write(testimony) }
    }

    fn write(&mut self, testimony: Testimony) -> io::Result<()> {
        self.number += 1;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        for word in [self.number, testimony.term, testimony.length] {
            slot.extend_from_slice(&word.to_le_bytes());
        }
        let sum = crc32c::crc32c(&slot);
        slot.extend_from_slice(&sum.to_le_bytes());
        self.file
            .write_all_at(&slot, self.number % 2 * SLOT_DISTANCE)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))?;
        self.latest = testimony;
        Ok(())
    }
}

/// `None` if it was never completely written.
fn read_slot(file: &File, slot: u64) -> io::Result<Option<(u64, Testimony)>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (words, sum) = bytes.split_at(SLOT_BYTES - 4);
    if crc32c::crc32c(words).to_le_bytes() != sum {
        return Ok(None);
    }
    let word = |position: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&words[position * 8..position * 8 + 8]);
        u64::from_le_bytes(word)
    };
    Ok(Some((word(0), Testimony { term: word(1), length: word(2) })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_last_testimony_is_found_and_a_torn_one_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness");
        let mut witness = Witness::create(&path).unwrap();
        for length in 1..=6 {
            witness.testify(Testimony { term: 2, length }).unwrap();
        }
        let last_slot = witness.number % 2 * SLOT_DISTANCE;
        drop(witness);
        assert_eq!(Witness::open(&path).unwrap().testimony(), Testimony { term: 2, length: 6 });

        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff], last_slot + 17).unwrap();
        assert_eq!(Witness::open(&path).unwrap().testimony(), Testimony { term: 2, length: 5 });

        file.set_len(0).unwrap();
        assert_eq!(Witness::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(Witness::create(&path).is_err(), "a witness was overwritten");
    }
}
