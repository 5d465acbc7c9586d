//! A running command's input and output on one stream: kind, length, content.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most that one frame carries, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// What passes between the caller of a command and the agent that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes for the command's standard input.
    Input(Vec<u8>),
    /// Its standard input has ended.
    InputEnd,
    /// A signal for the command's process group.
    Signal(i32),
    /// Bytes from its standard output.
    Output(Vec<u8>),
    /// Bytes from its standard error.
    ErrorOutput(Vec<u8>),
    /// It ended: its code, or 128 plus the signal that ended it.
    Exit(i32),
    /// It could not be started, and why.
    Failed(String),
}

impl Frame {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Input(bytes) => (0, bytes),
            Self::InputEnd => (1, &[]),
            Self::Signal(_) => (2, &[]),
            Self::Output(bytes) => (3, bytes),
            Self::ErrorOutput(bytes) => (4, bytes),
            Self::Exit(_) => (5, &[]),
            Self::Failed(text) => (6, text.as_bytes()),
        }
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let (kind, bytes) = self.parts();
        let number = match self {
            Self::Signal(number) | Self::Exit(number) => Some(number.to_be_bytes()),
            _ => None,
        };
        let content = number.as_ref().map_or(bytes, |number| &number[..]);
        let length = u32::try_from(content.len())
            .map_err(|_| Error::new(ErrorKind::InvalidInput, "a frame is longer than 4 GiB"))?;
        let mut whole = Vec::with_capacity(content.len() + 5);
        whole.push(kind);
        whole.extend_from_slice(&length.to_be_bytes());
        whole.extend_from_slice(content);
        stream.write_all(&whole).await?;
        stream.flush().await
    }

    /// Reads the next frame; none at the orderly end of the stream.
    ///
    /// # Errors
    /// The stream's error, or `InvalidData` for a kind or length that no frame has.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Self>> {
        let kind = match stream.read_u8().await {
            Ok(kind) => kind,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = stream.read_u32().await? as usize;
        if length > LIMIT {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("a frame of {length} bytes, at most {LIMIT} allowed"),
            ));
        }
        let mut content = vec![0; length];
        stream.read_exact(&mut content).await?;
        let number = || {
            <[u8; 4]>::try_from(&content[..]).map(i32::from_be_bytes).map_err(|_| {
                Error::new(ErrorKind::InvalidData, format!("frame kind {kind} has no number in it"))
            })
        };
        Ok(Some(match kind {
            0 => Self::Input(content),
            1 => Self::InputEnd,
            2 => Self::Signal(number()?),
            3 => Self::Output(content),
            4 => Self::ErrorOutput(content),
            5 => Self::Exit(number()?),
            6 => Self::Failed(String::from_utf8_lossy(&content).into_owned()),
            other => {
                return Err(Error::new(ErrorKind::InvalidData, format!("frame kind {other} does not exist")));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check};

    use super::*;

    #[tokio::test]
    async fn every_frame_arrives_as_it_was_sent_and_the_end_is_an_end() {
        let frames = [
            Frame::Input(b"in".to_vec()),
            Frame::InputEnd,
            Frame::Signal(15),
            Frame::Output(vec![7; LIMIT]),
            Frame::ErrorOutput(Vec::new()),
            Frame::Exit(-3),
            Frame::Failed("no such program".into()),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).await.unwrap();
        }
        let mut stream = &bytes[..];
        for frame in &frames {
            assert_eq!(Frame::read(&mut stream).await.unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut stream).await.unwrap(), None);
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        for bytes in [&[9, 0, 0, 0, 0][..], &[0, 0xff, 0, 0, 0], &[5, 0, 0, 0, 1, 0]] {
            let mut stream = bytes;
            assert_eq!(
                Frame::read(&mut stream).await.unwrap_err().kind(),
                ErrorKind::InvalidData,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn hostile_frames() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut whole = Vec::new();
        for frame in
            [Frame::Output(b"out".to_vec()), Frame::Exit(-3), Frame::Failed("no such program".into())]
        {
            runtime.block_on(frame.write(&mut whole)).unwrap();
        }
        check(&bytes(&[&whole], &[]), |bytes| {
            let mut stream = bytes.as_slice();
            while let Ok(Some(frame)) = runtime.block_on(Frame::read(&mut stream)) {
                let mut again = Vec::new();
                runtime.block_on(frame.write(&mut again)).unwrap();
                assert_eq!(runtime.block_on(Frame::read(&mut &again[..])).unwrap(), Some(frame));
            }
        });
    }
}
