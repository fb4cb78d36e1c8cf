//! `container prune` and `system prune`: what nobody needs any more goes, after a question.
//!
//! Read: docker-container-prune(1), docker-system-prune(1).

use std::io::{BufRead, Write};
use std::time::SystemTime;

use clap::Args;

use super::filter::Filters;
use super::{human, image_remove, say, volume};
use crate::clock;
use crate::engine::home::Home;
use crate::engine::networks::prune as networks_prune;
use crate::engine::{prune, volumes};
use crate::error::{Doing, Error, Result};
use crate::image::store::Store;

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only those that fit: until=24h, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SystemPruneArgs {
    /// All images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Anonymous volumes that no container uses, too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    which: PruneArgs,
}

/// What the filters of a prune mean.
struct Meant {
    filters: Filters,
    until: Option<SystemTime>,
}

impl PruneArgs {
    fn meant(&self) -> Result<Meant> {
        let filters = Filters::parse(&self.filter, &["until", "label", "label!"])?;
        let now = SystemTime::now();
        let until = filters.values("until").last().map(|text| human::moment("--filter until", text, now)).transpose()?;
        Ok(Meant { filters, until })
    }
}

impl Meant {
    /// Whether something of this age (RFC 3339) and with these labels goes, when nobody needs it.
    fn fits(&self, created: &str, labels: &[(String, String)]) -> bool {
        let is_old = self.until.is_none_or(|until| clock::parse_rfc3339(created).is_some_and(|created| created < until));
        is_old && self.filters.labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

/// Removes all containers that don't run.
///
/// # Errors
/// Invalid for a filter.
pub fn containers(args: &PruneArgs) -> Result<u8> {
    let meant = args.meant()?;
    if !args.force && !agreed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let pruned = prune::containers(&Home::open()?, &|record| meant.fits(&record.created, &record.labels))?;
    list("Deleted Containers:", &pruned.ids)?;
    say(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))
}

/// Removes all networks on which no container is, or is to be.
///
/// # Errors
/// Invalid for a filter.
pub fn networks(args: &PruneArgs) -> Result<u8> {
    let meant = args.meant()?;
    if !args.force && !agreed("WARNING! This will remove all custom networks not used by at least one container.")? {
        return Ok(0);
    }
    let gone = networks_prune::prune(&Home::open()?, &|network| meant.fits(&network.created, &network.labels))?;
    list("Deleted Networks:", &gone).map(|()| 0)
}

/// Removes all containers that don't run, with `--volumes` the anonymous volumes that nobody uses then, and the images that nobody needs.
///
/// # Errors
/// Invalid for a filter.
pub fn system(args: &SystemPruneArgs) -> Result<u8> {
    let meant = args.which.meant()?;
    if args.volumes && meant.until.is_some() {
        return Err(Error::invalid("use --volumes", "the \"until\" filter is not supported with \"--volumes\""));
    }
    let volumes = if args.volumes { "  - all anonymous volumes not used by at least one container\n" } else { "" };
    let images = if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    let unused = "all networks not used by at least one container";
    let warning = format!("WARNING! This will remove:\n  - all stopped containers\n  - {unused}\n{volumes}  - {images}\n");
    if !args.which.force && !agreed(&warning)? {
        return Ok(0);
    }
    let home = Home::open()?;
    let pruned = prune::containers(&home, &|record| meant.fits(&record.created, &record.labels))?;
    list("Deleted Containers:", &pruned.ids)?;
    list("Deleted Networks:", &networks_prune::prune(&home, &|network| meant.fits(&network.created, &network.labels))?)?;
    let mut freed = pruned.bytes;
    if args.volumes {
        let pruned = volumes::prune(&home, &|known| volume::is_meant(known, false, &meant.filters))?;
        list("Deleted Volumes:", &pruned.ids)?;
        freed += pruned.bytes;
    }
    let store = Store::open(&home.data)?;
    let (removed, bytes) = image_remove::unneeded(&home, &store, args.all, &args.which.filter)?;
    list("Deleted Images:", &removed)?;
    say(format_args!("Total reclaimed space: {}", human::size(freed + bytes)))
}

/// A title and lines, when there are any.
///
/// # Errors
/// ENOSPC.
pub fn list(title: &str, lines: &[String]) -> Result<()> {
    if !lines.is_empty() {
        say(title)?;
        lines.iter().try_for_each(|line| say(line).map(drop))?;
        say("")?;
    }
    Ok(())
}

/// Asks on standard output and reads one line; only a yes is one.
///
/// # Errors
/// EIO.
pub fn agreed(warning: &str) -> Result<bool> {
    say(warning)?;
    print!("Are you sure you want to continue? [y/N] ");
    std::io::stdout().flush().doing(|| "ask".into())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).doing(|| "read the answer".into())?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
