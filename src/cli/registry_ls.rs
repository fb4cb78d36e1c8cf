//! `onggi registry ls`: what is in a registry, from the outside in: its repositories, the tags of one, the parts of an image.
//!
//! See it: `onggi registry ls localhost:5000`. Source: OCI distribution specification 1.1, "Content discovery" and "Listing referrers".

use clap::Args;
use serde_json::{Value, json};

use super::human;
use super::table::{self, Column, Listing};
use crate::error::{Error, Result};
use crate::image::manifest::{Descriptor, Index, Manifest};
use crate::image::platform;
use crate::image::reference::{Reference, has_tag};
use crate::image::registry::failure::printable;
use crate::image::registry::lists;
use crate::image::registry::repository::{Access, Repository};
use crate::image::registry::settings::Settings;
use crate::image::resolve::ManifestOrIndex;

#[derive(Debug, Args)]
pub struct LsArgs {
    /// A registry, a repository of it, or an image: localhost:5000, localhost:5000/web, localhost:5000/web:1
    #[arg(value_name = "REGISTRY[/REPOSITORY[:TAG|@DIGEST]]")]
    name: String,
    /// A template for each row, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Lists it: the exit code.
///
/// # Errors
/// NotFound, Denied, and all that can happen on the way.
pub fn ls(args: &LsArgs) -> Result<u8> {
    let settings = Settings::load()?;
    let (columns, rows) = match args.name.split_once('/') {
        None if args.name.contains(['.', ':']) || args.name == "localhost" => {
            (vec![("REPOSITORY", "Repository")], repositories(&settings, &args.name)?)
        }
        _ if has_tag(&args.name) => {
            (vec![("KIND", "Kind"), ("DIGEST", "Digest"), ("SIZE", "Size"), ("TYPE", "Type")], parts(&settings, &Reference::parse(&args.name)?)?)
        }
        _ => (vec![("TAG", "Tag"), ("DIGEST", "Digest")], tags(&settings, &Reference::parse(&args.name)?)?),
    };
    let columns = columns.into_iter().map(|(header, field)| Column { header, field }).collect();
    table::print(&Listing { columns, headers: &[], rows }, args.format.as_deref(), None)?;
    Ok(0)
}

fn repositories(settings: &Settings, registry: &str) -> Result<Vec<Value>> {
    Ok(lists::catalog(settings, registry)?.iter().map(|name| json!({"Repository": printable(name)})).collect())
}

fn tags(settings: &Settings, reference: &Reference) -> Result<Vec<Value>> {
    let repository = Repository::open(settings, &reference.registry, &reference.repository, Access::Pull)?;
    let row = |tag: &String| Ok(json!({"Tag": printable(tag), "Digest": repository.digest_of(tag)?.map(String::from).unwrap_or_default()}));
    repository.tags()?.iter().map(row).collect()
}

/// The manifest (or index), what it names, and what refers to it.
fn parts(settings: &Settings, reference: &Reference) -> Result<Vec<Value>> {
    let repository = Repository::open(settings, &reference.registry, &reference.repository, Access::Pull)?;
    let name = reference.digest.as_ref().map(ToString::to_string).or_else(|| reference.tag.clone()).unwrap_or_default();
    let fetched = repository.manifest(&name)?;
    let own = Descriptor::new(&fetched.media_type, fetched.digest.clone(), fetched.bytes.len() as u64);
    let doing = || format!("list the parts of {}", reference.familiar());
    let mut rows = match serde_json::from_slice(&fetched.bytes).map_err(|e| Error::invalid(doing(), format!("its manifest can't be read: {e}")))? {
        ManifestOrIndex::Index(Index { manifests, .. }) => {
            let inner = manifests.iter().map(|one| row("manifest", one, one.platform.as_ref().map(platform::name)));
            std::iter::once(row("index", &own, None)).chain(inner).collect::<Vec<_>>()
        }
        ManifestOrIndex::Manifest(manifest) => of_manifest(&own, &manifest),
    };
    let referrers = repository.referrers(&fetched.digest)?;
    rows.extend(referrers.iter().map(|one| row("referrer", one, one.artifact_type.clone())));
    Ok(rows)
}

fn of_manifest(own: &Descriptor, manifest: &Manifest) -> Vec<Value> {
    let layers = manifest.layers.iter().map(|layer| row("layer", layer, None));
    [row("manifest", own, None), row("config", &manifest.config, None)].into_iter().chain(layers).collect()
}

fn row(kind: &str, one: &Descriptor, what: Option<String>) -> Value {
    let what = printable(&what.unwrap_or_else(|| one.media_type.clone()));
    json!({"Kind": kind, "Digest": one.digest, "Size": human::size(one.size), "Type": what})
}
