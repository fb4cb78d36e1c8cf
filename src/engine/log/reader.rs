//! Reading a log back: all of it or the last lines, now or as it grows.
//!
//! See it: `strace -e openat,pread64,read onggi logs --tail 1 web`. Read: docker-logs(1), pread(2).

use std::borrow::Cow;
use std::path::Path;
use std::time::SystemTime;

use super::entry::{self, Entry};
use super::follow::{self, Follow};
use super::lines::{Lines, Rest};
use crate::clock;
use crate::error::{Doing, Result};

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The last entries only; None is all.
    pub tail: Option<u64>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

/// Takes the entries, one after the other. None says that there is no other one now, and that what was gathered should be shown. Its
/// errors are those of whoever reads the output, and end the reading.
pub type Take<'a> = dyn FnMut(Option<&Entry>) -> std::io::Result<()> + 'a;

/// Gives `take` what is there. With `follow` it goes on with what comes, until the container has ended, or `wanted.until` is over. A
/// container that never said anything has an empty log.
///
/// # Errors
/// EACCES; EMFILE, ENOSPC of inotify(7); those of `take`.
pub fn read(path: &Path, wanted: &Wanted, follow: Option<Follow>, take: &mut Take) -> Result<()> {
    let sortable_text = |time: Option<SystemTime>| time.map(clock::rfc3339);
    let (since, until) = (sortable_text(wanted.since), sortable_text(wanted.until));
    let doing = || "write the log".to_string();
    let mut entry = Entry::default();
    let mut each = |line: Option<&[u8]>| {
        let Some(line) = line else { return take(None).map(|()| Rest::ToCome).doing(doing) };
        // A damaged line is left out; those around it are not.
        if !entry::decode(line, &mut entry) {
            return Ok(Rest::ToCome);
        }
        if until.as_deref().is_some_and(|until| *timestamp(&entry) > *until) {
            return Ok(Rest::Later);
        }
        match since.as_deref().is_none_or(|since| *timestamp(&entry) >= *since) {
            true => take(Some(&entry)).map(|()| Rest::ToCome).doing(doing),
            false => Ok(Rest::ToCome),
        }
    };
    let Some(follow) = follow else {
        let mut lines = Lines::open(path, wanted.tail)?;
        while lines.rest(&mut |line| each(Some(line)))? == Rest::ToCome && lines.next_file() {}
        return each(None).map(drop);
    };
    follow::lines(path, wanted.tail, &Follow { until: wanted.until, ..follow }, &mut each)
}

/// The time of an entry as `logs --timestamps` shows it: all nine digits, where others leave out the last zeros. Such times sort as text.
pub fn timestamp(entry: &Entry) -> Cow<'_, str> {
    let time = entry.time.as_str();
    if time.len() == "2026-11-21T08:00:00.123456789Z".len() {
        return time.into();
    }
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}Z").into()
}
