//! One life of a container, from the monitor's side: it is created with streams that the monitor holds, and started.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::net::Net;
use crate::engine::ends::Ends;
use crate::engine::foreground;
use crate::engine::home::Home;
use crate::engine::log::Stream;
use crate::engine::networks::connect;
use crate::engine::prepare;
use crate::engine::record::{self, Definition};
use crate::error::{Class, Error, Result};
use crate::runtime::cgroups::{self, OomWatcher, Place};
use crate::runtime::lifecycle::{self, Choices};
use crate::runtime::state::{ProcessId, Store};
use crate::sys::terminal;

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
    pub net: Net,
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
pub fn create(home: &Home, store: &Store, id: &str, definition: &Definition) -> Result<Life> {
    let record = connect::renew(home, record::load(home, id)?)?;
    // What it is on may have been changed since it was created.
    let mut definition = definition.clone();
    definition.request.network = record.network.clone();
    let mut net = Net::begin(home, &record, &definition)?;
    let prepared = prepare::prepare(home, &record, &definition)?;
    let (hostname, resolver) = (prepared.hostname, prepared.resolver);
    let mut ends = Ends::make(definition.request.terminal, definition.request.interactive)?;
    let creation = lifecycle::Request {
        id: id.into(),
        bundle: prepared.bundle,
        choices: Choices { ends_with_maker: true, ..Choices::default() },
        rootfs: prepared.rootfs,
        trees: prepared.trees,
        stdio: ends.theirs.take(),
        console: ends.console.take(),
        meanwhile: Some(&mut |pid| net.join(home, &record, &definition.request, hostname.as_deref(), &resolver, pid)),
    };
    let created = lifecycle::create(store, creation)?;
    let init = created.record.init.ok_or_else(|| Error::new(Class::System, "create the container", "it has no first process"))?;
    let ours = ends.ours()?;
    let source = |from: Option<OwnedFd>, stream| from.map(|from| Source { from, stream });
    let warnings = prepared.warning.into_iter().chain(created.warnings).chain(std::mem::take(&mut net.warnings)).collect();
    Ok(Life {
        net,
        init,
        pidfd: created.pidfd,
        oom: created.record.cgroup.as_ref().and_then(|place| cgroups::oom_events(place).ok()),
        cgroup: created.record.cgroup,
        sources: [source(ours.stdout, Stream::Stdout), source(ours.stderr, Stream::Stderr)].into_iter().flatten().collect(),
        input: ours.input,
        master: ours.master,
        oom_killed: false,
        began: Instant::now(),
        warnings,
    })
}

impl Life {
    /// Gives its terminal a size.
    pub fn resize(&self, size: Option<(u16, u16)>) {
        if let (Some(master), Some((rows, columns))) = (&self.master, size) {
            let _ = terminal::resize(master.as_fd(), terminal::Size { rows, columns });
        }
    }
}

/// The size of the caller's terminal, for [`super::control::Attach`].
pub fn size_of_ours() -> Option<(u16, u16)> {
    foreground::our_size().map(|size| (size.rows, size.columns))
}
