//! Where the bridges are: for root in the network namespace of the host; for an ordinary user, who may change nothing there, in one of
//! their own that all of their containers' networks share ([`keeper`]).
//!
//! What is done to links and rules is done there. See it: `readlink /proc/self/ns/net`, and rootless `ls -l /proc/P/fd` of
//! `onggi-network`. Read: network_namespaces(7), setns(2).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keeper::{self, Line};
use crate::engine::home::Home;
use crate::error::{Class, Doing, Error, Result};
use crate::network::cidr::Cidr;
use crate::network::{self, address};
use crate::sys::namespace::{self, CLONE_NEWNET};
use crate::sys::process::{self, Clone, Forked};
use crate::sys::{call::fault, fd};

/// A network namespace with bridges, which stays at least until this is dropped; the one in which this process is, when there is no line
/// to a keeper of another.
#[must_use]
pub struct Ground {
    line: Option<Line>,
}

/// The ground for a container's networks; it is made when it isn't there yet.
///
/// # Errors
/// ENOSPC; EPERM where this user can't have one.
pub fn get(home: &Home) -> Result<Ground> {
    let line = if home.rootless { Some(keeper::call_or_begin(home)?) } else { None };
    Ok(Ground { line })
}

/// The ground, when it is there: only then is there something to remove.
///
/// # Errors
/// EACCES.
pub fn present(home: &Home) -> Result<Option<Ground>> {
    match home.rootless {
        false => Ok(Some(Ground { line: None })),
        true => Ok(keeper::call(home)?.map(|line| Ground { line: Some(line) })),
    }
}

impl Ground {
    /// The namespace, when it is not this process' own.
    pub fn namespace(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(|line| line.namespace.as_fd())
    }

    /// Does the work on this ground. Where that is elsewhere, a fork goes there and tells what came of it: who has left the namespace of
    /// the host has no right to come back. What the work changes in memory is therefore lost; what it answers is not.
    ///
    /// # Errors
    /// Those of the work.
    pub fn inside<T: Serialize + DeserializeOwned>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(namespace) = self.namespace() else { return work() };
        let (read, write) = fd::pipe().doing(working)?;
        let pidfd = errand(namespace, |arrived| {
            let outcome = arrived.and_then(|()| work());
            let _ = File::from(write).write_all(&serde_json::to_vec(&outcome).unwrap_or_default());
        })?;
        let mut text = Vec::new();
        let heard = File::from(read).read_to_end(&mut text);
        let _ = process::wait(pidfd.as_fd());
        heard.doing(working)?;
        told(&text)
    }

    /// The same for work that opens descriptors: they come back.
    ///
    /// # Errors
    /// Those of the work.
    pub fn open(&self, work: impl FnOnce() -> Result<Vec<OwnedFd>>) -> Result<Vec<OwnedFd>> {
        let Some(namespace) = self.namespace() else { return work() };
        let (ours, theirs) = fd::message_pair().doing(working)?;
        let sender = theirs.as_fd();
        let pidfd = errand(namespace, |arrived| {
            let (outcome, opened) = match arrived.and_then(|()| work()) {
                Ok(opened) => (Ok(()), opened),
                Err(e) => (Err(e), Vec::new()),
            };
            let fds: Vec<BorrowedFd> = opened.iter().map(|fd| fd.as_fd()).collect();
            let _ = fd::send(sender, &serde_json::to_vec::<Result<()>>(&outcome).unwrap_or_default(), &fds);
        })?;
        drop(theirs);
        let heard = fd::receive(ours.as_fd());
        let _ = process::wait(pidfd.as_fd());
        let (text, opened) = heard.doing(working)?;
        told::<()>(&text).map(|()| opened)
    }
}

/// Forks a process that goes into the namespace, does its errand, told whether it has arrived, and ends.
fn errand(namespace: BorrowedFd, errand: impl FnOnce(Result<()>)) -> Result<OwnedFd> {
    match process::clone3(&Clone::default()).doing(working)? {
        Forked::Parent { pidfd, .. } => Ok(pidfd),
        Forked::Child => {
            // The tests count the calls of who sent us.
            fault::role("ground");
            errand(namespace::setns(namespace, CLONE_NEWNET).doing(working));
            process::exit_now(0)
        }
    }
}

fn told<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let silent = |_| Error::new(Class::System, working(), "the process for it ended without a word (out of memory?)");
    serde_json::from_slice::<Result<T>>(text).map_err(silent)?
}

fn working() -> String {
    "work on the networks".into()
}

/// What the host reaches already, its default route aside: a network of ours there would lead its own traffic astray.
///
/// # Errors
/// EPERM.
pub fn known_ranges(home: &Home) -> Result<Vec<Cidr>> {
    let mut known = ranges_here()?;
    if let Some(ground) = present(home)?.filter(|ground| ground.line.is_some()) {
        known.extend(ground.inside(ranges_here)?);
    }
    Ok(known)
}

fn ranges_here() -> Result<Vec<Cidr>> {
    let socket = network::open()?;
    let mut known: Vec<Cidr> = address::routes(&socket)?.into_iter().map(|route| route.destination).filter(|range| range.prefix > 0).collect();
    known.extend(address::addresses(&socket)?.into_iter().map(|address| Cidr::new(address.cidr.network(), address.cidr.prefix)));
    Ok(known)
}
