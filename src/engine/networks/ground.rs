//! Where the bridges are: for root in the network namespace of the host; for an ordinary user in one of their own.
//!
//! What is done to links and rules is done there. See it: `readlink /proc/self/ns/net`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::home::Home;
use crate::error::{Class, Error, Result};
use crate::network::cidr::Cidr;
use crate::network::{self, address};

/// A network namespace with bridges; None is the one in which this process is.
#[must_use]
pub struct Ground {
    namespace: Option<OwnedFd>,
}

/// The ground for a container's networks; it is made when it isn't there yet.
///
/// # Errors
/// Unsupported where this user can't have one.
pub fn get(home: &Home) -> Result<Ground> {
    match home.rootless {
        false => Ok(Ground { namespace: None }),
        true => Err(Error::new(Class::Unsupported, "make a network", "ordinary users have the networks none and host")),
    }
}

/// The ground, when it is there: only then is there something to remove.
///
/// # Errors
/// EACCES.
pub fn present(home: &Home) -> Result<Option<Ground>> {
    Ok((!home.rootless).then_some(Ground { namespace: None }))
}

impl Ground {
    /// The namespace, when it is not this process' own.
    pub fn namespace(&self) -> Option<BorrowedFd<'_>> {
        self.namespace.as_ref().map(|namespace| namespace.as_fd())
    }

    /// Does the work on this ground.
    ///
    /// # Errors
    /// Those of the work.
    pub fn inside<T: Serialize + DeserializeOwned>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        work()
    }
}

/// What the host reaches already, its default route aside: a network of ours there would lead its own traffic astray.
///
/// # Errors
/// EPERM.
pub fn known_ranges(home: &Home) -> Result<Vec<Cidr>> {
    let mut known = ranges_here()?;
    if let Some(ground) = present(home)?.filter(|ground| ground.namespace.is_some()) {
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
