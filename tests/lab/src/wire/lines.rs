//! One JSON document per line: the opening of every conversation of the lab.

use std::io::{Error, ErrorKind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest line that is accepted, in bytes.
const LIMIT: usize = 1 << 20;

/// Writes one value.
///
/// # Errors
/// The stream's error, or `InvalidData` when the value has no JSON form.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Reads one value, and not a byte beyond its line: what follows may not be JSON.
///
/// # Errors
/// `UnexpectedEof` when the other side ended before the line did, `InvalidData` when it is not the expected value.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<T> {
    let mut line = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            break;
        }
        if line.len() == LIMIT {
            return Err(Error::new(ErrorKind::InvalidData, format!("a line is longer than {LIMIT} bytes")));
        }
        line.push(byte);
    }
    serde_json::from_slice(&line).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}
