//! User namespaces: which ids inside stand for which ids outside, and which user the container's program becomes.
//!
//! A process in a new user namespace has every capability in it and no id at all until somebody outside writes the maps, once.
//! Root may write any. Anybody may write the one line that maps their own id, after giving up setgroups(2) (else a group that
//! *denies* access could be dropped). More than that needs `newuidmap`, which asks `/etc/subuid`.
//!
//! See it: `cat /proc/P/uid_map`. Read: user_namespaces(7), newuidmap(1), subuid(5).

use std::process::Command;

use nix::unistd::{getegid, geteuid};

use super::spec::{IdMapping, Linux, User};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{Reason, because, fs, ids, process};

static MAP: Reason = Reason {
    id: "users.map",
    en: "root inside stands for an ordinary user outside: the kernel is told which id is which",
    ko: "안의 root가 밖에서는 일반 사용자다: 어느 id가 어느 id인지 커널에 알린다",
    see: "cat /proc/{P}/uid_map",
};
static BECOME: Reason = Reason {
    id: "users.become",
    en: "the program runs as the user that the image or you asked for",
    ko: "프로그램은 이미지나 사용자가 정한 사용자로 실행된다",
    see: "grep -E 'Uid|Gid|Groups' /proc/{P}/status",
};

/// Writes both maps of the process' user namespace.
///
/// # Errors
/// EPERM when a mapped id is not ours to give, EINVAL when ranges overlap; NotFound when newuidmap is needed and isn't there.
pub fn write_maps(pid: i32, linux: &Linux) -> Result<()> {
    write_mappings(pid, &linux.uid_mappings, &linux.gid_mappings)
}

/// The same for any two lists.
///
/// # Errors
/// As [`write_maps`].
pub fn write_mappings(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    because(&MAP);
    // The gid map first: writing /proc/P/setgroups is refused once a gid map stands, and some kernels want the uid map's owner.
    if geteuid().is_root() && super::capabilities::has_setid() {
        write_map(pid, "gid_map", gids)?;
        return write_map(pid, "uid_map", uids);
    }
    if is_own_id(gids, getegid().as_raw()) {
        fs::write(format!("/proc/{pid}/setgroups").as_ref(), "deny").doing(|| "give up setgroups(2)".into())?;
        write_map(pid, "gid_map", gids)?;
    } else {
        map_with_setuid_program("newgidmap", pid, gids)?;
    }
    if is_own_id(uids, geteuid().as_raw()) { write_map(pid, "uid_map", uids) } else { map_with_setuid_program("newuidmap", pid, uids) }
}

fn is_own_id(mappings: &[IdMapping], id: u32) -> bool {
    matches!(mappings, [only] if only.size == 1 && only.host_id == id)
}

fn write_map(pid: i32, file: &str, mappings: &[IdMapping]) -> Result<()> {
    let lines: String = mappings.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    fs::write(format!("/proc/{pid}/{file}").as_ref(), &lines).doing(|| format!("write the {file} of the user namespace"))
}

fn map_with_setuid_program(program: &str, pid: i32, mappings: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for m in mappings {
        command.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
    }
    let doing = || format!("map more than one id with {program}");
    let output = match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::new(Class::NotFound, doing(), format!("{program} is not installed"));
            return Err(error.hint("install the package `uidmap` (Debian, Ubuntu) or `shadow-utils` (Fedora), or map only your own id"));
        }
        other => other.doing(doing)?,
    };
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::new(Class::Denied, doing(), why)
        .hint("see /etc/subuid and /etc/subgid; `onggi doctor` says what is missing, `onggi book 02a` what they are"))
}

/// In a user namespace whose maps stand: becomes its root, so that files we make belong to an id that exists.
///
/// # Errors
/// EINVAL when id 0 isn't mapped.
pub fn become_root() -> Result<()> {
    because(&MAP);
    ids::setresgid(0).doing(|| "become group 0 of the user namespace".into())?;
    ids::setresuid(0).doing(|| "become user 0 of the user namespace".into())
}

/// Becomes the container's user: groups, group, user, in this order, for after the last step the rights to the first are gone.
///
/// # Errors
/// EINVAL for an id that the user namespace doesn't map, EPERM where setgroups(2) is denied and groups were asked for.
pub fn become_user(user: &User) -> Result<()> {
    because(&BECOME);
    // 0022 and not the caller's, as runc does: the same image gives the same files for everybody.
    process::umask(user.umask.unwrap_or(0o022));
    match ids::setgroups(&user.additional_gids) {
        // Where setgroups(2) was given up for the right to map, there is no group to lose either, and the own one is ours anyway.
        Err(e) if e.errno() == nix::errno::Errno::EPERM && user.additional_gids.iter().all(|id| *id == user.gid) => {}
        done => done.doing(|| format!("set process.user.additionalGids {:?}", user.additional_gids))?,
    }
    ids::setresgid(user.gid).doing(|| format!("become process.user.gid {}", user.gid)).map_err(unmapped)?;
    ids::setresuid(user.uid).doing(|| format!("become process.user.uid {}", user.uid)).map_err(unmapped)
}

/// EINVAL says that this id is nobody in our user namespace (setresuid(2)).
fn unmapped(e: Error) -> Error {
    if !in_user_namespace() {
        return e;
    }
    e.hint("the user namespace maps only the ids in /proc/self/uid_map; a range in /etc/subuid and /etc/subgid gives it more")
}

/// Whether this process is in a user namespace other than the host's first one (whose map is the one line `0 0 4294967295`).
pub fn in_user_namespace() -> bool {
    match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"],
        Err(_) => false,
    }
}

/// The user outside of this user namespace who is root inside; our own uid when there is none.
pub fn outer_uid() -> u32 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outer = map.lines().find_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        matches!(numbers[..], [0, _, _]).then(|| numbers[1])
    });
    outer.filter(|_| in_user_namespace()).unwrap_or_else(|| nix::unistd::getuid().as_raw())
}

/// The first range of ids that `/etc/subuid` or `/etc/subgid` grants to the calling *user* (both are keyed by user): `ann:100000:65536`.
pub fn granted_range(file: &str) -> Option<(u32, u32)> {
    let uid = geteuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let ours = Some(who) == name.as_deref() || who.parse() == Ok(uid.as_raw());
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (ours && count > 0).then_some((first, count))
    })
}
