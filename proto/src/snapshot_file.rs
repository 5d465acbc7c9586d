//! The bytes of a snapshot file, which a backup is, too.
//!
//! A file is: `HWSRSNAP`, format (u16), length of the header (u32), the header, its crc32c (u32), then one
//! zstd frame. In the frame: sections of length (u32), crc32c (u32) and that many bytes of length-delimited
//! records; a section of length 0; the number of records (u64). All numbers are little-endian.
//!
//! What is damaged must never be read as less.

use std::io::{self, BufRead, Read, Write};

use prost::Message;
use sha2::{Digest, Sha256};

use crate::v1;

const MAGIC: &[u8; 8] = b"HWSRSNAP";
const FORMAT: u16 = 1;
/// A section is closed when it has at least so many bytes.
const SECTION_BYTES: usize = 256 * 1024;
/// No header and no section that this or a later release writes is larger.
const LENGTH_LIMIT: u32 = 16 * 1024 * 1024;
const COMPRESSION_LEVEL: i32 = 3;

/// Writes a whole file.
///
/// # Errors
/// If the writer refuses, or a part is too large to store.
pub fn write(
    file: &mut impl Write,
    header: &v1::SnapshotHeader,
    records: impl Iterator<Item = v1::SnapshotRecord>,
) -> io::Result<()> {
    write_header(file, header)?;
    write_records(file, records)
}

/// Begins to read a file: its header, which is verified, and its records, which are as they come.
///
/// # Errors
/// As [`read_header`].
pub fn open<R: BufRead>(mut reader: R) -> io::Result<(v1::SnapshotHeader, Records<Body<R>>)> {
    let header = read_header(&mut reader)?;
    let body = zstd::stream::read::Decoder::with_buffer(reader)?.single_frame();
    Ok((header, Records::new(body)))
}

/// What follows the header, unpacked.
pub type Body<R> = zstd::stream::read::Decoder<'static, R>;

/// The file is not what was written.
fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn write_header(file: &mut impl Write, header: &v1::SnapshotHeader) -> io::Result<()> {
    let bytes = header.encode_to_vec();
    file.write_all(MAGIC)?;
    file.write_all(&FORMAT.to_le_bytes())?;
    file.write_all(&length(&bytes)?.to_le_bytes())?;
    file.write_all(&bytes)?;
    file.write_all(&crc32c::crc32c(&bytes).to_le_bytes())
}

/// Reads and verifies the header, which comes first.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it is damaged, or of a format that this release does not know.
pub fn read_header(reader: &mut impl Read) -> io::Result<v1::SnapshotHeader> {
    if read_array::<8>(reader)? != *MAGIC {
        return Err(damaged("does not begin as one does".to_owned()));
    }
    let format = u16::from_le_bytes(read_array(reader)?);
    if format != FORMAT {
        return Err(damaged(format!("has format {format}, which this release does not know")));
    }
    let bytes = read_block(reader)?;
    if u32::from_le_bytes(read_array(reader)?) != crc32c::crc32c(&bytes) {
        return Err(damaged("has a header that does not match its checksum".to_owned()));
    }
    v1::SnapshotHeader::decode(bytes.as_slice())
        .map_err(|error| damaged(format!("has a header that cannot be read: {error}")))
}

fn write_records(file: &mut impl Write, records: impl Iterator<Item = v1::SnapshotRecord>) -> io::Result<()> {
    let mut body = zstd::stream::write::Encoder::new(file, COMPRESSION_LEVEL)?;
    let mut section = Vec::with_capacity(SECTION_BYTES + SECTION_BYTES / 4);
    let mut count = 0_u64;
    for record in records {
        section.extend_from_slice(&record.encode_length_delimited_to_vec());
        count += 1;
        if section.len() >= SECTION_BYTES {
            write_section(&mut body, &section)?;
            section.clear();
        }
    }
    if !section.is_empty() {
        write_section(&mut body, &section)?;
    }
    body.write_all(&0_u32.to_le_bytes())?;
    body.write_all(&count.to_le_bytes())?;
    body.finish()?;
    Ok(())
}

