//! Making a container's groups, putting processes into them, and removing them: directories, one file, directories.
//!
//! See it: `ls -d /sys/fs/cgroup/onggi/*`, `cat …/cgroup.procs`. Read: cgroups(7), cgroup-v2.rst ("Organizing Processes and
//! Threads"), clone3(2) on CLONE_INTO_CGROUP, Documentation/admin-guide/cgroup-v1/cpusets.rst.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::life::processes_in;
use super::place::Place;
use super::{systemd, v1, v2};
use crate::error::{Cause, Class, Doing, Error, Result, SysError};
use crate::runtime::spec::Resources;
use crate::sys::{Reason, because, fs, path};

static CREATE: Reason = Reason {
    id: "cgroup.create",
    en: "a cgroup is made with mkdir; the kernel fills the directory with files",
    ko: "cgroup은 mkdir로 만듭니다. 디렉터리 안의 파일은 커널이 채웁니다",
    see: "ls /sys/fs/cgroup/onggi",
};
static ATTACH: Reason = Reason {
    id: "cgroup.attach",
    en: "a process joins a group when its PID is written to cgroup.procs; its children are born there",
    ko: "PID를 cgroup.procs에 쓰면 프로세스가 그룹에 들어갑니다. 자식은 그 안에서 태어납니다",
    see: "cat /proc/{P}/cgroup",
};
static REMOVE: Reason = Reason {
    id: "cgroup.remove",
    en: "an empty group goes away with rmdir, the innermost first",
    ko: "빈 그룹은 가장 안쪽부터 rmdir로 지웁니다",
    see: "ls /sys/fs/cgroup/onggi",
};

/// The directories just made. Dropped, it removes them again; [`Created::keep`] leaves them.
#[must_use]
pub struct Created(Vec<PathBuf>);

impl Created {
    /// The container lives: its groups stay until [`remove`].
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|dir| drop(fs::rmdir(dir)));
    }
}

/// Notes in `place` which directories [`create`] is going to make, so that a record written before tells whoever clears up after a maker
/// that was killed in the midst of it.
pub fn foresee(place: &mut Place) {
    let missing = |dir: &Path| place.levels(dir).into_iter().filter(|level| !level.exists()).collect::<Vec<_>>();
    let mut made: Vec<PathBuf> = Vec::new();
    for dir in place.dirs() {
        made.extend(missing(dir).into_iter().filter(|level| !made.contains(level)).collect::<Vec<_>>());
    }
    place.made = made;
}

/// Makes the groups of `place` and hands them the controllers that `resources` needs; `place.made` then tells which directories are
/// ours. With systemd nothing is made yet: a scope can't be without a process, so [`attach`] does it.
///
/// # Errors
/// Conflict when the group has processes already (another container's) or a parent has, Unsupported for a controller that isn't
/// there, Denied.
pub fn create(place: &mut Place, resources: &Resources) -> Result<Created> {
    let mut created = Created(Vec::new());
    if place.unit.is_some() {
        return Ok(created);
    }
    because(&CREATE);
    for dir in place.dirs() {
        let cpuset = place.legacy.get("cpuset").is_some_and(|own| own == dir);
        make_levels(&place.levels(dir), cpuset, &mut created.0)?;
        if created.0.last().is_none_or(|made| made != dir) {
            // It was there before us: by the config's wish, or left by a container that could not be removed.
            refuse_populated(dir)?;
        }
    }
    if let Some(dir) = &place.unified {
        let (_, new) = super::split(place, resources);
        let needed = v2::needed(&new)?;
        v2::hand_down(place, dir, &needed)?;
        v2::settle_type(dir, &needed)?;
    }
    place.made = created.0.clone();
    Ok(created)
}

fn refuse_populated(dir: &Path) -> Result<()> {
    let pids = processes_in(dir);
    if pids.is_empty() {
        return Ok(());
    }
    let why = format!("it has processes already: {}", list(&pids));
    Err(Error::new(Class::Conflict, format!("use the cgroup {}", dir.display()), why).hint("each container needs a cgroupsPath of its own"))
}

