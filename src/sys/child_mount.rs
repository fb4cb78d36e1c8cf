//! A mount made the old way that is seen nowhere: mount(2) has no detached mounts, so a child with a mount namespace of its own makes
//! it there and clones it with open_tree(2). Parent and child share one table of descriptors (CLONE_FILES), so the clone's
//! descriptor is the parent's as well; the namespace, and the visible mount in it, go with the child.
//!
//! Needed where fsconfig(2) can't take an option: before Linux 6.7 overlay wants all lower directories in one value of at most 255 bytes.
//!
//! Read: clone(2), mount(2), open_tree(2), mount_namespaces(7).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::call::{SysError, SysResult, call};
use super::mount::owned;
use super::{c_string, fd};

/// Mounts `fstype` with `data` and answers the detached mount. `place` is any existing directory, on which nothing stays. `cwd` is
/// where relative names in `data` begin: all names are looked up in the child's namespace, because overlay takes no directory of
/// another one (not even through a descriptor).
///
/// # Errors
/// Those of mount(2) and open_tree(2), told by their names; EPERM without CAP_SYS_ADMIN over the mount namespace.
pub fn mount_detached(fstype: &str, place: &Path, data: &str, cwd: &Path) -> SysResult<OwnedFd> {
    let (fstype_c, place_c, data_c, cwd_c) = (c_string(fstype)?, c_string(place)?, c_string(data)?, c_string(cwd)?);
    let (reader, writer) = fd::pipe()?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: zeroed is the documented default of every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_FILES | libc::CLONE_NEWNS | libc::CLONE_PIDFD) as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    let pid = call(
        "clone3",
        || "{flags=CLONE_FILES|CLONE_NEWNS|CLONE_PIDFD, exit_signal=0}".into(),
        // SAFETY: without CLONE_VM the child works on a copy of this memory; it makes system calls only, takes no lock and allocates
        // nothing, so other threads of the parent don't matter.
        || unsafe { libc::syscall(libc::SYS_clone3, &mut args, size_of::<libc::clone_args>()) },
    )?;
    if pid == 0 {
        // SAFETY: all pointers are to live C strings of this copy; the answer array is live; _exit ends the copy.
        unsafe {
            let mut answer = [0i32; 3];
            let mut step = |number: i32, result: i64| {
                if result < 0 && answer[0] == 0 {
                    answer = [number, *libc::__errno_location(), -1];
                }
                result >= 0
            };
            // The copy of the mount tree is tied to the parent's where that is shared: nothing made here may travel back.
            let private = || libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) as i64;
            let enter = || libc::chdir(cwd_c.as_ptr()) as i64;
            let make = || libc::mount(fstype_c.as_ptr(), place_c.as_ptr(), fstype_c.as_ptr(), 0, data_c.as_ptr().cast()) as i64;
            let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
            let clone = || libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, place_c.as_ptr(), flags);
            if step(1, private()) && step(2, enter()) && step(3, make()) {
                let mount = clone();
                if step(4, mount) {
                    answer[2] = mount as i32;
                }
            }
            libc::write(writer.as_raw_fd(), answer.as_ptr().cast(), size_of_val(&answer));
            libc::_exit(0);
        }
    }
    let child = owned(pidfd as i64);
    // With a shared table our end of the pipe is the child's too: its end is told by the child's end, not by the pipe's.
    // SAFETY: zeroed is a valid siginfo_t, which is live; __WALL because this child's end sends no SIGCHLD.
    while unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PIDFD, child.as_raw_fd() as u32, &mut info, libc::WEXITED | libc::__WALL) == -1 && Errno::last() == Errno::EINTR
    } {}
    drop(writer);
    let mut answer = [0i32; 3];
    // SAFETY: pointer and length of one live array; a pipe gives these 12 bytes at once or, when the child was killed, none.
    let read = unsafe { libc::read(reader.as_raw_fd(), answer.as_mut_ptr().cast(), size_of_val(&answer)) };
    let failed = |call: &'static str, args: String| Err(SysError::new(call, args, Errno::from_raw(answer[1])));
    match answer[0] {
        _ if read != size_of_val(&answer) as isize => Err(SysError::new("clone3", "the child that mounts was killed", Errno::EINTR)),
        0 => Ok(owned(answer[2] as i64)),
        1 => failed("mount", "none, /, NULL, MS_REC|MS_PRIVATE, NULL".into()),
        2 => failed("chdir", cwd.display().to_string()),
        3 => failed("mount", format!("{fstype}, {}, {fstype}, 0, {data}", place.display())),
        _ => failed("open_tree", format!("AT_FDCWD, {}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC", place.display())),
    }
}
