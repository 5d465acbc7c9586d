//! Runs one command for the host and passes its input and output on as it comes.
//! A caller that goes away takes its command with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
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
    let mut command = match &request.terminal {
        None => Command::new(program),
        // It makes the command the leader of a session with the standard input as its terminal.
        Some(_) => {
            let mut command = Command::new("setsid");
            command.arg("--ctty").arg(program);
            command
        }
    };
    command
        .args(arguments)
        .env_clear()
        .envs(init::environment())
        .envs(&request.environment)
        .current_dir(request.directory.as_deref().unwrap_or("/"));
    let (mut child, streams) = match spawn(command, request.terminal.as_deref()) {
        Ok(started) => started,
        Err(error) => return Frame::Failed(format!("{program}: {error}")).write(&mut writer).await,
    };
    let group = Pid::from_raw(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(i32::MAX));
    let (frames, mut outgoing) = mpsc::channel(16);
    let mut readers = tokio::task::JoinSet::new();
    readers.spawn_local(pump(streams.output, Frame::Output, frames.clone()));
    if let Some(errors) = streams.errors {
        readers.spawn_local(pump(errors, Frame::ErrorOutput, frames.clone()));
    }
    let input = Some(streams.input);
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
    while let Some(frame) = late_frame(&mut outgoing).await {
        frame.write(&mut writer).await?;
    }
    caller.abort();
    Frame::Exit(code(status)).write(&mut writer).await?;
    writer.shutdown().await
}

/// What connects a command with its caller.
struct Streams {
    input: Box<dyn AsyncWrite + Unpin>,
    output: Box<dyn AsyncRead + Unpin>,
    errors: Option<Box<dyn AsyncRead + Unpin>>,
}

fn spawn(mut command: Command, terminal: Option<&str>) -> std::io::Result<(Child, Streams)> {
    let Some(kind) = terminal else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("the command has no pipes");
        let streams = Streams {
            input: Box::new(child.stdin.take().ok_or_else(missing)?),
            output: Box::new(child.stdout.take().ok_or_else(missing)?),
            errors: Some(Box::new(child.stderr.take().ok_or_else(missing)?)),
        };
        return Ok((child, streams));
    };
    let pair = openpty(None, None)?;
    command
        .env("TERM", kind)
        .stdin(pair.slave.try_clone()?)
        .stdout(pair.slave.try_clone()?)
        .stderr(pair.slave);
    let child = command.spawn()?;
    let input = File::from_std(std::fs::File::from(pair.master.try_clone()?));
    let output = File::from_std(std::fs::File::from(pair.master));
    Ok((child, Streams { input: Box::new(input), output: Box::new(output), errors: None }))
}

/// The next frame of a command that has ended; none when there is nothing left, or when something that it left
/// running holds its output open.
async fn late_frame(outgoing: &mut mpsc::Receiver<Frame>) -> Option<Frame> {
    if let Ok(frame) = tokio::time::timeout(LINGER, outgoing.recv()).await {
        return frame;
    }
    // On a busy node the time may be over before what lay in the pipe was read: those who read it go first.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    outgoing.try_recv().ok()
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
async fn listen(mut reader: OwnedReadHalf, mut input: Option<Box<dyn AsyncWrite + Unpin>>, group: Pid) {
    while let Ok(Some(frame)) = Frame::read(&mut reader).await {
        match frame {
            Frame::Input(bytes) => {
                // A command that does not read its input is no reason to end it.
                if let Some(stdin) = &mut input
                    && (stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err())
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
