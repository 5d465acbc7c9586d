//! Between the state and the bytes of a snapshot file, which [`snapshot_file`] knows.
//!
//! What is damaged must never be read as a smaller state.

use std::io::{self, BufRead, Read, Write};

use hawser_proto::{snapshot_file, v1};
use hawser_state::State;

use super::verify::damaged;

/// Writes a whole file.
pub(super) fn write(file: &mut impl Write, header: &v1::SnapshotHeader, state: &State) -> io::Result<()> {
    snapshot_file::write(file, header, state.records())
}

/// Reads the state of a whole file and verifies every byte.
pub(super) fn read(reader: &mut impl BufRead) -> io::Result<State> {
    read_all(reader).map(|(_, state)| state)
}

/// As [`read`], with the header.
pub(super) fn read_all(reader: &mut impl BufRead) -> io::Result<(v1::SnapshotHeader, State)> {
    let (header, mut records) = snapshot_file::open(reader)?;
    let state = State::from_records(&mut records);
    // Damage first: it is the cause if the records make no state.
    let sha256 = records.finish()?;
    let expected = &header.records_sha256;
    if !expected.is_empty() && *expected != sha256 {
        return Err(damaged("has records that do not match its checksum".to_owned()));
    }
    Ok((header, state.map_err(|error| damaged(error.to_string()))?))
}

/// Reads and verifies the header, which comes first.
pub(super) fn read_header(reader: &mut impl Read) -> io::Result<v1::SnapshotHeader> {
    snapshot_file::read_header(reader)
}
