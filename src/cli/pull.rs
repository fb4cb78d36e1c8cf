//! `onggi pull`: images come from a registry.
//!
//! Read: docker-pull(1).

use clap::Args;

use super::images::tell;
use super::transfer::{Where, show};
use crate::engine::events;
use crate::engine::home::Home;
use crate::engine::images::{self, Policy};
use crate::error::{Error, Result};
use crate::image::platform::{self, Platform};
use crate::image::reference::{Reference, has_tag};
use crate::image::registry::pull::{self, Pulled};
use crate::image::registry::repository::{Access, Repository};
use crate::image::registry::settings::Settings;
use crate::image::store::{Held, Store};

#[derive(Debug, Args)]
pub struct PullArgs {
    /// An image's name in a registry: nginx, python:3.11-slim, localhost:5000/web:1, web@sha256:…
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Say only the image's whole name
    #[arg(short, long)]
    quiet: bool,
    /// The image for another kind of machine: linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
}

/// Where the image of a container comes from
#[derive(Debug, Args)]
pub struct PullFirst {
    /// Pull the image before: always, when it is missing, or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_default_value = true, value_parser = policy)]
    pull: Policy,
    /// Say nothing of the pull
    #[arg(short = 'q', long = "quiet")]
    quiet_pull: bool,
    /// The image for another kind of machine: linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
}

fn policy(text: &str) -> std::result::Result<Policy, String> {
    match text {
        "always" => Ok(Policy::Always),
        "missing" => Ok(Policy::Missing),
        "never" => Ok(Policy::Never),
        _ => Err("it is one of always, missing, never".into()),
    }
}

struct Wanted {
    quiet: bool,
    platform: Option<Platform>,
}

/// `pull`
///
/// # Errors
/// NotFound, Denied; Invalid for a name, or when what comes is not what its digest names.
pub fn pull(home: &Home, store: &Store, args: &PullArgs) -> Result<u8> {
    let wanted = Wanted { quiet: args.quiet, platform: args.platform.as_deref().map(platform::parse).transpose()? };
    let reference = Reference::parse(&args.name)?;
    let settings = Settings::load()?;
    let has_tag = has_tag(&args.name);
    if args.all_tags && has_tag {
        return Err(Error::invalid(format!("pull all tags of {}", args.name), "tag can't be used with --all-tags/-a"));
    }
    if !has_tag && !args.all_tags && !args.quiet {
        tell("Using default tag: latest")?;
    }
    let tags = match args.all_tags {
        true => Repository::open(&settings, &reference.registry, &reference.repository, Access::Pull)?.tags()?,
        false => Vec::new(),
    };
    let references: Vec<Reference> = match args.all_tags {
        true => tags.into_iter().map(|tag| Reference { tag: Some(tag), ..reference.clone() }).collect(),
        false => vec![reference.clone()],
    };
    for reference in &references {
        one(store, &settings, reference, &wanted, Where::Stdout)?;
        events::image(home, "pull", &reference.familiar(), &reference.familiar());
    }
    tell(if args.all_tags { format!("{}/{}", reference.registry, reference.repository) } else { reference.to_string() })?;
    Ok(0)
}

/// Pulls one image and shows how far it is.
fn one(store: &Store, settings: &Settings, reference: &Reference, wanted: &Wanted, place: Where) -> Result<Pulled> {
    // A digest says which image it is; the tag beside it then says nothing.
    let by_digest = reference.digest.as_ref().map(|_| Reference { tag: None, ..reference.clone() }.familiar());
    let name = by_digest.clone().or_else(|| reference.tag.clone()).unwrap_or_default();
    if !wanted.quiet {
        place.tell(format!("{name}: Pulling from {}", reference.repository))?;
    }
    let doing = format!("pull {}", reference.familiar());
    let pulled = show(&doing, wanted.quiet, place, |tell| pull::pull(store, settings, reference, wanted.platform.as_ref(), tell))?;
    if !wanted.quiet {
        place.tell(format!("Digest: {}", pulled.digest))?;
        let status = if pulled.was_here { "Image is up to date for" } else { "Downloaded newer image for" };
        place.tell(format!("Status: {status} {}", by_digest.unwrap_or_else(|| reference.familiar())))?;
    }
    Ok(pulled)
}

/// Has the image of a container to be here: pulls it when it isn't, or as the options say. As long as the answer is kept, nobody removes it.
///
/// # Errors
/// As [`pull`].
pub fn ensure(home: &Home, name: &str, args: &PullFirst) -> Result<Held> {
    let wanted = Wanted { quiet: args.quiet_pull, platform: args.platform.as_deref().map(platform::parse).transpose()? };
    let store = Store::open(&home.data)?;
    let held = store.hold()?;
    if !images::is_to_be_pulled(&store, name, args.pull, wanted.platform.as_ref())? {
        return Ok(held);
    }
    let reference = Reference::parse(name)?;
    if !wanted.quiet && args.pull == Policy::Missing {
        Where::Stderr.tell(format!("Unable to find image '{}' locally", reference.familiar()))?;
    }
    one(&store, &Settings::load()?, &reference, &wanted, Where::Stderr)?;
    events::image(home, "pull", &reference.familiar(), &reference.familiar());
    Ok(held)
}
