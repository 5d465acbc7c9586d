//! Cuts the power under the log store, again and again, and counts what was acknowledged and is gone.
//!
//! A writer appends to the real log store on an ext4 file system of its own and tells what it acknowledged.
//! At a random moment the file system is shut down without flushing its journal, which is what a power cut
//! leaves; then it is mounted again and read by a new process. Needs root, and ext4 on a loop file or on a
//! device that may be overwritten.
//!
//! Ends with 0 if nothing was lost, 1 if something was, 2 if the test could not be carried out. The last
//! line says so.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use hawser_controller::consensus::{
    log_store::LogStore,
    sled_engine::{Barrier, SledEngine},
    types::{Entry, Proposal, TypeConfig, Vote, log_id},
    witness::Witness,
};
use hawser_proto::v1;
use openraft::{
    EntryPayload, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: u32 = 0x8004_587d;
/// Neither data nor journal is written any more: all that was not synced is gone.
const SHUTDOWN_NOLOGFLUSH: u32 = 2;
const FILE_SYSTEM_BYTES: u64 = 64 * 1024 * 1024;
/// For a tool of the system. Mounting replays a journal.
const TOOL_DEADLINE: Duration = Duration::from_secs(30);
/// For the first acknowledgement of a round.
const WRITER_DEADLINE: Duration = Duration::from_secs(20);
const LONGEST_WRITING_MS: u64 = 600;
const SHORTEST_WRITING_MS: u64 = 50;
const LARGEST_BATCH: u64 = 16;

/// Cuts the power under the log store and counts what is lost.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// How often the power is cut.
    #[arg(long, default_value_t = 12)]
    rounds: u32,
    /// Acknowledge after sled's own flush: shows that this test finds what it looks for.
    #[arg(long)]
    without_barrier: bool,
    /// A block device that may be overwritten; without it a loop file is used.
    #[arg(long)]
    device: Option<PathBuf>,
    /// Where the loop file and the mount point are made.
    #[arg(long, default_value = "/tmp")]
    directory: PathBuf,
    /// Chooses the moments of the cuts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What this program runs itself as.
#[derive(Subcommand)]
enum Part {
    /// Append until killed; each acknowledged index goes to standard output.
    #[command(hide = true)]
    Write {
        store: PathBuf,
        #[arg(long)]
        without_barrier: bool,
    },
    /// Open the store and print how many entries it holds.
    #[command(hide = true)]
    Verify { store: PathBuf },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Write { store, without_barrier }) => write(store, *without_barrier),
        Some(Part::Verify { store }) => verify(store),
        None => cut_repeatedly(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        println!("NOT RUN: {error:#}");
        ExitCode::from(2)
    })
}

/// What the rounds came to.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    lost_entries: u64,
    rounds_with_loss: u32,
    unreadable: u32,
}

fn cut_repeatedly(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let workplace = arguments.directory.join(format!("hawser-power-cut-{}", std::process::id()));
    fs::create_dir_all(workplace.join("mounted"))?;
    let ground = Ground { workplace, device: arguments.device.clone() };
    let outcome = run_rounds(arguments, &ground);
    ground.clean_up();
    let tally = outcome?;
    let Tally { acknowledged, lost_entries, rounds_with_loss, unreadable } = tally;
    let nothing_lost = rounds_with_loss == 0 && unreadable == 0;
    println!(
        "{}: {} power cuts {} barrier, {acknowledged} entries acknowledged, {lost_entries} lost in \
         {rounds_with_loss} rounds, {unreadable} stores unreadable",
        if nothing_lost { "NOTHING LOST" } else { "LOST" },
        arguments.rounds,
        if arguments.without_barrier { "without the" } else { "with the" },
    );
    Ok(ExitCode::from(u8::from(!nothing_lost)))
}