fn write_section(body: &mut impl Write, section: &[u8]) -> io::Result<()> {
    body.write_all(&length(section)?.to_le_bytes())?;
    body.write_all(&crc32c::crc32c(section).to_le_bytes())?;
    body.write_all(section)
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= LENGTH_LIMIT)
        .ok_or_else(|| io::Error::other(format!("a part of {} bytes is too large to store", bytes.len())))
}

fn read_array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("is cut short".to_owned()),
        _ => error,
    })?;
    Ok(bytes)
}

/// A length and that many bytes.
fn read_block(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = u32::from_le_bytes(read_array(reader)?);
    read_bytes(reader, length)
}

fn read_bytes(reader: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    if length > LENGTH_LIMIT {
        return Err(damaged(format!("has a part of {length} bytes, more than any release writes")));
    }
    let mut bytes = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() != length as usize {
        return Err(damaged("is cut short".to_owned()));
    }
    Ok(bytes)
}

/// The records of a frame. Ends early at damage, which [`Records::finish`] then tells.
pub struct Records<R> {
    body: R,
    section: Vec<u8>,
    position: usize,
    count: u64,
    outcome: Option<io::Result<()>>,
    hasher: Sha256,
}

impl<R: Read> Records<R> {
    fn new(body: R) -> Self {
        Self { body, section: Vec::new(), position: 0, count: 0, outcome: None, hasher: Sha256::new() }
    }

    fn next_record(&mut self) -> io::Result<Option<v1::SnapshotRecord>> {
        if self.position == self.section.len() && !self.next_section()? {
            return Ok(None);
        }
        let mut rest = &self.section[self.position..];
        let before = rest.len();
        let record = v1::SnapshotRecord::decode_length_delimited(&mut rest)
            .map_err(|error| damaged(format!("has a record that cannot be read: {error}")))?;
        let length = before - rest.len();
        self.hasher.update(&self.section[self.position..self.position + length]);
        self.position += length;
        self.count += 1;
        Ok(Some(record))
    }

    /// False at the end.
    fn next_section(&mut self) -> io::Result<bool> {
        let length = u32::from_le_bytes(read_array(&mut self.body)?);
        if length == 0 {
            let count = u64::from_le_bytes(read_array(&mut self.body)?);
            if count != self.count {
                return Err(damaged(format!("has {} records instead of {count}", self.count)));
            }
            // Reading to its end makes zstd verify the frame.
            if self.body.read(&mut [0])? != 0 {
                return Err(damaged("goes on after its end".to_owned()));
            }
            return Ok(false);
        }
        let expected = u32::from_le_bytes(read_array(&mut self.body)?);
        self.section = read_bytes(&mut self.body, length)?;
        self.position = 0;
        if crc32c::crc32c(&self.section) != expected {
            return Err(damaged("has a section that does not match its checksum".to_owned()));
        }
        Ok(true)
    }

    /// Whether everything was read and verified; the SHA-256 over all records, each preceded by its length.
    ///
    /// # Errors
    /// What is damaged, or what the system says.
    pub fn finish(mut self) -> io::Result<[u8; 32]> {
        // A reader that stopped by itself may have left some.
        while self.outcome.is_none() {
            self.next();
        }
        self.outcome.unwrap_or(Ok(()))?;
        Ok(self.hasher.finalize().into())
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = v1::SnapshotRecord;

    fn next(&mut self) -> Option<v1::SnapshotRecord> {
        if self.outcome.is_some() {
            return None;
        }
        match self.next_record() {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                self.outcome = Some(Ok(()));
                None
            }
            Err(error) => {
                // What the system does not say, zstd says: the frame is damaged.
                let is_systems = error.raw_os_error().is_some();
                self.outcome = Some(Err(if is_systems { error } else { damaged(error.to_string()) }));
                None
            }
        }
    }
}
