//! Being told when the kernel killed for memory inside a container.
//!
//! v2 counts in `memory.events` and tells inotify(7) of each change. v1 rings an eventfd(2) that was registered by writing its
//! number into `cgroup.event_control`, and counts in `memory.oom_control`.
//!
//! See it: `cat /sys/fs/cgroup/onggi/web1/memory.events`, `dmesg | grep -i oom`.
//! Read: cgroup-v2.rst ("memory.events"), cgroup-v1/memory.rst ("OOM Control"), inotify(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::place::Place;
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{fs, watch};

/// Yields each time when the count of kills rises.
pub struct OomWatcher {
    /// inotify or eventfd.
    bell: OwnedFd,
    /// The file with the line `oom_kill N`.
    count_in: PathBuf,
    seen: u64,
    /// v1's registration holds as long as this file is open.
    _control: Option<std::fs::File>,
}

/// Starts to watch. Kills before this call don't count.
///
/// # Errors
/// Unsupported when no memory controller counts for the container, NotFound when its cgroup is gone.
pub fn oom_events(place: &Place) -> Result<OomWatcher> {
    let story = || "watch for memory running out in the container".to_string();
    if let Some(dir) = place.legacy.get("memory") {
        let (bell, control) = register_v1(dir)?;
        let count_in = dir.join("memory.oom_control");
        return Ok(OomWatcher { seen: kills(&count_in).unwrap_or(0), bell, count_in, _control: Some(control) });
    }
    let Some(count_in) = place.unified.as_ref().map(|dir| dir.join("memory.events")).filter(|file| file.exists()) else {
        return Err(Error::new(Class::Unsupported, story(), "no memory controller counts for its cgroup").hint(super::DELEGATION));
    };
    let bell = watch::modified(&count_in).doing(story)?;
    Ok(OomWatcher { seen: kills(&count_in).unwrap_or(0), bell, count_in, _control: None })
}

impl OomWatcher {
    /// Waits for the next kill and answers how many there were in all; None when the cgroup is gone.
    ///
    /// # Errors
    /// None in practice.
    pub fn wait(&mut self) -> Result<Option<u64>> {
        loop {
            match self.look() {
                None => return Ok(None),
                Some(Some(count)) => return Ok(Some(count)),
                Some(None) => {}
            }
            // inotify keeps silent when a whole group goes, so a look every second ends the wait.
            watch::wait_readable(self.bell.as_fd(), Some(1000)).doing(|| "wait for memory running out".into())?;
            watch::drain(self.bell.as_fd());
        }
    }

    /// Without waiting, for those who poll(2) this watcher's descriptor among others: None when the cgroup is gone, Some(None) when
    /// nothing happened since the last answer.
    pub fn look(&mut self) -> Option<Option<u64>> {
        let count = kills(&self.count_in)?;
        Some(if count > self.seen {
            self.seen = count;
            Some(count)
        } else {
            None
        })
    }
}

impl AsFd for OomWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn register_v1(dir: &Path) -> Result<(OwnedFd, std::fs::File)> {
    let story = || format!("watch {} for memory running out", dir.display());
    let bell = watch::eventfd().doing(story)?;
    let control = std::fs::File::open(dir.join("memory.oom_control")).doing(story)?;
    let line = format!("{} {}", bell.as_raw_fd(), control.as_raw_fd());
    fs::write(&dir.join("cgroup.event_control"), &line).doing(story)?;
    Ok((bell, control))
}

/// `oom_kill` counts processes killed; `oom` would count only the times that memory ran out.
fn kills(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}
