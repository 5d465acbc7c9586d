//! The services of a node: started, and started again when they end, unless someone stopped them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::Notify;

use super::{console, init};
use crate::wire::agent::{Service, ServiceStatus};

/// Where the services' logs lie: on the share, so that the host can read them while the node is off.
const LOGS: &str = "/host/logs";
/// Pause before a service that ended is started again; it doubles while the service ends at once each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A service that ran this long had started well.
const STEADY: Duration = Duration::from_secs(5);
/// How long an orderly end may take before it is forced.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

struct Entry {
    service: Service,
    process: Option<u32>,
    starts: u32,
    stopped: bool,
    last_end: Option<String>,
    changed: Rc<Notify>,
}

/// The table of services.
#[derive(Default)]
pub(super) struct Supervisor {
    entries: Rc<RefCell<BTreeMap<String, Entry>>>,
}

impl Supervisor {
    /// Makes the table what `services` says: removed or changed ones are ended, new or changed ones started.
    pub(super) async fn set(&self, services: Vec<Service>) -> Vec<ServiceStatus> {
        let wanted: BTreeMap<_, _> =
            services.into_iter().map(|service| (service.name.clone(), service)).collect();
        let outdated: Vec<_> = self
            .entries
            .borrow()
            .values()
            .filter(|entry| wanted.get(&entry.service.name) != Some(&entry.service))
            .map(|entry| entry.service.name.clone())
            .collect();
        for name in outdated {
            let _ = self.stop(&name).await;
            if let Some(entry) = self.entries.borrow_mut().remove(&name) {
                // Its task sees that it is no longer in the table, and ends.
                entry.changed.notify_waiters();
            }
        }
        for (name, service) in wanted {
            if self.entries.borrow().contains_key(&name) {
                continue;
            }
            let changed = Rc::new(Notify::new());
            let entry = Entry {
                service,
                process: None,
                starts: 0,
                stopped: false,
                last_end: None,
                changed: Rc::clone(&changed),
            };
            self.entries.borrow_mut().insert(name.clone(), entry);
            tokio::task::spawn_local(keep(Rc::clone(&self.entries), name, changed));
        }
        self.list()
    }

    /// Ends a service and keeps it ended.
    pub(super) async fn stop(&self, name: &str) -> Result<Vec<ServiceStatus>, String> {
        let changed = self.change(name, |entry| entry.stopped = true)?;
        let started = tokio::time::Instant::now();
        loop {
            let notified = changed.notified();
            let Some(process) = self.entries.borrow().get(name).and_then(|entry| entry.process) else {
                return Ok(self.list());
            };
            let forced = started.elapsed() >= STOP_DEADLINE;
            let signal = if forced { Signal::SIGKILL } else { Signal::SIGTERM };
            if let Ok(group) = i32::try_from(process) {
                let _ = killpg(Pid::from_raw(group), signal);
            }
            let _ = tokio::time::timeout(STOP_DEADLINE, notified).await;
        }
    }

    /// Lets a stopped service run again.
    pub(super) async fn start(&self, name: &str) -> Result<Vec<ServiceStatus>, String> {
        self.change(name, |entry| entry.stopped = false)?.notify_waiters();
        tokio::task::yield_now().await;
        Ok(self.list())
    }

    /// Every service as it is.
    pub(super) fn list(&self) -> Vec<ServiceStatus> {
        self.entries
            .borrow()
            .values()
            .map(|entry| ServiceStatus {
                name: entry.service.name.clone(),
                process: entry.process,
                starts: entry.starts,
                stopped: entry.stopped,
                last_end: entry.last_end.clone(),
            })
            .collect()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Entry)) -> Result<Rc<Notify>, String> {
        let mut entries = self.entries.borrow_mut();
        let known = entries.keys().cloned().collect::<Vec<_>>().join(", ");
        let entry = entries
            .get_mut(name)
            .ok_or_else(|| format!("this node has no service {name}; it has: {known}"))?;
        change(entry);
        Ok(Rc::clone(&entry.changed))
    }
}

/// Runs one service as long as this entry of it, known by its `changed`, stands in the table.
async fn keep(entries: Rc<RefCell<BTreeMap<String, Entry>>>, name: String, changed: Rc<Notify>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let (service, stopped) = {
            let entries = entries.borrow();
            let Some(entry) = entries.get(&name).filter(|entry| Rc::ptr_eq(&entry.changed, &changed)) else {
                return;
            };
            (entry.service.clone(), entry.stopped)
        };
        if stopped {
            changed.notified().await;
            continue;
        }
        let started = tokio::time::Instant::now();
        let end = run_once(&entries, &service).await;
        console(format_args!("service {name} ended: {end}"));
        if let Some(entry) =
            entries.borrow_mut().get_mut(&name).filter(|entry| Rc::ptr_eq(&entry.changed, &changed))
        {
            entry.process = None;
            entry.last_end = Some(end);
        }
        changed.notify_waiters();
        pause = if started.elapsed() >= STEADY { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        // Whoever starts it by hand does not wait.
        let _ = tokio::time::timeout(pause, changed.notified()).await;
    }
}

async fn run_once(entries: &RefCell<BTreeMap<String, Entry>>, service: &Service) -> String {
    let log = match open_log(&service.name) {
        Ok(log) => log,
        Err(error) => return format!("its log cannot be opened: {error}"),
    };
    let Some((program, arguments)) = service.arguments.split_first() else {
        return "it has no program".to_owned();
    };
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(init::environment())
        .envs(&service.environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.0)
        .stderr(log.1)
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return format!("{program} cannot be started: {error}"),
    };
    if let Some(entry) = entries.borrow_mut().get_mut(&service.name) {
        entry.process = child.id();
        entry.starts += 1;
    }
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end is unknown: {error}"),
    }
}

fn open_log(service: &str) -> std::io::Result<(File, File)> {
    let node = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = format!("{LOGS}/{node}");
    fs::create_dir_all(&directory)?;
    let file = File::options().create(true).append(true).open(format!("{directory}/{service}.log"))?;
    Ok((file.try_clone()?, file))
}
