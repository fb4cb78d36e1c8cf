//! `onggi volume`: folders that outlive their containers.
//!
//! Read: docker-volume(1).

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::filter::Filters;
use super::table::{self, Column, Listing};
use super::{complain, each, human, inspect, prune, say, values};
use crate::engine::home::Home;
use crate::engine::sweep;
use crate::engine::volumes::{self, Users};
use crate::error::{Class, Error, Result};
use crate::id;
use crate::volume::{self, ANONYMOUS, Volume};

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a volume
    #[command(after_help = "Examples:\n  onggi volume create db\n  onggi volume create -o type=tmpfs -o device=tmpfs -o o=size=64m scratch")]
    Create(CreateArgs),
    /// Show all that is known of volumes
    #[command(after_help = "Example:\n  onggi volume inspect -f '{{.Mountpoint}}' db")]
    Inspect(InspectArgs),
    /// List volumes
    #[command(visible_alias = "list", after_help = "Example:\n  onggi volume ls -f dangling=true")]
    Ls(LsArgs),
    /// Remove the volumes that no container uses
    #[command(after_help = "Example:\n  onggi volume prune -f\n\nWithout -a only anonymous ones go; a volume with a name is never removed unasked.")]
    Prune(PruneArgs),
    /// Remove volumes, with all that is in them
    #[command(visible_alias = "remove", after_help = "Example:\n  onggi volume rm db")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Who keeps it; the only one is local
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// A label to find it by: tier=db
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// What to mount in its stead: type=…, device=…, o=… as for mount(8)
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Its name; a volume without one is anonymous
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// How to show it: json, or a Go template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORM")]
    format: Option<String>,
    /// Volume, by its name
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only those that fit: dangling=true, name=db, label=tier=db, driver=local
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// How to show them: table, json, 'table TEMPLATE' or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub struct RmArgs {
    /// One that isn't there is no failure; one in use stays
    #[arg(short, long)]
    force: bool,
    /// Volume, by its name
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Those with a name, too
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only those that fit: label=KEY[=VALUE], label!=KEY[=VALUE], all=true
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn volume(verb: &Verb) -> Result<u8> {
    match verb {
        Verb::Create(args) => create(args),
        Verb::Inspect(args) => inspect(args),
        Verb::Ls(args) => ls(args),
        Verb::Prune(args) => remove_unused(args),
        Verb::Rm(args) => rm(args),
    }
}

fn create(args: &CreateArgs) -> Result<u8> {
    let home = Home::open()?;
    let mut labels: BTreeMap<String, String> = args.label.iter().map(|text| values::pair(text)).collect();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            labels.insert(ANONYMOUS.into(), String::new());
            id::random()?
        }
    };
    if args.driver != "local" {
        let why = format!("create {name}: error looking up volume plugin {:?}: plugin not found", args.driver);
        return Err(Error::new(Class::NotFound, format!("create the volume {name}"), why).hint("the only driver is local"));
    }
    let options = args.opt.iter().map(|text| values::required_pair("--opt", text)).collect::<Result<_>>()?;
    volumes::create(&home, &name, labels, options)?;
    say(name)
}

fn inspect(args: &InspectArgs) -> Result<u8> {
    let home = Home::open()?;
    inspect::print(args.names.iter().map(|name| facts(&home, name, args.format.as_deref())), args.format.as_deref())
}

/// A volume in Docker's words. What is empty is `null` in its JSON and a map without keys in its templates.
///
/// # Errors
/// NotFound.
pub fn facts(home: &Home, name: &str, format: Option<&str>) -> Result<Value> {
    let volume = volume::load(&home.volumes(), name)?;
    let is_json = format.is_none_or(|format| format == "json");
    let or_null = |map: &BTreeMap<String, String>| if map.is_empty() && is_json { Value::Null } else { json!(map) };
    Ok(json!({
        "CreatedAt": volume.created,
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": volume::data(&home.volumes(), name),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
    }))
}

const COLUMNS: [Column; 2] = [Column { header: "DRIVER", field: "Driver" }, Column { header: "VOLUME NAME", field: "Name" }];
const HEADERS: &[(&str, &str)] =
    &[("Scope", "SCOPE"), ("Mountpoint", "MOUNTPOINT"), ("Labels", "LABELS"), ("Links", "LINKS"), ("Size", "SIZE"), ("Status", "STATUS")];

fn ls(args: &LsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.switch("dangling")?;
    let home = Home::open()?;
    let users = dangling.map(|_| Users::of(&home)).transpose()?;
    let is_wanted = |volume: &Volume| {
        let is_used = users.as_ref().is_some_and(|users| !users.of_volume(&volume.name).is_empty());
        dangling.is_none_or(|dangling| dangling != is_used)
            && filters.any("name", |part| volume.name.contains(part))
            && filters.any("driver", |driver| driver == "local")
            && filters.labels(labels(volume))
    };
    let rows = volume::list(&home.volumes())?.iter().filter(|volume| is_wanted(volume)).map(|volume| row(&home, volume)).collect();
    let listing = Listing { columns: COLUMNS.to_vec(), headers: HEADERS, rows };
    table::print(&listing, args.format.as_deref(), args.quiet.then_some("Name")).map(|()| 0)
}

fn labels(volume: &Volume) -> impl Iterator<Item = (&str, &str)> + Clone {
    volume.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

fn row(home: &Home, volume: &Volume) -> Value {
    let words: Vec<String> = labels(volume).map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": words.join(","),
        "Links": "N/A",
        "Mountpoint": volume::data(&home.volumes(), &volume.name),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
        "_labels": volume.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect::<Map<String, Value>>(),
    })
}

fn rm(args: &RmArgs) -> Result<u8> {
    let home = Home::open()?;
    each(&args.names, |name| match volumes::remove(&home, name) {
        Err(e) if args.force && e.class == Class::NotFound => {
            complain(&e);
            Ok(0)
        }
        removed => removed.and_then(|()| say(name)),
    })
}

fn remove_unused(args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["all", "label", "label!"])?;
    let all = args.all || filters.switch("all")? == Some(true);
    let which = if all { "all" } else { "anonymous" };
    if !args.force && !prune::agreed(&format!("WARNING! This will remove {which} local volumes not used by at least one container."))? {
        return Ok(0);
    }
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let pruned = volumes::prune(&home, &|known| is_meant(known, all, &filters))?;
    prune::list("Deleted Volumes:", &pruned.ids)?;
    say(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))
}

/// Whether a volume goes when nobody uses it: without `all` only an anonymous one, and only with the labels that were asked for.
pub fn is_meant(volume: &Volume, all: bool, filters: &Filters) -> bool {
    (all || volume.labels.contains_key(ANONYMOUS)) && filters.labels(labels(volume))
}
