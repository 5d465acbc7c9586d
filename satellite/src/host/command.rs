//! Runs one external command: an argument vector with a deadline, in a process group of its own.
//!
//! It never goes through a shell, never inherits standard input, never waits longer than it was told, and
//! never prints a secret: arguments that carry one are shown as `…`.

use std::{fmt, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

/// How much of each output stream is kept. Tools that say more have gone wrong; the rest is read and dropped.
const KEPT_OUTPUT: usize = 4 << 20;

/// How long a child may take to vanish after SIGKILL before it counts as stuck in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// Prefixes of arguments whose rest is a secret.
const SECRET_PREFIXES: [&str; 1] = ["--shared-secret="];

/// A command to run: program and arguments, as the kernel gets them.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Name of the program, looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// A command without arguments yet.
    pub fn new(program: &str) -> Self {
        CommandLine { program: program.to_owned(), arguments: Vec::new() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The process to start, with everything set that all of Hawser's commands share.
    pub(super) fn to_process(&self) -> Command {
        let mut process = Command::new(&self.program);
        process
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        process
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.program)?;
        for argument in &self.arguments {
            match SECRET_PREFIXES.iter().find(|prefix| argument.starts_with(**prefix)) {
                Some(prefix) => write!(out, " {prefix}…")?,
                None if argument.is_empty() || argument.contains([' ', '"', '\'']) => {
                    write!(out, " {argument:?}")?
                }
                None => write!(out, " {argument}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{self}`")
    }
}

/// What a command that ended by itself left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, at most 4 MiB.
    pub stdout: String,
    /// Standard error, at most 4 MiB.
    pub stderr: String,
}

/// Why a command did not do what it was started for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("`{program}` is not installed{}", package_hint(package))]
    Missing {
        /// Name of the program.
        program: String,
        /// Debian package that has it, if it is one of those that Hawser needs.
        package: Option<&'static str>,
    },
    /// It could not be started for another reason.
    #[error("`{command}` could not be started: {reason}")]
    NotStarted {
        /// Command line, secrets left out.
        command: String,
        /// The system's words.
        reason: String,
    },
    /// It was not started: what was done before it took the time that was given for all.
    #[error(
        "`{command}` was not started: of the {} s for all of this only {:.2} s were left; {}",
        .given.as_secs_f32(), .left.as_secs_f32(), taker(longest)
    )]
    NoTimeLeft {
        /// Command line, secrets left out.
        command: String,
        /// The time for all commands together.
        given: Duration,
        /// What was left of it.
        left: Duration,
        /// The earlier command that took longest.
        longest: Option<(String, Duration)>,
    },
    /// It ended with an exit status that means failure.
    #[error("`{command}` ended with {}: {message}", exit(code))]
    Failed {
        /// Command line, secrets left out.
        command: String,
        /// Exit status; `None` if a signal ended it.
        code: Option<i32>,
        /// What it said, on one line.
        message: String,
    },
    /// It did not end in time and was killed.
    #[error("`{command}` did not end within {} s and was killed", .deadline.as_secs_f32())]
    TimedOut {
        /// Command line, secrets left out.
        command: String,
        /// The time it was given.
        deadline: Duration,
    },
    /// It did not end in time and SIGKILL has not ended it either: the kernel holds it, and more commands of
    /// this kind would only pile up behind it.
    #[error("`{command}` did not end within {} s and is stuck in the kernel (killed, still there, pid {pid})", .deadline.as_secs_f32())]
    Wedged {
        /// Command line, secrets left out.
        command: String,
        /// The time it was given.
        deadline: Duration,
        /// Process id.
        pid: u32,
    },
    /// It succeeded and said something that cannot be understood.
    #[error("`{command}` answered something unexpected: {message}")]
    Unintelligible {
        /// Command line, secrets left out.
        command: String,
        /// What is wrong with the answer.
        message: String,
    },
}

impl CommandError {
    /// The command line, for reports; the program's name where none was started.
    pub fn command(&self) -> &str {
        match self {
            CommandError::Missing { program, .. } => program,
            CommandError::NotStarted { command, .. }
            | CommandError::NoTimeLeft { command, .. }
            | CommandError::Failed { command, .. }
            | CommandError::TimedOut { command, .. }
            | CommandError::Wedged { command, .. }
            | CommandError::Unintelligible { command, .. } => command,
        }
    }

    /// The exit status of a command that ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            CommandError::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether the tool's words contain `text`.
    pub fn says(&self, text: &str) -> bool {
        matches!(self, CommandError::Failed { message, .. } if message.contains(text))
    }
}

fn package_hint(package: &Option<&'static str>) -> String {
    package.map(|package| format!(" (package {package})")).unwrap_or_default()
}

fn taker(longest: &Option<(String, Duration)>) -> String {
    match longest {
        Some((command, taken)) => format!("`{command}` alone took {:.2} s", taken.as_secs_f32()),
        None => "no command took them".to_owned(),
    }
}

fn exit(code: &Option<i32>) -> String {
    match code {
        Some(code) => format!("exit status {code}"),
        None => "a signal".to_owned(),
    }
}

