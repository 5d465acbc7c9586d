//! Backing volumes as files in a directory, each under a loop device that bypasses the page cache.
//!
//! A file has its whole size from the beginning and reads zero; no discard takes anything of it. Its mark is an extended
//! attribute that goes with the file. What the layers above open is a link below `/dev/hawser`, which is gone after a
//! boot like the loop device that it leads to. It must never bind, unbind or remove a file that does not carry exactly
//! the mark that it was given.
//!
//! * [`files`]: made whole or not at all, found, removed. * [`loop_devices`]: the kernel's, by `losetup`.

mod files;
mod loop_devices;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::{BackingVolume, Provider},
};
use tokio::{sync::Semaphore, time::Instant};

use self::{files::VolumeFile, loop_devices::LoopDevice};
use super::{
    Deadline, HostError, beside, devices,
    durable::remove_if_there,
    storage::{StorageProvider, check_taken, device_of, not_to_be_removed},
};

const SYS: &str = "/sys";

/// Lets one piece of work at a time wait for the disk of a directory. Its clones are the same.
#[derive(Clone)]
pub(super) struct Lane {
    free: Arc<Semaphore>,
    overdue: Arc<AtomicBool>,
}

impl Default for Lane {
    fn default() -> Self {
        Lane { free: Arc::new(Semaphore::new(1)), overdue: Arc::default() }
    }
}

/// With less than this left no work is begun: it would be called overdue for what others took.
const LEAST: Duration = Duration::from_millis(20);
/// Who has waited so long and gives up leaves work behind that does not end.
const LONG: Duration = Duration::from_secs(1);

/// Who waits for a piece of work, and may be dropped before it has ended.
struct Waiter<'a> {
    overdue: &'a AtomicBool,
    since: Instant,
    waits: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.waits && self.since.elapsed() >= LONG {
            self.overdue.store(true, Ordering::Relaxed);
        }
    }
}

/// A directory that volumes are files in.
pub(super) struct DirectoryPool {
    path: PathBuf,
    lane: Lane,
}

impl DirectoryPool {
    /// The directory of that path. It need not be there. All pools of one directory share a lane.
    pub(super) fn new(path: &str, lane: Lane) -> Self {
        DirectoryPool { path: PathBuf::from(path), lane }
    }

    fn object(&self, name: &str) -> String {
        format!("file {}", self.path.join(name).display())
    }

    /// Does `work` on the directory's files in a thread of its own: their disk may not answer. While it does not, nothing
    /// else is begun there, or every look would leave a thread behind.
    async fn with_files<T: Send + 'static>(
        &self,
        deadline: &Deadline,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, HostError> {
        let what = || format!("directory {}", self.path.display());
        let Lane { free, overdue } = &self.lane;
        if overdue.load(Ordering::Relaxed) && free.available_permits() == 0 {
            return Err(HostError::Wedged { what: what(), deadline: deadline.left() });
        }
        let turn = tokio::time::timeout(deadline.left(), Arc::clone(free).acquire_owned()).await;
        let missed = || deadline.missed(format!("a turn at {}", what()));
        // The semaphore is never closed.
        let Ok(Ok(turn)) = turn else { return Err(missed()) };
        overdue.store(false, Ordering::Relaxed);
        if deadline.left() < LEAST {
            return Err(missed());
        }
        let path = self.path.clone();
        let mut waiter = Waiter { overdue, since: Instant::now(), waits: true };
        let done = beside::read(deadline, what, move || {
            let _until_done = turn;
            work(&path)
        });
        let done = done.await;
        waiter.waits = false;
        overdue.store(done.as_ref().is_err_and(HostError::is_wedged), Ordering::Relaxed);
        let done = done?;
        let refused = |reason| HostError::refused(format!("directory {}", self.path.display()), reason);
        done.map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ENOENT) => refused("there is none; make it, or mount the file system that it is on"),
            Some(nix::libc::EOPNOTSUPP) => refused(
                "its file system has no extended attributes or cannot reserve room for files; ext4 and XFS have both",
            ),
            _ => HostError::file(&self.path, &error),
        })
    }

    async fn file(&self, name: &str, deadline: &Deadline) -> Result<Option<VolumeFile>, HostError> {
        let name = name.to_owned();
        self.with_files(deadline, move |path| files::find(path, &name)).await
    }

    /// The loop device of a file, if it has one.
    async fn bound(&self, file: &VolumeFile, deadline: &Deadline) -> Result<Option<LoopDevice>, HostError> {
        let devices = loop_devices::list(deadline).await?;
        Ok(devices.into_iter().find(|device| device.is_of(file)))
    }

    /// Makes sure that the link of a volume leads to a loop device of its file.
    async fn bind(&self, name: &str, file: &VolumeFile, deadline: &Deadline) -> Result<(), HostError> {
        let device = match self.bound(file, deadline).await? {
            Some(device) => device.path,
            None => loop_devices::bind(&self.path.join(name), deadline).await?,
        };
        // A discard would punch a hole, and give away the room that was reserved.
        devices::refuse_discards(Path::new(SYS), &device)
            .map_err(|error| HostError::file(&device, &error))?;
        let link = self.device(name);
        if leads_to(&link, &device) {
            return Ok(());
        }
        link_to(&link, &device).map_err(|error| HostError::file(&link, &error))
    }

    fn check_name(&self, name: &str) -> Result<(), HostError> {
        if files::is_plain(name) {
            return Ok(());
        }
        Err(HostError::refused(self.object(name), format!("{name:?} is no name for a file of Hawser's")))
    }
}