fn run_rounds(arguments: &Arguments, ground: &Ground) -> anyhow::Result<Tally> {
    ground.make_file_system()?;
    let mut chance = StdRng::seed_from_u64(arguments.seed);
    let mut tally = Tally::default();
    for round in 1..=arguments.rounds {
        let writing = Duration::from_millis(chance.random_range(SHORTEST_WRITING_MS..LONGEST_WRITING_MS));
        let store = ground.mount_point().join(format!("round-{round}"));
        ground.mount()?;
        let acknowledged = write_until_cut(arguments, ground, &store, writing)?;
        ground.unmount()?;
        ground.mount()?;
        let found = run_verifier(&store)?;
        // Only to make room: if it stays, a later round that lacks it says so.
        let _stays = fs::remove_dir_all(&store);
        ground.unmount()?;

        tally.acknowledged += acknowledged;
        let verdict = match found {
            Ok(entries) if entries >= acknowledged => format!("{entries} found"),
            Ok(entries) => {
                tally.lost_entries += acknowledged - entries;
                tally.rounds_with_loss += 1;
                format!("only {entries} found")
            }
            Err(reason) => {
                tally.unreadable += 1;
                format!("unreadable: {reason}")
            }
        };
        println!("round {round}: {acknowledged} acknowledged in {} ms, {verdict}", writing.as_millis());
    }
    Ok(tally)
}

/// Where the file system lies.
struct Ground {
    workplace: PathBuf,
    device: Option<PathBuf>,
}

impl Ground {
    fn mount_point(&self) -> PathBuf {
        self.workplace.join("mounted")
    }

    fn source(&self) -> PathBuf {
        self.device.clone().unwrap_or_else(|| self.workplace.join("image"))
    }

    fn make_file_system(&self) -> anyhow::Result<()> {
        // Where these are part of the kernel there are no modules to load; if they are missing, mount says so.
        let _built_in = run(Command::new("modprobe").args(["--all", "loop", "ext4"]));
        if self.device.is_none() {
            File::create(self.source())?.set_len(FILE_SYSTEM_BYTES)?;
        }
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(self.source()))
    }

    fn mount(&self) -> anyhow::Result<()> {
        let options = if self.device.is_some() { "noatime" } else { "noatime,loop" };
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", options])
            .arg(self.source())
            .arg(self.mount_point()))
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(self.mount_point()))
    }

    fn clean_up(&self) {
        // It is mounted only if a round broke off.
        let _not_mounted = self.unmount();
        // The rounds' outcome is what counts; what stays here lies in a directory for temporary files.
        let _stays = fs::remove_dir_all(&self.workplace);
    }

    /// The power cut.
    fn shut_down(&self) -> anyhow::Result<()> {
        let root = File::open(self.mount_point())?;
        shut_down_file_system(&root).context("cannot shut the file system down; is it ext4?")
    }
}

nix::ioctl_write_ptr_bad!(
    /// Ends all writing to an ext4 file system at once.
    #[allow(unsafe_code)]
    ext4_shutdown,
    EXT4_IOC_SHUTDOWN,
    u32
);

#[allow(unsafe_code)]
fn shut_down_file_system(root: &File) -> nix::Result<()> {
    // SAFETY: the descriptor is open for the whole call, and the kernel reads one u32 through the pointer,
    // which points to a constant of that type.
    unsafe { ext4_shutdown(root.as_raw_fd(), &SHUTDOWN_NOLOGFLUSH) }.map(drop)
}

/// Lets a writer work for a while and cuts the power. Answers how many entries had been acknowledged.
fn write_until_cut(
    arguments: &Arguments,
    ground: &Ground,
    store: &Path,
    writing: Duration,
) -> anyhow::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("write").arg(store).stdin(Stdio::null()).stdout(Stdio::piped());
    if arguments.without_barrier {
        command.arg("--without-barrier");
    }
    let mut writer = command.spawn()?;
    let acknowledged = Arc::new(Acknowledged::default());
    let output = writer.stdout.take().context("the writer has no output")?;
    let reader = {
        let acknowledged = Arc::clone(&acknowledged);
        thread::spawn(move || acknowledged.follow(output))
    };
    let outcome = acknowledged.wait_for_the_first().and_then(|()| {
        thread::sleep(writing);
        // What is acknowledged while the file system goes down does not count: a sync that is under way
        // then may succeed without having done anything.
        let counted = acknowledged.count();
        ground.shut_down().map(|()| counted)
    });
    end(&mut writer)?;
    // It ends with the writer's output; if it panicked, what it had counted until then was acknowledged.
    let _panicked = reader.join();
    outcome
}

