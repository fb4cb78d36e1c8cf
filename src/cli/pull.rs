//! `onggi pull`: images come from a registry.
//!
//! Read: docker-pull(1).

use std::sync::Mutex;

use clap::Args;

use super::images::tell;
use crate::engine::events;
use crate::engine::home::Home;
use crate::error::{Error, Result};
use crate::image::platform;
use crate::image::reference::Reference;
use crate::image::registry::pull::{self, Pulled};
use crate::image::registry::repository::{Access, Repository};
use crate::image::registry::settings::Settings;
use crate::image::registry::{State, Told};
use crate::image::store::Store;

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

/// `pull`
///
/// # Errors
/// NotFound, Denied; Invalid for a name, or when what comes is not what its digest names.
pub fn pull(home: &Home, store: &Store, args: &PullArgs) -> Result<u8> {
    let platform = args.platform.as_deref().map(platform::parse).transpose()?;
    let reference = Reference::parse(&args.name)?;
    let settings = Settings::load()?;
    let has_tag = args.name.contains('@') || args.name.rsplit('/').next().is_some_and(|last| last.contains(':'));
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
        let pulled = one(store, &settings, reference, platform.as_ref(), args.quiet)?;
        events::image(home, "pull", &reference.familiar(), &reference.familiar());
        if !args.quiet {
            tell(format!("Digest: {}", pulled.digest))?;
            let status = if pulled.was_here { "Image is up to date for" } else { "Downloaded newer image for" };
            tell(format!("Status: {status} {}", reference.familiar()))?;
        }
    }
    tell(if args.all_tags { format!("{}/{}", reference.registry, reference.repository) } else { reference.to_string() })?;
    Ok(0)
}

/// Pulls one image and shows how far it is.
pub fn one(store: &Store, settings: &Settings, reference: &Reference, platform: Option<&platform::Platform>, quiet: bool) -> Result<Pulled> {
    let name = reference.digest.as_ref().map(|digest| digest.to_string()).or_else(|| reference.tag.clone()).unwrap_or_default();
    if !quiet {
        tell(format!("{name}: Pulling from {}", reference.repository))?;
    }
    let last: Mutex<Vec<(String, &'static str)>> = Mutex::default();
    let show = |told: Told| {
        let word = match told.state {
            State::PullingFsLayer => "Pulling fs layer",
            State::DownloadComplete => "Download complete",
            State::PullComplete => "Pull complete",
            State::AlreadyExists => "Already exists",
            _ => return,
        };
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !quiet && !last.contains(&(told.layer.into(), word)) {
            last.push((told.layer.into(), word));
            let _ = tell(format!("{}: {word}", told.layer));
        }
    };
    pull::pull(store, settings, reference, platform, &show)
}
