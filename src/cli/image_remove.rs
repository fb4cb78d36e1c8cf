//! `rmi` and `image prune`.
//!
//! Read: docker rmi(1), docker image prune(1).

use clap::Args;

use super::filter::Filters;
use super::image_filter::Chosen;
use super::images::tell;
use super::prune::agreed;
use super::{each, human};
use crate::engine::events;
use crate::engine::home::Home;
use crate::engine::images::users;
use crate::error::Result;
use crate::image::remove::{self, Removed};
use crate::image::{list, store::Store};

#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names, IDs or beginnings of IDs
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
    /// Also an image with several names, or one that a stopped container was made from
    #[arg(short, long)]
    force: bool,
    /// Leave the layers that nobody needs any more to the next one who removes an image
    #[arg(long)]
    no_prune: bool,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also images with a name, if no container was made from them
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// `rmi`
///
/// # Errors
/// NotFound, Conflict with the container that needs it.
pub fn rm(home: &Home, store: &Store, args: &RmArgs) -> Result<u8> {
    each(&args.names, |name| {
        for removed in remove::remove(store, name, args.force, args.no_prune, &|| users(home))? {
            note(home, &removed);
            tell(removed)?;
        }
        Ok(0)
    })
}

/// `image prune`
///
/// # Errors
/// Invalid for a filter; EACCES.
pub fn prune(home: &Home, store: &Store, args: &PruneArgs) -> Result<u8> {
    // `label!=x` has its `=` after the mark.
    let filters = Filters::parse(&args.filter, &["until", "label", "label!", "dangling"])?;
    let all = args.all || filters.switch("dangling")? == Some(false);
    let what = if all { "all images without at least one container associated to them" } else { "all dangling images" };
    if !args.force && !agreed(&format!("WARNING! This will remove {what}."))? {
        return Ok(0);
    }
    let others: Vec<String> = args.filter.iter().filter(|text| !text.starts_with("dangling")).cloned().collect();
    let (removed, bytes) = unneeded(home, store, all, &others)?;
    super::prune::list("Deleted Images:", &removed)?;
    tell(format!("Total reclaimed space: {}", human::size(bytes)))?;
    Ok(0)
}

/// Removes the images that nobody needs: what went, a line each, and how many bytes that were.
///
/// # Errors
/// Invalid for a filter; EACCES.
pub fn unneeded(home: &Home, store: &Store, all: bool, filters: &[String]) -> Result<(Vec<String>, u64)> {
    let filters = Filters::parse(filters, &["until", "label", "label!"])?;
    let chosen = Chosen::new(store, &filters, &list::all(store)?)?;
    let (removed, bytes) = remove::prune(store, all, &|image| chosen.takes(image), &|| users(home))?;
    removed.iter().for_each(|one| note(home, one));
    let line = |one: &Removed| match one {
        Removed::Name(name) => format!("untagged: {name}"),
        Removed::Image(id) => format!("deleted: {id}"),
        Removed::Layer(chain) => format!("deleted: {chain}"),
    };
    Ok((removed.iter().map(line).collect(), bytes))
}

/// Others may want to hear of it.
fn note(home: &Home, removed: &Removed) {
    match removed {
        Removed::Name(name) => events::image(home, "untag", name, ""),
        Removed::Image(id) => events::image(home, "delete", &id.to_string(), ""),
        Removed::Layer(_) => {}
    }
}