fn leads_to(link: &Path, device: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target == device)
}

/// A link is replaced whole: whoever opens it finds the old device or the new one.
fn link_to(link: &Path, device: &Path) -> io::Result<()> {
    if let Some(directory) = link.parent() {
        fs::create_dir_all(directory)?;
    }
    let aside =
        link.with_file_name(format!(".{}.new", link.file_name().unwrap_or_default().to_string_lossy()));
    remove_if_there(&aside)?;
    std::os::unix::fs::symlink(device, &aside)?;
    fs::rename(&aside, link)
}

#[async_trait]
impl StorageProvider for DirectoryPool {
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError> {
        self.with_files(deadline, files::room).await
    }

    async fn look(&self, name: &str, deadline: &Deadline) -> Looked<BackingFound> {
        let found = async {
            let Some(file) = self.file(name, deadline).await? else { return Ok(None) };
            let bound = self.bound(&file, deadline).await?;
            Ok::<_, HostError>(Some((file, bound)))
        };
        match found.await {
            Err(error) => Looked::Unknown(error.to_string()),
            Ok(None) => Looked::Absent,
            Ok(Some((file, bound))) => Looked::Present(BackingFound {
                size_bytes: file.size_bytes,
                mark: file.mark,
                active: bound.is_some_and(|bound| {
                    leads_to(&self.device(name), &bound.path)
                        && devices::takes_no_discards(Path::new(SYS), &bound.path)
                }),
                device: self.device(name),
            }),
        }
    }

    async fn ensure(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.check_name(&volume.name)?;
        let file = match self.file(&volume.name, deadline).await? {
            Some(file) => file,
            None => {
                let wanted = volume.clone();
                self.with_files(deadline, move |path| {
                    files::make(path, &wanted.name, wanted.size_bytes, &wanted.mark)
                })
                .await?
            }
        };
        check_taken(&self.object(&volume.name), volume, file.mark.as_ref(), file.size_bytes)?;
        let name = volume.name.clone();
        self.with_files(deadline, move |path| files::keep(path, &name)).await?;
        self.bind(&volume.name, &file, deadline).await
    }

    async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.check_name(&volume.name)?;
        let name = volume.name.clone();
        let Some(file) = self.file(&name, deadline).await? else { return Ok(()) };
        if file.mark.as_ref() != Some(&volume.mark) {
            return Err(not_to_be_removed(self.object(&name)));
        }
        if let Some(device) = self.bound(&file, deadline).await? {
            loop_devices::unbind(&device.path, deadline).await?;
            // The kernel only remembers to let go of one that is in use.
            if self.bound(&file, deadline).await?.is_some() {
                return Err(HostError::refused(
                    self.object(&name),
                    format!("its loop device {} is in use, so it stays", device.path.display()),
                ));
            }
        }
        let link = self.device(&name);
        remove_if_there(&link).map_err(|error| HostError::file(&link, &error))?;
        self.with_files(deadline, move |path| files::remove(path, &name)).await
    }

    async fn new_volumes_read_zero(&self, _: &Deadline) -> Result<(), HostError> {
        Ok(())
    }

    fn device(&self, name: &str) -> PathBuf {
        device_of(&Provider::Directory { path: self.path.display().to_string() }, name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn while_a_directory_does_not_answer_nothing_more_is_begun_there() {
        let directory = tempfile::tempdir().unwrap();
        let pool = DirectoryPool::new(&directory.path().display().to_string(), Lane::default());
        let (let_go, hangs) = std::sync::mpsc::channel::<()>();
        let short = &Deadline::after(Duration::from_millis(200));
        let stuck = pool.with_files(short, move |_| Ok(hangs.recv().is_ok())).await.unwrap_err();
        assert!(stuck.is_wedged());

        let long = &Deadline::after(Duration::from_secs(600));
        let refused = pool.with_files(long, |_| Ok(())).await.unwrap_err();
        assert!(refused.is_wedged(), "at once: {refused}");

        let_go.send(()).unwrap();
        while pool.with_files(long, |_| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nor_once_somebody_has_given_up_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pool = DirectoryPool::new(&directory.path().display().to_string(), Lane::default());
        let (let_go, hangs) = std::sync::mpsc::channel::<()>();
        let long = &Deadline::after(Duration::from_secs(600));
        let hung = pool.with_files(long, move |_| Ok(hangs.recv().is_ok()));
        assert!(tokio::time::timeout(LONG + Duration::from_millis(100), hung).await.is_err());

        assert!(pool.with_files(long, |_| Ok(())).await.unwrap_err().is_wedged());
        drop(let_go);
    }

    #[test]
    fn a_link_is_replaced_whatever_it_led_to_and_whatever_a_crash_left() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("srv/db.7-0");
        for device in ["/dev/loop1", "/dev/loop2"] {
            link_to(&link, Path::new(device)).unwrap();
            assert!(leads_to(&link, Path::new(device)));
            std::os::unix::fs::symlink("/dev/null", link.with_file_name(".db.7-0.new")).unwrap();
        }
        assert!(!leads_to(&link, Path::new("/dev/loop1")));
    }
}
