//! `container prune` and `system prune`: what nobody needs any more goes, after a question.

use std::io::{BufRead, IsTerminal, Write};
use std::time::SystemTime;

use clap::Args;

use super::filter::Filters;
use super::{human, say};
use crate::clock;
use crate::engine::home::Home;
use crate::engine::prune;
use crate::engine::record::Record;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only those that fit: until=24h, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
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
    if !args.force && !agreed("WARNING! This will remove all stopped containers.\n")? {
        return Ok(0);
    }
    let pruned = prune::containers(&Home::open()?, &is_meant)?;
    if !pruned.ids.is_empty() {
        say("Deleted Containers:")?;
        pruned.ids.iter().try_for_each(|id| say(id).map(drop))?;
        say("")?;
    }
    say(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))
}

/// Asks on a terminal; elsewhere nobody can answer, and that is no.
///
/// # Errors
/// Invalid when there is nobody to ask.
pub fn agreed(warning: &str) -> Result<bool> {
    let mut error = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid("ask before removing", "standard input is no terminal").hint("say --force (-f) to remove without a question"));
    }
    let _ = write!(error, "{warning}Are you sure you want to continue? [y/N] ");
    let _ = error.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
