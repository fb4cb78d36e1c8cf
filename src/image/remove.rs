//! Taking names away, and images that have none left: `rmi`, `image prune`.
//!
//! An image that a container needs stays; who asks is told which container. Docker's rules decide what may be forced: a name may always
//! go, an image only when the containers that need it are stopped. Those keep its layers then.
//!
//! Read: docker rmi(1), docker image prune(1).

use super::collect::{self, User, Users};
use super::digest::{ChainId, Digest};
use super::list::{self, Listed, Repositories};
use super::reference::Reference;
use super::resolve::find;
use super::store::Store;
use crate::error::{Class, Error, Result};

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Name(String),
    Image(Digest),
    Layer(ChainId),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Removed::Name(name) => write!(f, "Untagged: {name}"),
            Removed::Image(id) => write!(f, "Deleted: {id}"),
            Removed::Layer(chain) => write!(f, "Deleted: {chain}"),
        }
    }
}

/// Removes what `name` means: a name if the image has others, the image if not. `keep_layers` leaves collecting to the next who removes.
///
/// # Errors
/// NotFound, Conflict with the container that needs it.
pub fn remove(store: &Store, name: &str, force: bool, keep_layers: bool, users: Users) -> Result<Vec<Removed>> {
    let mut removed = store.change_repositories(|repositories| remove_from(store, repositories, name, force, &users()?))??;
    if removed.iter().any(|one| matches!(one, Removed::Image(_))) {
        collect::want(store)?;
        if !keep_layers {
            removed.extend(collect::collect(store, users)?.snapshots.into_iter().map(Removed::Layer));
        }
    }
    Ok(removed)
}

/// Removes the images without a name that no container needs; with `all` also those with names. `is_meant` chooses among them.
/// Answers what went, and how many bytes.
///
/// # Errors
/// EACCES, ENOSPC.
pub fn prune(store: &Store, all: bool, is_meant: &dyn Fn(&Listed) -> Result<bool>, users: Users) -> Result<(Vec<Removed>, u64)> {
    let mut removed = store.change_repositories(|repositories| {
        let needed = users()?;
        let mut removed = Vec::new();
        for image in list::listed(store, repositories) {
            let is_free = (all || image.names.is_empty()) && !needed.iter().any(|user| user.image == image.id.as_str());
            if is_free && is_meant(&image)? {
                forget(repositories, &image, &mut removed);
            }
        }
        Ok::<_, Error>(removed)
    })??;
    collect::want(store)?;
    let freed = collect::collect(store, users)?;
    removed.extend(freed.snapshots.into_iter().map(Removed::Layer));
    Ok((removed, freed.bytes))
}

fn remove_from(store: &Store, repositories: &mut Repositories, name: &str, force: bool, users: &[User]) -> Result<Vec<Removed>> {
    let doing = || format!("remove the image {name}");
    let manifest = find(store, repositories, name).map_err(|e| Error { doing: doing(), ..e })?;
    let all = list::listed(store, repositories);
    let Some(image) = all.into_iter().find(|image| image.manifests.contains(&manifest)) else {
        return Err(Error::new(Class::NotFound, doing(), format!("No such image: {name}")));
    };
    let conflict = |why: String| Error::new(Class::Conflict, doing(), format!("conflict: {why}"));
    let short = |user: &User| crate::id::short(&user.container).to_string();
    let mut using = users.iter().filter(|user| user.image == image.id.as_str());
    let running = using.clone().find(|user| user.is_running);
    let named = Reference::parse(name).ok().filter(|reference| repositories.references.contains_key(&reference.to_string()));
    let mut removed = Vec::new();
    if let Some(reference) = named {
        let is_last = image.names.len() == 1;
        if let Some(user) = using.next().filter(|_| is_last && !force) {
            let (container, id) = (short(user), image.id.short());
            return Err(conflict(format!(
                "unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {id}"
            ))
            .hint(format!("remove the container first: onggi rm {}{container}", if user.is_running { "-f " } else { "" })));
        }
        repositories.references.remove(&reference.to_string());
        removed.push(Removed::Name(reference.familiar()));
        if !is_last || running.is_some() {
            return Ok(removed);
        }
        forget(repositories, &Listed { names: Vec::new(), ..image }, &mut removed);
        return Ok(removed);
    }
    let cannot = |force: &str, why: String| conflict(format!("unable to delete {} ({force}) - {why}", image.id.short()));
    if let Some(user) = running {
        return Err(cannot("cannot be forced", format!("image is being used by running container {}", short(user)))
            .hint(format!("stop the container first: onggi stop {}", short(user))));
    }
    if image.names.len() > 1 && !force {
        return Err(
            cannot("must be forced", "image is referenced in multiple repositories".into()).hint("remove it by one of its names, or with -f by all")
        );
    }
    if let Some(user) = using.next().filter(|_| !force) {
        return Err(cannot("must be forced", format!("image is being used by stopped container {}", short(user)))
            .hint(format!("remove the container first: onggi rm {}", short(user))));
    }
    forget(repositories, &image, &mut removed);
    Ok(removed)
}

fn forget(repositories: &mut Repositories, image: &Listed, removed: &mut Vec<Removed>) {
    for (name, _) in &image.names {
        repositories.references.remove(&name.to_string());
        removed.push(Removed::Name(name.familiar()));
    }
    for manifest in &image.manifests {
        repositories.images.remove(manifest);
    }
    removed.push(Removed::Image(image.id.clone()));
}
