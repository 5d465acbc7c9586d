//! Runs one command for the host and passes its input and output on as it comes.
//! A caller that goes away takes its command with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

use super::init;
use crate::wire::agent::Execute;
use crate::wire::frames::{Frame, LIMIT};

/// How long output is still read after the command ended, when something that it left running holds it open.
const LINGER: Duration = Duration::from_millis(200);

/// Runs the command and writes its end as the last frame.
///
/// # Errors
/// The stream's error; the command has been killed then.
pub(super) async fn run(request: Execute, stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let Some((program, arguments)) = request.arguments.split_first() else {
        return Frame::Failed("no command was given".into()).write(&mut writer).await;
    };
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(init::environment())
        .envs(&request.environment)
        .current_dir(request.directory.as_deref().unwrap_or("/"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Frame::Failed(format!("{program}: {error}")).write(&mut writer).await,
    };
    let group = Pid::from_raw(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(i32::MAX));
    let (frames, mut outgoing) = mpsc::channel(16);
    let mut readers = tokio::task::JoinSet::new();
    if let Some(output) = child.stdout.take() {
        readers.spawn_local(pump(output, Frame::Output, frames.clone()));
    }
    if let Some(output) = child.stderr.take() {
        readers.spawn_local(pump(output, Frame::ErrorOutput, frames.clone()));
    }
    let input = child.stdin.take();
    let mut caller = tokio::task::spawn_local(listen(reader, input, group));
    let mut caller_is_there = true;
    let status = loop {
        tokio::select! {
            Some(frame) = outgoing.recv() => write(&frame, &mut writer, group).await?,
            status = child.wait() => break status?,
            _ = &mut caller, if caller_is_there => {
                let _ = killpg(group, Signal::SIGKILL);
                caller_is_there = false;
            }
        }
    };
    drop(frames);
    let rest = async {
        while let Some(frame) = outgoing.recv().await {
            frame.write(&mut writer).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    if let Ok(result) = tokio::time::timeout(LINGER, rest).await {
        result?;
    }
    caller.abort();
    Frame::Exit(code(status)).write(&mut writer).await?;
    writer.shutdown().await
}

async fn write(frame: &Frame, writer: &mut OwnedWriteHalf, group: Pid) -> std::io::Result<()> {
    let result = frame.write(writer).await;
    if result.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
    }
    result
}

async fn pump(mut output: impl AsyncRead + Unpin, kind: fn(Vec<u8>) -> Frame, frames: mpsc::Sender<Frame>) {
    let mut buffer = vec![0; LIMIT];
    while let Ok(length) = output.read(&mut buffer).await {
        if length == 0 || frames.send(kind(buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Follows what the caller sends; comes back when the caller is gone.
async fn listen(mut reader: OwnedReadHalf, mut input: Option<ChildStdin>, group: Pid) {
    while let Ok(Some(frame)) = Frame::read(&mut reader).await {
        match frame {
            Frame::Input(bytes) => {
                // A command that does not read its input is no reason to end it.
                if let Some(stdin) = &mut input
                    && stdin.write_all(&bytes).await.is_err()
                {
                    input = None;
                }
            }
            Frame::InputEnd => input = None,
            Frame::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    let _ = killpg(group, signal);
                }
            }
            _ => return,
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
