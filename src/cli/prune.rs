//! `container prune` and `system prune`: what nobody needs any more goes, after a question.
//!
//! Read: docker-container-prune(1), docker-system-prune(1).

use std::io::{BufRead, Write};
use std::time::SystemTime;

use clap::Args;

use super::filter::Filters;
use super::{human, image_remove, networks, say, volume};
use crate::clock;
use crate::engine::home::Home;
use crate::engine::networks::prune as networks_prune;
use crate::engine::record::Record;
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

impl PruneArgs {
    fn is_meant(&self) -> Result<impl Fn(&Record) -> bool + use<>> {
        let filters = Filters::parse(&self.filter, &["until", "label", "label!"])?;
        let now = SystemTime::now();
        let until = filters.values("until").last().map(|text| human::moment("--filter until", text, now)).transpose()?;
        Ok(move |record: &Record| {
            let created = clock::parse_rfc3339(&record.created);
            let has = |wanted: &String| {
                let (key, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(key, value)| (key, Some(value)));
                record.labels.iter().any(|(k, v)| k == key && value.is_none_or(|value| v == value))
            };
            let old = until.is_none_or(|until| created.is_some_and(|created| created < until));
            old && !filters.values("label!").iter().any(has)
                && filters.labels(record.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        })
    }
}

/// Removes all containers that don't run.
///
/// # Errors
/// Invalid for a filter.
pub fn containers(args: &PruneArgs) -> Result<u8> {
    let is_meant = args.is_meant()?;
    if !args.force && !agreed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let pruned = prune::containers(&Home::open()?, &is_meant)?;
    list("Deleted Containers:", &pruned.ids)?;
    say(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))
}

/// Removes all containers that don't run, with `--volumes` the anonymous volumes that nobody uses then, and the images that nobody needs.
///
/// # Errors
/// Invalid for a filter.
pub fn system(args: &SystemPruneArgs) -> Result<u8> {
    let is_meant = args.which.is_meant()?;
    let filters = Filters::parse(&args.which.filter, &["until", "label", "label!"])?;
    if args.volumes && filters.has("until") {
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
    let pruned = prune::containers(&home, &is_meant)?;
    list("Deleted Containers:", &pruned.ids)?;
    list("Deleted Networks:", &networks_prune::prune(&home, &networks::meant(&args.which.filter)?)?)?;
    let mut freed = pruned.bytes;
    if args.volumes {
        let pruned = volumes::prune(&home, &volume::is_meant(false, filters.clone()))?;
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
