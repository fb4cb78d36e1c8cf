//! What is done to all processes of a container at once: stop them in their tracks, wake them, kill them, list them.
//!
//! A signal reaches one process, and meanwhile others fork. A cgroup knows them all: frozen, none of them can run away.
//!
//! See it: `cat /sys/fs/cgroup/onggi/web1/{cgroup.events,cgroup.freeze,cgroup.procs}`.
//! Read: cgroup-v2.rst ("cgroup.freeze", "cgroup.kill"), cgroup-v1/freezer-subsystem.rst, pidfd_send_signal(2).

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::place::Place;
use super::tree::{own_processes, subgroups};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{Reason, because, fs, process, watch};

static FREEZE: Reason = Reason {
    id: "cgroup.freeze",
    en: "a frozen group gets no CPU at all; no signal is involved, and its processes can't notice",
    ko: "얼린 그룹은 CPU를 전혀 받지 못합니다. 시그널을 쓰지 않으므로 프로세스는 알아채지 못합니다",
    see: "cat /sys/fs/cgroup/onggi/*/cgroup.events",
};
static KILL: Reason = Reason {
    id: "cgroup.kill",
    en: "the group kills all its processes in one go, those that fork meanwhile too",
    ko: "그룹이 모든 프로세스를 한꺼번에 끝냅니다. 그사이에 fork된 프로세스도 포함합니다",
    see: "cat /sys/fs/cgroup/onggi/*/cgroup.procs",
};

/// How long a freeze or the end of all processes may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Freezes or thaws the container, and waits until all its processes stand still (or may run).
///
/// # Errors
/// Unsupported without a cgroup that can freeze, System when they don't come to a stop in ten seconds.
pub fn freeze(place: &Place, on: bool) -> Result<()> {
    because(&FREEZE);
    if let Some(dir) = place.legacy.get("freezer") {
        return freeze_v1(dir, on);
    }
    match &place.unified {
        Some(dir) => freeze_v2(dir, on),
        None => Err(Error::new(Class::Unsupported, "freeze the container", "it has no cgroup with a freezer").hint(super::DELEGATION)),
    }
}

/// Whether the container stands frozen.
pub fn frozen(place: &Place) -> bool {
    match (place.legacy.get("freezer"), &place.unified) {
        (Some(dir), _) => state_v1(dir) == "FROZEN",
        (None, Some(dir)) => is_frozen_v2(dir),
        (None, None) => false,
    }
}

fn verb(on: bool) -> &'static str {
    if on { "freeze" } else { "thaw" }
}

fn freeze_v2(dir: &Path, on: bool) -> Result<()> {
    let story = || format!("{} the cgroup {}", verb(on), dir.display());
    fs::write(&dir.join("cgroup.freeze"), if on { "1" } else { "0" }).doing(story)?;
    let deadline = Instant::now() + PATIENCE;
    let events = std::fs::File::open(dir.join("cgroup.events")).doing(story)?;
    while is_frozen_v2(dir) != on {
        if Instant::now() > deadline {
            return Err(Error::new(Class::System, story(), "its processes did not come to a stop in ten seconds")
                .hint("one may hang in the kernel: see `ps -o pid,stat,wchan`"));
        }
        // The kernel says POLLPRI on cgroup.events at each change. A short timeout covers a change between our look and poll(2).
        watch::wait_readable(events.as_fd(), Some(10)).doing(story)?;
    }
    Ok(())
}

fn is_frozen_v2(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == "frozen 1"))
}

fn freeze_v1(dir: &Path, on: bool) -> Result<()> {
    let story = || format!("{} the cgroup {}", verb(on), dir.display());
    let file = dir.join("freezer.state");
    let wanted = if on { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0;
    loop {
        fs::write(&file, wanted).doing(story)?;
        match state_v1(dir).as_str() {
            state if state == wanted => return Ok(()),
            "" => return Err(Error::new(Class::NotFound, story(), "the cgroup is gone")),
            _ if Instant::now() > deadline => {
                let _ = fs::write(&file, "THAWED");
                return Err(Error::new(Class::System, story(), "it stays in FREEZING")
                    .hint("one of its processes hangs in the kernel: see `ps -o pid,stat,wchan`"));
            }
            _ => {}
        }
        round += 1;
        // A group that is stuck in FREEZING (a vfork, a process being moved in) gets out when thawed for a moment.
        if round % 50 == 0 {
            fs::write(&file, "THAWED").doing(story)?;
        }
        std::thread::sleep(Duration::from_micros(if round < 10 { 50 } else { 1000 }));
    }
}

fn state_v1(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("freezer.state")).map(|text| text.trim().to_string()).unwrap_or_default()
}

/// Sends `signal` to every process of the container, sub-groups included. After SIGKILL it returns when all are gone.
///
/// # Errors
/// Denied, or System when some outlive SIGKILL by ten seconds (with their PIDs).
pub fn kill_all(place: &Place, signal: i32) -> Result<()> {
    because(&KILL);
    if signal != libc::SIGKILL {
        return signal_frozen(place, signal);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    while !living(place).is_empty() {
        if Instant::now() > deadline {
            let pids: Vec<String> = living(place).iter().map(i32::to_string).collect();
            let why = format!("these outlive SIGKILL: {}", pids.join(", "));
            return Err(
                Error::new(Class::System, "kill all processes of the container", why).hint("state D in `ps -o pid,stat,wchan` waits for a device")
            );
        }
        // cgroup.kill came with Linux 5.14; a frozen group is killed too.
        match place.unified.as_ref().filter(|_| place.is_unified()).map(|dir| fs::write(&dir.join("cgroup.kill"), "1")) {
            Some(Ok(())) => {}
            _ => signal_frozen(place, signal)?,
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

/// Signals one by one, while the freezer holds them so that none forks away between our list and our signal.
fn signal_frozen(place: &Place, signal: i32) -> Result<()> {
    let was_frozen = frozen(place);
    // Not every host has a freezer, and some processes can't be frozen: then the caller's loop must do.
    let froze = !was_frozen && freeze(place, true).is_ok();
    let mut failed = None;
    for pid in processes(place).into_iter().filter(|&pid| pid != std::process::id() as i32) {
        let sent = process::pidfd_open(pid).and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), signal));
        match sent {
            Err(e) if e.errno() != Errno::ESRCH => failed = Some(e),
            _ => {}
        }
    }
    // v1 can't kill what is frozen: a dead container need not stay so.
    if froze || (was_frozen && signal == libc::SIGKILL) {
        freeze(place, false)?;
    }
    failed.map_or(Ok(()), |e| Err(e).doing(|| format!("send {} to all processes of the container", process::signal_name(signal))))
}

/// Those that can still do something: zombies stay in cgroup.procs on v1 until their parent reaps them, and can't be killed again.
fn living(place: &Place) -> Vec<i32> {
    let alive = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state is the first field after the name in brackets.
        !matches!(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()), None | Some('Z' | 'X'))
    };
    processes(place).into_iter().filter(|&pid| pid != std::process::id() as i32).filter(alive).collect()
}

/// The container's processes, sub-groups included, as PIDs of our own PID namespace, in order.
pub fn processes(place: &Place) -> Vec<i32> {
    place.main_dir().map(processes_in).unwrap_or_default()
}

pub(super) fn processes_in(dir: &Path) -> Vec<i32> {
    let mut dirs = vec![dir.to_path_buf()];
    subgroups(dir, &mut dirs);
    let mut pids: Vec<i32> = dirs.iter().flat_map(|dir| own_processes(dir)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
