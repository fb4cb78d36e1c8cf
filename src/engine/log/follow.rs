//! `logs --follow`: what is there, and then what comes, until the container has ended.
//!
//! inotify(7) says that something happened in the container's folder; what it was, the files tell. A file that was rotated away is read to
//! its end through the descriptor that is open, and its successor is found by the inode, so that no line is left out and none comes twice.
//!
//! See it: `cat /proc/$(pgrep -f 'onggi logs')/fdinfo/*`. Read: inotify(7).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use super::reader::{Reader, Rest, Take, Wanted, generations, identity};
use crate::error::{Doing, Result};
use crate::sys::watch;

/// How often those are looked at who can't say that they are gone, in milliseconds: a monitor that was killed.
const GLANCE: u16 = 500;

/// Gives `take` what is there and what comes, until the container has ended (`lives` says no) or the time of `wanted.until` is over.
/// `mark` is the file that goes with the container.
///
/// # Errors
/// EACCES; EMFILE, ENOSPC of inotify; those of `take`.
pub fn follow(path: &Path, wanted: &Wanted, mark: &Path, lives: &dyn Fn() -> bool, take: &mut Take) -> Result<()> {
    let doing = || format!("follow the log {}", path.display());
    let folder = path.parent().unwrap_or(path);
    // Before the first look: what happens after that look makes it readable.
    let changes = watch::changed(&[folder, mark]).doing(doing)?;
    let mut reader = Reader::open(path, wanted)?;
    loop {
        watch::drain(changes.as_fd());
        // Asked before the file is read: what was written before the end is in it.
        let is_last = !lives() || wanted.until.is_some_and(|until| SystemTime::now() > until);
        reader.notice_truncation().doing(doing)?;
        if reader.rest(take)? == Rest::Later {
            return take(None).doing(doing);
        }
        if reader.next_file() || turn(&mut reader, path, take)? {
            continue;
        }
        take(None).doing(doing)?;
        if is_last {
            return Ok(());
        }
        watch::wait_readable(changes.as_fd(), Some(patience(wanted.until))).doing(doing)?;
    }
}

fn patience(until: Option<SystemTime>) -> u16 {
    let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default().as_millis() + 1);
    left.map_or(GLANCE, |left| left.min(u128::from(GLANCE)) as u16)
}

/// Goes on in a younger file when there is one.
fn turn(reader: &mut Reader, path: &Path, take: &mut Take) -> Result<bool> {
    let doing = || format!("follow the log {}", path.display());
    let Some(current) = reader.file.as_ref().map(identity).transpose().doing(doing)? else {
        reader.append(generations(path).doing(doing)?);
        return Ok(reader.next_file());
    };
    // Between two files, or removed with its container: nothing younger is there.
    let Ok(youngest) = File::open(path) else { return Ok(false) };
    if identity(&youngest).doing(doing)? == current {
        return Ok(false);
    }
    // It gets nothing more; what it got since we were at its end is still to be read.
    if reader.rest(take)? == Rest::Later {
        return Ok(false);
    }
    let mut files = generations(path).doing(doing)?;
    let at = files.iter().position(|file| identity(file).is_ok_and(|one| one == current));
    // Not there any more: so fast was it rotated that what lies between is gone, and the oldest is next.
    reader.append(files.drain(at.map_or(0, |at| at + 1)..));
    Ok(reader.next_file())
}
