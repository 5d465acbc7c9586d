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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check};

    use super::*;
    use crate::wire::{agent::AgentRequest, control::Request};

    #[test]
    fn hostile_requests_end_where_their_line_does() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let partition = b"{\"Partition\":{\"node\":\"n1\",\"peer\":null}}\nwhat follows";
        let execute = b"{\"Execute\":{\"arguments\":[\"ls\"],\"environment\":{}}}\nwhat follows";
        check(&bytes(&[partition, execute], &["Heal", "Kill", "n1", "\n"]), |bytes| {
            let after = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| bytes.len() - end - 1);
            let mut stream = bytes.as_slice();
            let _ = runtime.block_on(read::<Request>(&mut stream));
            assert_eq!(stream.len(), after, "it read beyond its line, or stopped before its end");
            let _ = runtime.block_on(read::<AgentRequest>(&mut bytes.as_slice()));
        });
    }
}
