//! `onggi search`: repositories of the Hub, or of a registry of one's own.
//!
//! Read: docker-search(1).

use clap::Args;
use serde_json::{Value, json};

use super::filter::Filters;
use super::image_look::ellipsis;
use super::table::{self, Column, Listing};
use crate::error::{Error, Result};
use crate::image::registry::search::{self, Found};
use crate::image::registry::settings::Settings;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  onggi search --filter is-official=true nginx\n  onggi search localhost:5000/web")]
pub struct SearchArgs {
    /// Part of a name on the Hub; REGISTRY/PART looks in another registry
    term: String,
    /// stars=NUMBER (at least), is-official=true|false, is-automated=true|false
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// At most so many, 1 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 25, hide_default_value = true)]
    limit: i64,
    /// Show whole descriptions
    #[arg(long)]
    no_trunc: bool,
    /// A template for each repository, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const HEADERS: &[(&str, &str)] = &[("IsAutomated", "AUTOMATED")];

/// Shows what fits.
///
/// # Errors
/// Invalid for a filter or a limit; those of the registry.
pub fn search(args: &SearchArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["is-automated", "is-official", "stars"])?;
    let (stars, official, automated) = (stars(&filters)?, filters.switch("is-official")?, filters.switch("is-automated")?);
    // Docker's zero is the number that it takes when there is none.
    let limit = if args.limit == 0 { 25 } else { args.limit };
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid(format!("search for {}", args.term), format!("limit {limit} is outside the range of [1, 100]")));
    }
    let found = search::search(&Settings::load()?, &args.term, limit as usize)?;
    let fits = |found: &&Found| {
        found.stars >= stars && official.is_none_or(|is| is == found.is_official) && automated.is_none_or(|is| is == found.is_automated)
    };
    let rows = found.iter().filter(fits).map(|found| row(found, args.no_trunc)).collect();
    let columns = [("NAME", "Name"), ("DESCRIPTION", "Description"), ("STARS", "StarCount"), ("OFFICIAL", "IsOfficial")];
    let columns = columns.into_iter().map(|(header, field)| Column { header, field }).collect();
    table::print(&Listing { columns, headers: HEADERS, rows }, args.format.as_deref(), None)?;
    Ok(0)
}

fn row(found: &Found, whole: bool) -> Value {
    let sign = |is: bool| if is { "[OK]" } else { "" };
    let description = if whole { found.description.clone() } else { ellipsis(&found.description, 45) };
    json!({
        "Name": found.name, "Description": description, "StarCount": found.stars.to_string(),
        "IsOfficial": sign(found.is_official), "IsAutomated": sign(found.is_automated),
    })
}

/// The highest number of stars that was asked for.
fn stars(filters: &Filters) -> Result<u64> {
    let number = |text: &String| {
        text.parse::<u64>().map_err(|_| Error::invalid(format!("use --filter stars={text}"), format!("invalid filter 'stars={text}'")))
    };
    Ok(filters.values("stars").iter().map(number).collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
}
