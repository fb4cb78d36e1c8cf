//! What is there, and then what comes, until somebody has ended.
//!
//! inotify(7) says that something happened in the file's folder; what it was, the files tell. A file that was rotated away is read to its
//! end through the descriptor that is open, and its successor is found by the inode: no line is left out, and none comes twice.
//!
//! See it: `cat /proc/$(pgrep -f 'onggi logs')/fdinfo/*`. Read: inotify(7).

use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use super::lines::{Lines, Rest};
use crate::error::{Doing, Result};
use crate::sys::watch;

/// How often those are looked at who can't say that they are gone, in milliseconds: a monitor that was killed.
const GLANCE: u16 = 500;

/// How long one follows.
pub struct Follow<'a> {
    /// Whether more may come.
    pub lives: &'a dyn Fn() -> bool,
    /// A file that goes when whoever writes has ended.
    pub mark: Option<&'a Path>,
    pub until: Option<SystemTime>,
}

/// Gives `each` the lines (the last `tail` of those that are there), and None whenever there is no other one for now.
///
/// # Errors
/// EACCES; EMFILE, ENOSPC of inotify; those of `each`.
pub fn lines(path: &Path, tail: Option<u64>, follow: &Follow, each: &mut dyn FnMut(Option<&[u8]>) -> Result<Rest>) -> Result<()> {
    let doing = || format!("follow {}", path.display());
    let folder = path.parent().unwrap_or(path);
    // Before the first look: what happens after that look makes it readable.
    let watched: Vec<&Path> = std::iter::once(folder).chain(follow.mark).collect();
    let changes = watch::changed(&watched).doing(doing)?;
    let mut lines = Lines::open(path, tail)?;
    loop {
        watch::drain(changes.as_fd());
        // Asked before the file is read: what was written before the end is in it.
        let is_last = !(follow.lives)() || follow.until.is_some_and(|until| SystemTime::now() > until);
        lines.notice_truncation().doing(doing)?;
        if lines.rest(&mut |line| each(Some(line)))? == Rest::Later {
            return each(None).map(drop);
        }
        if lines.next_file() || lines.turn(path, &mut |line| each(Some(line)))? {
            continue;
        }
        each(None)?;
        if is_last {
            return Ok(());
        }
        watch::wait_readable(changes.as_fd(), Some(patience(follow.until))).doing(doing)?;
    }
}

fn patience(until: Option<SystemTime>) -> u16 {
    let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default().as_millis() + 1);
    left.map_or(GLANCE, |left| left.min(u128::from(GLANCE)) as u16)
}
