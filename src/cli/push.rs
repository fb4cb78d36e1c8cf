//! `onggi push`: images go to a registry.
//!
//! Read: docker-push(1).

use clap::Args;

use super::images::{repository, tell};
use super::transfer::{Where, show};
use crate::engine::events;
use crate::engine::home::Home;
use crate::error::{Class, Error, Result};
use crate::image::reference::{Reference, has_tag};
use crate::image::registry::push;
use crate::image::registry::settings::Settings;
use crate::image::store::Store;

#[derive(Debug, Args)]
pub struct PushArgs {
    /// The name of an image that is here, with its registry: localhost:5000/team/web:1
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// All tags of the repository that are here
    #[arg(short, long)]
    all_tags: bool,
    /// Say only the image's name
    #[arg(short, long)]
    quiet: bool,
}

/// `push`
///
/// # Errors
/// NotFound when there is no such image here, Denied; Invalid for a name.
pub fn push(home: &Home, store: &Store, args: &PushArgs) -> Result<u8> {
    let reference = Reference::parse(&args.name)?;
    let doing = || format!("push {}", args.name);
    if reference.digest.is_some() {
        return Err(Error::invalid(doing(), "cannot push a digest reference"));
    }
    let has_tag = has_tag(&args.name);
    if args.all_tags && has_tag {
        return Err(Error::invalid(doing(), "tag can't be used with --all-tags/-a"));
    }
    let settings = Settings::load()?;
    if !args.quiet {
        if !has_tag && !args.all_tags {
            tell("Using default tag: latest")?;
        }
        tell(format!("The push refers to repository [{}/{}]", reference.registry, reference.repository))?;
    }
    let references = if args.all_tags { all_tags(store, &reference)? } else { vec![reference.clone()] };
    if references.is_empty() {
        let why = format!("An image does not exist locally with the tag: {}", repository(&reference));
        return Err(Error::new(Class::NotFound, doing(), why));
    }
    for reference in &references {
        let pushed = show(&doing(), args.quiet, Where::Stdout, |tell| push::push(store, &settings, reference, tell))?;
        events::image(home, "push", &reference.familiar(), &reference.familiar());
        match args.quiet {
            true => tell(reference)?,
            false => tell(format!("{}: digest: {} size: {}", reference.tag.as_deref().unwrap_or_default(), pushed.digest, pushed.size))?,
        }
    }
    Ok(0)
}

fn all_tags(store: &Store, reference: &Reference) -> Result<Vec<Reference>> {
    let all = store.references()?;
    let all = all.keys().filter_map(|name| Reference::parse(name).ok());
    let is_same = |other: &Reference| (&other.registry, &other.repository) == (&reference.registry, &reference.repository);
    Ok(all.filter(|other| is_same(other) && other.tag.is_some() && other.digest.is_none()).collect())
}
