//! A backup on its way to an administrator, in chunks that any client takes.
//!
//! It holds the secrets of all resources: nobody but an administrator reaches this service.

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use hawser_proto::v1;
use tonic::Status;

use crate::{
    api::{context::Context, error::ApiError},
    consensus::{Backup, BackupError},
};

/// Bytes in one message.
const CHUNK: usize = 64 * 1024;

/// The header, then the bytes of the file.
pub(super) type Chunks = BoxStream<'static, Result<v1::BackupResponse, Status>>;

/// Takes a backup.
///
/// # Errors
/// Where this member cannot say what the state is.
pub(super) async fn take(context: &Context) -> Result<Chunks, ApiError> {
    let Backup { header, bytes } = context.consensus.backup().await?;
    tracing::info!(
        revision = header.last_log_id.unwrap_or_default().index,
        bytes = bytes.len(),
        "a backup is taken"
    );
    let first = v1::BackupResponse { header: Some(header), chunk: Vec::new() };
    let bytes = Bytes::from(bytes);
    let chunks = (0..bytes.len()).step_by(CHUNK).map(move |start| {
        let end = bytes.len().min(start + CHUNK);
        v1::BackupResponse { header: None, chunk: bytes.slice(start..end).to_vec() }
    });
    Ok(stream::iter(std::iter::once(first).chain(chunks).map(Ok)).boxed())
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Read(error) => error.into(),
            BackupError::Empty => Self::Unavailable(error.to_string()),
            BackupError::Io(_) => Self::Internal(error.to_string()),
        }
    }
}
