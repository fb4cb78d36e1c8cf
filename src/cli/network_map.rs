//! `onggi network map`: bridges, cables, namespaces, addresses, ports and names as they are now; as text, as a picture, as JSON.
//!
//! Read: bridge(8), veth(4), network_namespaces(7).

pub mod gather;
pub mod model;
#[cfg(test)]
mod picture_tests;
mod place;
mod svg;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::oci::{print_json, quiet_pipe};
use crate::engine::home::Home;
use crate::error::{Doing, Error, Result};
use crate::sys::{fd, terminal};

#[derive(Debug, Args)]
pub struct MapArgs {
    /// As JSON
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write it into a file: map.svg, map.json or map.txt
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// These networks alone: name, or (the beginning of) their ID
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
}

/// Columns of a page that is no terminal.
const PAGE: usize = 80;

/// Draws it.
///
/// # Errors
/// NotFound for a network; Invalid for a file that is no picture; ENOSPC.
pub fn map(args: &MapArgs) -> Result<u8> {
    let home = Home::open()?;
    let map = gather::gather(&home, &args.networks)?;
    match &args.output {
        None if args.json => print_json(&map)?,
        None => print(&map)?,
        Some(file) => write(&map, file)?,
    }
    Ok(0)
}

fn print(map: &model::Map) -> Result<()> {
    std::io::stdout().lock().write_all(text_of(map).as_bytes()).or_else(quiet_pipe)
}

/// The map as text, as wide as the terminal.
pub fn text_of(map: &model::Map) -> String {
    let width = terminal::size(fd::standard(1)).ok().map(|size| usize::from(size.columns)).filter(|columns| *columns > 0).unwrap_or(PAGE);
    text::draw(map, width)
}

fn write(map: &model::Map, file: &Path) -> Result<()> {
    let doing = || format!("write the map to {}", file.display());
    let content = match file.extension().and_then(|end| end.to_str()) {
        Some("svg") => svg::draw(map),
        Some("json") => serde_json::to_string_pretty(map).map_err(|e| Error::invalid(doing(), e.to_string()))? + "\n",
        Some("txt") => {
            colored::control::set_override(false);
            text::draw(map, PAGE)
        }
        _ => return Err(Error::invalid(doing(), "the ending of its name says what it shall be").hint("map.svg, map.json or map.txt")),
    };
    std::fs::write(file, content).doing(doing)
}