/// How many entries the writer has acknowledged.
#[derive(Default)]
struct Acknowledged {
    entries: AtomicU64,
    first: (Mutex<bool>, Condvar),
}

impl Acknowledged {
    fn follow(&self, mut output: impl Read) {
        let mut index = [0; 8];
        while output.read_exact(&mut index).is_ok() {
            self.entries.store(u64::from_le_bytes(index) + 1, Ordering::SeqCst);
            *self.first.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.first.1.notify_one();
        }
    }

    fn wait_for_the_first(&self) -> anyhow::Result<()> {
        let has_one = self.first.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (has_one, _) = self
            .first
            .1
            .wait_timeout_while(has_one, WRITER_DEADLINE, |has_one| !*has_one)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(*has_one, "the writer acknowledged nothing within {} s", WRITER_DEADLINE.as_secs());
        Ok(())
    }

    fn count(&self) -> u64 {
        self.entries.load(Ordering::SeqCst)
    }
}

fn end(process: &mut Child) -> io::Result<()> {
    process.kill()?;
    process.wait().map(drop)
}

/// How many entries a new process finds, or why it finds none.
fn run_verifier(store: &Path) -> anyhow::Result<Result<u64, String>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("verify")
        .arg(store)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    if output.status.success() {
        return Ok(Ok(last.parse().context("the verifier printed no number")?));
    }
    let panicked = String::from_utf8_lossy(&output.stderr);
    let reason = if last.is_empty() { panicked.lines().nth(1).unwrap_or("it was killed") } else { last };
    Ok(Err(reason.to_owned()))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        if started.elapsed() > TOOL_DEADLINE {
            end(&mut process)?;
            bail!("{name} did not end within {} s", TOOL_DEADLINE.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut words = String::new();
    if let Some(mut errors) = process.stderr.take() {
        // Words that cannot be read are missing from a message; the status has told the outcome.
        let _unreadable = errors.read_to_string(&mut words);
    }
    ensure!(status.success(), "{name} failed ({status}): {}", words.trim());
    Ok(())
}

/// The entry at an index; each differs from every other.
fn entry(index: u64) -> Entry {
    let command = v1::Command {
        at_unix_ms: index,
        request: Some(v1::RequestKey { key: format!("{index:0220}"), ..v1::RequestKey::default() }),
        ..v1::Command::default()
    };
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Proposal(command)) }
}

/// The writer: appends in batches of changing size and tells each acknowledged index.
fn write(store: &Path, without_barrier: bool) -> anyhow::Result<ExitCode> {
    let barrier = if without_barrier { Barrier::None } else { Barrier::Fdatasync };
    let engine = SledEngine::open(&store.join("log"), barrier)?;
    let witness = Witness::create(&store.join("witness"))?;
    // As for a real store: what it stands in lasts before anything is promised.
    for directory in [store, store.parent().context("the store has no parent")?] {
        File::open(directory)?.sync_all()?;
    }
    let mut log = LogStore::open(Arc::new(engine), witness, None)?;
    let mut output = io::stdout().lock();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        log.save_vote(&Vote::new_committed(1, 1)).await?;
        let mut next = 0;
        loop {
            let batch = 1 + next % LARGEST_BATCH;
            let (done, flushed) = TypeConfig::oneshot();
            log.append((next..next + batch).map(entry).collect::<Vec<_>>(), IOFlushed::signal(done)).await?;
            flushed.await.context("the log store gave no answer")??;
            next += batch;
            output.write_all(&(next - 1).to_le_bytes())?;
            output.flush()?;
        }
    })
}

/// The verifier: prints how many entries are there, if they are the ones that were written.
fn verify(store: &Path) -> anyhow::Result<ExitCode> {
    let engine = SledEngine::open(&store.join("log"), Barrier::Fdatasync)?;
    let mut log = LogStore::open(Arc::new(engine), Witness::open(&store.join("witness"))?, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let entries = runtime.block_on(log.try_get_log_entries(..))?;
    for (index, found) in (0_u64..).zip(&entries) {
        ensure!(*found == entry(index), "entry {index} is another one");
    }
    println!("{}", entries.len());
    Ok(ExitCode::SUCCESS)
}
