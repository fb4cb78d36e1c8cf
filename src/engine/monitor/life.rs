//! One life of a container, from the monitor's side: it is created with streams that the monitor holds, and started.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use crate::engine::foreground;
use crate::engine::home::Home;
use crate::engine::log::Stream;
use crate::engine::prepare;
use crate::engine::record::{Definition, Record};
use crate::engine::request::Request;
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::cgroups::{self, OomWatcher, Place};
use crate::runtime::lifecycle::{self, Choices};
use crate::runtime::state::{ProcessId, Store};
use crate::sys::{fd, terminal};

/// A container whose first process is there.
pub struct Life {
    pub init: ProcessId,
    pub pidfd: OwnedFd,
    pub cgroup: Option<Place>,
    /// What it writes.
    pub sources: Vec<Source>,
    /// What it reads: a pipe, or its terminal.
    pub input: Option<OwnedFd>,
    /// The master of its terminal.
    pub master: Option<OwnedFd>,
    pub oom: Option<OomWatcher>,
    pub oom_killed: bool,
    pub began: Instant,
    pub warnings: Vec<String>,
}

/// One stream that the container writes.
pub struct Source {
    pub from: OwnedFd,
    pub stream: Stream,
}

/// Creates the container anew: all but its program, which waits for `lifecycle::start`.
///
/// # Errors
/// Of every step; nothing is left behind.
pub fn create(home: &Home, store: &Store, record: &Record, definition: &Definition) -> Result<Life> {
    let prepared = prepare::prepare(home, record, definition)?;
    let mut ends = ends(&definition.request)?;
    let creation = lifecycle::Request {
        id: record.id.clone(),
        bundle: prepared.bundle,
        choices: Choices { ends_with_maker: true, ..Choices::default() },
        rootfs: prepared.rootfs,
        stdio: ends.theirs.take(),
        console: ends.console.take(),
    };
    let created = lifecycle::create(store, creation)?;
    let init = created.record.init.ok_or_else(|| Error::new(Class::System, "create the container", "it has no first process"))?;
    let mut life = Life {
        init,
        pidfd: created.pidfd,
        oom: created.record.cgroup.as_ref().and_then(|place| cgroups::oom_events(place).ok()),
        cgroup: created.record.cgroup,
        sources: ends.sources,
        input: ends.input,
        master: None,
        oom_killed: false,
        began: Instant::now(),
        warnings: prepared.warning.into_iter().chain(created.warnings).collect(),
    };
    if let Some(socket) = ends.terminal {
        let doing = || "take the container's terminal".to_string();
        let (_, fds) = fd::receive(socket.as_fd()).doing(doing)?;
        let master = fds.into_iter().next().ok_or_else(|| Error::new(Class::System, doing(), "none came"))?;
        let copy = || fd::duplicate(master.as_fd()).doing(doing);
        life.sources.push(Source { from: copy()?, stream: Stream::Stdout });
        life.input = if definition.request.interactive { Some(copy()?) } else { None };
        life.master = Some(master);
    }
    Ok(life)
}

impl Life {
    /// Gives its terminal a size.
    pub fn resize(&self, size: Option<(u16, u16)>) {
        if let (Some(master), Some((rows, columns))) = (&self.master, size) {
            let _ = terminal::resize(master.as_fd(), terminal::Size { rows, columns });
        }
    }
}

/// The ends of the container's streams: its own, and ours.
struct Ends {
    theirs: Option<[OwnedFd; 3]>,
    input: Option<OwnedFd>,
    sources: Vec<Source>,
    console: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// A terminal, or pipes: never somebody's own descriptors, for a container that has a caller's terminal open can read what is typed.
fn ends(request: &Request) -> Result<Ends> {
    let doing = || "make the container's streams".to_string();
    if request.terminal {
        let (ours, theirs) = fd::message_pair().doing(doing)?;
        return Ok(Ends { theirs: None, input: None, sources: Vec::new(), console: Some(theirs), terminal: Some(ours) });
    }
    let (out_read, out_write) = fd::pipe().doing(doing)?;
    let (err_read, err_write) = fd::pipe().doing(doing)?;
    let (stdin, input) = if request.interactive {
        let (read, write) = fd::pipe().doing(doing)?;
        (read, Some(write))
    } else {
        (std::fs::File::open("/dev/null").doing(|| "open /dev/null".into())?.into(), None)
    };
    let sources = vec![Source { from: out_read, stream: Stream::Stdout }, Source { from: err_read, stream: Stream::Stderr }];
    Ok(Ends { theirs: Some([stdin, out_write, err_write]), input, sources, console: None, terminal: None })
}

/// The size of the caller's terminal, for [`super::control::Attach`].
pub fn size_of_ours() -> Option<(u16, u16)> {
    foreground::our_size().map(|size| (size.rows, size.columns))
}