fn make_levels(levels: &[PathBuf], cpuset: bool, made: &mut Vec<PathBuf>) -> Result<()> {
    let before = made.len();
    let mut attempts = 0;
    while let Err(e) = levels.iter().try_for_each(|level| make_level(level, cpuset, made)) {
        // Another container's removal took the empty parent away under us.
        let vanished = matches!(e.cause.as_deref(), Some(Cause::Sys(fact)) if fact.errno() == Errno::ENOENT);
        if !vanished || attempts == 10 {
            return Err(e);
        }
        attempts += 1;
        made.truncate(before);
    }
    Ok(())
}

fn make_level(level: &Path, cpuset: bool, made: &mut Vec<PathBuf>) -> Result<()> {
    match fs::mkdir(level, 0o755) {
        Ok(()) => made.push(level.to_path_buf()),
        Err(e) if e.errno() == Errno::EEXIST => {}
        Err(e) => return Err(explain_mkdir(format!("make the cgroup {}", level.display()), e)),
    }
    if cpuset { v1::inherit_cpuset(level) } else { Ok(()) }
}

fn explain_mkdir(story: String, fact: SysError) -> Error {
    match fact.errno() {
        Errno::EACCES | Errno::EPERM => Error::sys(story, fact).hint(super::DELEGATION),
        Errno::EROFS => Error::sys(story, fact).class(Class::Denied).hint("/sys/fs/cgroup is mounted read-only here, as inside of most containers"),
        Errno::EAGAIN => Error::sys(story, fact).hint("cgroup.max.descendants or cgroup.max.depth of a parent forbids more groups"),
        Errno::ENOSPC => Error::sys(story, fact).hint("the kernel has no room for another cgroup (65,535 with memory at most)"),
        _ => Error::sys(story, fact),
    }
}

/// The v2 directory, for a process to be born in (clone3 with CLONE_INTO_CGROUP). None on a host with v1 alone, and with systemd
/// before the scope exists.
///
/// # Errors
/// ENOENT when the group is gone.
pub fn dir_fd(place: &Place) -> Result<Option<OwnedFd>> {
    match &place.unified {
        Some(dir) if place.unit.is_none() || dir.exists() => open(dir).map(Some),
        _ => Ok(None),
    }
}

/// The calling process, which has one thread, goes into the v1 groups by itself.
///
/// A PID written to `cgroup.procs` makes the kernel stop all forks and exits of the machine for a moment, which takes milliseconds; a
/// thread that moves *itself* (`0` into `tasks`) needs no such lock (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
///
/// # Errors
/// EACCES, ENOSPC for a cpuset without CPUs.
pub fn enter_legacy(place: &Place) -> Result<()> {
    if place.legacy.is_empty() {
        return Ok(());
    }
    because(&ATTACH);
    let dirs = place.legacy.values().collect::<BTreeSet<_>>();
    dirs.into_iter().try_for_each(|dir| fs::write(&dir.join("tasks"), "0").doing(|| format!("go into the cgroup {}", dir.display())))
}

/// The same for one more process of a container that lives, whose init is `init`. A program such as systemd inside of the container
/// divides its group into children, and then processes may only be in those: the newcomer goes where init is.
///
/// # Errors
/// ENOENT when the group is gone.
pub fn exec_dir(place: &Place, init: i32) -> Result<Option<OwnedFd>> {
    match &place.unified {
        Some(dir) => open(&home_of(dir, init)).map(Some),
        None => Ok(None),
    }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    path::open_root(dir).doing(|| format!("open the cgroup {}", dir.display()))
}

fn home_of(dir: &Path, init: i32) -> PathBuf {
    let divided = std::fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty());
    let holds = |dir: &Path| own_processes(dir).contains(&init);
    if !divided || holds(dir) {
        return dir.to_path_buf();
    }
    let mut all = Vec::new();
    subgroups(dir, &mut all);
    all.into_iter().find(|sub| holds(sub)).unwrap_or_else(|| dir.to_path_buf())
}