/// The Debian package that has a program which Hawser starts.
pub fn package_of(program: &str) -> Option<&'static str> {
    match program {
        "drbdadm" | "drbdsetup" | "drbdmeta" => Some("drbd-utils"),
        "blkdiscard" => Some("util-linux"),
        "losetup" => Some("mount"),
        "lvs" | "vgs" | "pvs" | "lvcreate" | "lvremove" | "lvchange" => Some("lvm2"),
        "dmsetup" => Some("dmsetup"),
        "modprobe" => Some("kmod"),
        _ => None,
    }
}

/// Runs a command and returns whatever exit status it ended with.
///
/// # Errors
/// [`CommandError::Missing`], [`CommandError::NotStarted`], [`CommandError::TimedOut`] and
/// [`CommandError::Wedged`]; never [`CommandError::Failed`].
pub async fn run_any_status(command: &CommandLine, deadline: Duration) -> Result<Output, CommandError> {
    let mut child = start(command, true)?;
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let pid = child.id().unwrap_or_default();
    let ended = timeout(deadline, async {
        let (stdout, stderr) = tokio::join!(read_bounded(stdout), read_bounded(stderr));
        (child.wait().await, stdout, stderr)
    })
    .await;
    match ended {
        Ok((Ok(status), stdout, stderr)) => {
            let output = Output { code: status.code(), stdout, stderr };
            tracing::debug!(%command, code = ?output.code, "command ended");
            Ok(output)
        }
        Ok((Err(error), ..)) => {
            Err(CommandError::NotStarted { command: command.to_string(), reason: error.to_string() })
        }
        Err(_) => {
            kill_group(pid);
            match timeout(AFTER_KILL, child.wait()).await {
                Ok(_) => Err(CommandError::TimedOut { command: command.to_string(), deadline }),
                Err(_) => Err(CommandError::Wedged { command: command.to_string(), deadline, pid }),
            }
        }
    }
}

/// Runs a command that has to end with exit status 0.
///
/// # Errors
/// Any [`CommandError`] but [`CommandError::Unintelligible`].
pub async fn run(command: &CommandLine, deadline: Duration) -> Result<Output, CommandError> {
    let output = run_any_status(command, deadline).await?;
    if output.code == Some(0) { Ok(output) } else { Err(failed(command, &output)) }
}

/// The error for a command whose exit status means failure.
pub(super) fn failed(command: &CommandLine, output: &Output) -> CommandError {
    let words = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let message = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = if message.is_empty() { "it gave no reason".to_owned() } else { message };
    CommandError::Failed { command: command.to_string(), code: output.code, message }
}

/// Starts a command without waiting for it.
///
/// `bound_to_us`: it is killed when the handle is dropped. Otherwise it goes on by itself.
pub(super) fn start(command: &CommandLine, bound_to_us: bool) -> Result<Child, CommandError> {
    let mut process = command.to_process();
    if !bound_to_us {
        process.stdout(Stdio::null()).stderr(Stdio::null());
    }
    process.kill_on_drop(bound_to_us).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            CommandError::Missing { program: command.program.clone(), package: package_of(&command.program) }
        }
        _ => CommandError::NotStarted { command: command.to_string(), reason: error.to_string() },
    })
}

fn kill_group(pid: u32) {
    let Ok(group) = i32::try_from(pid) else { return };
    if group > 0
        && let Err(error) =
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::SIGKILL)
    {
        tracing::debug!(group, %error, "process group was gone before it was killed");
    }
}

async fn read_bounded<R: AsyncRead + Unpin>(stream: Option<R>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0_u8; 8192];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = KEPT_OUTPUT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_failing_command_carries_its_line_status_and_words() {
        let command = CommandLine::new("ls").arg("/nonexistent directory");
        let error = run(&command, 10 * SECOND).await.unwrap_err();
        assert_eq!(error.exit_code(), Some(2));
        let text = error.to_string();
        assert!(text.starts_with("`ls \"/nonexistent directory\"` ended with exit status 2: "), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_package() {
        assert_eq!(package_of("lvs"), Some("lvm2"));
        let error = run(&CommandLine::new("hawser-no-such-program"), SECOND).await.unwrap_err();
        assert_eq!(error.to_string(), "`hawser-no-such-program` is not installed");
    }

    #[tokio::test]
    async fn the_deadline_ends_the_whole_process_group() {
        // `timeout` runs in the foreground of its group and starts a child that would hold the pipe open.
        let command = CommandLine::new("timeout").args(["--foreground", "100", "sleep", "100"]);
        let error = run(&command, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn output_and_surroundings_are_what_tools_expect() {
        let output = run(&CommandLine::new("printenv").arg("LC_ALL"), 10 * SECOND).await.unwrap();
        assert_eq!(output.stdout, "C\n");
        let output = run(&CommandLine::new("cat"), 10 * SECOND).await.unwrap();
        assert_eq!(output.stdout, "", "standard input is empty, not the terminal");
    }

    #[test]
    fn secrets_are_not_shown() {
        let command = CommandLine::new("drbdsetup").args(["connect", "--shared-secret=abc"]);
        assert_eq!(command.to_string(), "drbdsetup connect --shared-secret=…");
        assert!(!format!("{command:?}").contains("abc"));
    }
}
