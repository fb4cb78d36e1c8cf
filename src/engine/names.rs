//! Names: a link each, from the name to the ID. Who makes, renames or removes a container holds one lock for all names meanwhile, so
//! that of two commands with the same name one wins.
//!
//! A link whose container doesn't say the same name is left from a command that was killed, and counts for nothing.
//!
//! See it: `ls -l /var/lib/onggi/names`. Read: symlink(7), flock(2).

use std::fs::File;
use std::path::Path;

use super::home::Home;
use super::record::{self, Record};
use crate::error::{Class, Doing, Error, Result};
use crate::id;

/// The right to change names, until it is dropped.
#[must_use]
pub struct Names<'a> {
    home: &'a Home,
    _lock: File,
}

/// Waits for the right to change names.
///
/// # Errors
/// EACCES, ENOSPC.
pub fn lock(home: &Home) -> Result<Names<'_>> {
    let path = home.data.join("names.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).doing(|| format!("open {}", path.display()))?;
    file.lock().doing(|| format!("lock {}", path.display()))?;
    Ok(Names { home, _lock: file })
}

impl Names<'_> {
    /// Takes a name for an ID.
    ///
    /// # Errors
    /// Conflict, with the container that has it.
    pub fn claim(&self, name: &str, id: &str) -> Result<()> {
        let link = self.home.name(name);
        if let Some(owner) = self.owner(name).filter(|owner| owner != id) {
            let why = format!("the container name \"/{name}\" is already in use by container \"{owner}\"");
            return Err(Error::new(Class::Conflict, format!("name a container {name}"), why)
                .hint("remove (onggi rm) or rename (onggi rename) that container to reuse the name"));
        }
        // A rename over what is there: at no instant is the name without a link.
        let new = self.home.data.join("names.new");
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(id, &new).and_then(|()| std::fs::rename(&new, &link)).doing(|| format!("take the name {name}"))
    }

    /// A name of ours that nobody has, with a number when two words are not enough.
    ///
    /// # Errors
    /// Conflict when all are taken.
    pub fn choose(&self, id: &str) -> Result<String> {
        let name = id::pleasant_name(id);
        let free = std::iter::once(name.clone()).chain((2..100_000).map(|n| format!("{name}{n}"))).find(|name| self.owner(name).is_none());
        free.ok_or_else(|| Error::new(Class::Conflict, "name the container", "all names are taken; give one with --name"))
    }

    /// Gives a name back, if it is this container's.
    pub fn release(&self, name: &str, id: &str) {
        let link = self.home.name(name);
        if std::fs::read_link(&link).is_ok_and(|owner| owner == Path::new(id)) {
            let _ = std::fs::remove_file(link);
        }
    }

    fn owner(&self, name: &str) -> Option<String> {
        by_name(self.home, name).map(|record| record.id)
    }
}

fn by_name(home: &Home, name: &str) -> Option<Record> {
    let owner = std::fs::read_link(home.name(name)).ok()?;
    record::load(home, &owner.to_string_lossy()).ok().filter(|record| record.name == name)
}

/// The container that somebody means: by its ID, its name, or the beginning of its ID, in this order.
///
/// # Errors
/// NotFound; Conflict when several IDs begin like this.
pub fn find(home: &Home, text: &str) -> Result<Record> {
    let text = text.strip_prefix('/').unwrap_or(text);
    // A name is a file's name below: nothing that leads elsewhere.
    if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        return Err(record::no_such(text));
    }
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && text.len() == 64 && home.container(text).exists() {
        return record::load(home, text);
    }
    if let Some(record) = by_name(home, text) {
        return Ok(record);
    }
    if !is_hex {
        return Err(perhaps_meant(home, text));
    }
    let mut fitting = record::ids(home)?.into_iter().filter(|id| id.starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => record::load(home, &id),
        (Some(one), Some(other)) => {
            let why = format!("multiple IDs found with provided prefix: {} and {}", id::short(&one), id::short(&other));
            Err(Error::new(Class::Conflict, format!("find the container {text}"), why).hint("give more of its ID"))
        }
        _ => Err(perhaps_meant(home, text)),
    }
}

/// There is no such container, and this is the one that was perhaps meant.
fn perhaps_meant(home: &Home, text: &str) -> Error {
    let links = std::fs::read_dir(home.data.join("names")).into_iter().flatten().flatten();
    let names: Vec<String> = links.map(|link| link.file_name().to_string_lossy().into_owned()).collect();
    match id::nearest(text, names.iter().map(String::as_str)).filter(|name| by_name(home, name).is_some()) {
        Some(name) => record::no_such(text).hint(format!("did you mean {name}?")),
        None => record::no_such(text),
    }
}

/// The container that somebody means and whose record can't be read: its ID.
pub fn find_damaged(home: &Home, text: &str) -> Option<String> {
    let is_plain = !text.is_empty() && text != "." && text != ".." && !text.contains('/');
    let named = is_plain.then(|| std::fs::read_link(home.name(text)).ok()).flatten();
    let is_meant = |id: &String| is_plain && id.starts_with(text) || named.as_deref() == Some(Path::new(id));
    let mut meant = record::ids(home).ok()?.into_iter().filter(is_meant);
    let only = meant.next().filter(|_| meant.next().is_none())?;
    record::load(home, &only).is_err_and(|e| e.class == Class::Invalid).then_some(only)
}