/// Puts the process `pid` into every group of `place`. With systemd the first one makes the scope.
///
/// # Errors
/// EBUSY for a v2 group that gives controllers to children (use [`exec_dir`]), ESRCH, EINVAL for a real-time process without
/// cpu.rt_runtime_us; what systemd says.
pub fn attach(place: &Place, pid: i32, resources: &Resources) -> Result<()> {
    because(&ATTACH);
    if place.unit.is_some() && !place.dirs().iter().any(|dir| dir.exists()) {
        systemd::start_unit(place, pid, resources)?;
    }
    if place.unit.is_some() {
        // systemd cares for some of the v1 controllers only.
        for dir in place.dirs() {
            make_levels(&place.levels(dir), place.legacy.get("cpuset").is_some_and(|own| own == dir), &mut Vec::new())?;
        }
    }
    for dir in place.dirs() {
        let story = || format!("put process {pid} into the cgroup {}", dir.display());
        fs::write(&dir.join("cgroup.procs"), &pid.to_string()).map_err(|fact| match fact.errno() {
            Errno::EBUSY => {
                Error::sys(story(), fact).class(Class::Conflict).hint("the group gives controllers to its children, so only those can have processes")
            }
            Errno::EOPNOTSUPP => Error::sys(story(), fact).class(Class::Unsupported).hint("the group is below a threaded one: see cgroup.type"),
            Errno::EACCES | Errno::EPERM => Error::sys(story(), fact).hint(super::DELEGATION),
            Errno::EINVAL => Error::sys(story(), fact).hint("a real-time process needs cpu.rt_runtime_us above 0 in its group"),
            _ => Error::sys(story(), fact),
        })?;
    }
    Ok(())
}

/// Removes the groups that are ours, with all that the container made inside of them. What is missing is fine.
///
/// # Errors
/// Conflict when processes are still there after two seconds, with their PIDs.
pub fn remove(place: &Place) -> Result<()> {
    because(&REMOVE);
    if place.unit.is_some() {
        systemd::stop_unit(place)?;
    }
    for dir in place.dirs() {
        let mut inside = Vec::new();
        subgroups(dir, &mut inside);
        inside.iter().try_for_each(|sub| remove_dir(sub))?;
        if place.unit.is_some() || place.named_by_us || place.made.iter().any(|made| made == dir) {
            remove_dir(dir)?;
        }
    }
    // Parents go when nobody else is in them.
    let leaves = place.dirs();
    let mut parents: BTreeSet<&Path> = place.made.iter().map(PathBuf::as_path).filter(|dir| !leaves.contains(dir)).collect();
    if place.named_by_us {
        parents.extend(leaves.iter().filter_map(|dir| dir.parent()).filter(|dir| !place.mounts.iter().any(|mount| mount == dir)));
    }
    parents.into_iter().rev().for_each(|dir| drop(fs::rmdir(dir)));
    Ok(())
}

/// All groups below `dir`, the innermost first.
pub(super) fn subgroups(dir: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            subgroups(&entry.path(), all);
            all.push(entry.path());
        }
    }
}

/// The processes of the group itself, without its children's.
pub(super) fn own_processes(dir: &Path) -> Vec<i32> {
    let numbers = |text: String| text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).collect::<Vec<i32>>();
    match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => numbers(text),
        // A threaded group tells threads only.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let threads = std::fs::read_to_string(dir.join("cgroup.threads")).map(numbers).unwrap_or_default();
            threads.into_iter().filter_map(process_of).collect()
        }
        Err(_) => Vec::new(),
    }
}

fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// A process that was killed leaves its group only when it is quite gone, which takes its time: EBUSY until then.
fn remove_dir(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_micros(200);
    loop {
        match fs::rmdir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            Err(e) if e.errno() == Errno::EBUSY && Instant::now() < deadline => {}
            Err(e) => {
                let error = Error::sys(format!("remove the cgroup {}", dir.display()), e);
                return Err(match processes_in(dir) {
                    pids if pids.is_empty() => error,
                    pids => error.class(Class::Conflict).hint(format!("it still has processes: {}", list(&pids))),
                });
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn list(pids: &[i32]) -> String {
    let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).map_or(pid.to_string(), |name| format!("{pid} ({})", name.trim()));
    let mut words: Vec<String> = pids.iter().take(8).map(name).collect();
    if pids.len() > 8 {
        words.push(format!("and {} more", pids.len() - 8));
    }
    words.join(", ")
}
