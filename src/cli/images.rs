//! The image's verbs, each as `onggi image VERB` and most as a word of their own; and the list of images.
//!
//! Read: docker images(1), docker image(1).

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::filter::Filters;
use super::image_filter::Chosen;
use super::table::{self, Column, Listing};
use super::{human, image_files, image_look, image_remove, pull, push, say};
use crate::engine::events;
use crate::engine::home::Home;
use crate::error::{Class, Error, Result};
use crate::image::list::{self, Listed};
use crate::image::reference::Reference;
use crate::image::resolve::find;
use crate::image::store::Store;

/// What can be done with images, by words of their own.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// List the images that are here
    #[command(after_help = "Example:\n  onggi images --filter dangling=true")]
    Images(LsArgs),
    /// Get an image from a registry
    #[command(after_help = "Example:\n  onggi pull localhost:5000/team/web:1")]
    Pull(pull::PullArgs),
    /// Send an image to a registry
    #[command(after_help = "Example:\n  onggi push localhost:5000/team/web:1")]
    Push(push::PushArgs),
    /// Remove images, or names of them
    #[command(after_help = "Example:\n  onggi rmi web:1 web:2")]
    Rmi(image_remove::RmArgs),
    /// Give an image one more name
    #[command(after_help = "Example:\n  onggi tag base web:1")]
    Tag(TagArgs),
    /// Show how an image came to be, layer by layer
    #[command(after_help = "Example:\n  onggi history base")]
    History(image_look::HistoryArgs),
    /// Save images to an archive that docker, podman and skopeo read too
    #[command(after_help = "Example:\n  onggi save -o both.tar web:1 web:2")]
    Save(image_files::SaveArgs),
    /// Load images from an archive, or from a folder in the OCI's layout
    #[command(after_help = "Example:\n  onggi load -i both.tar")]
    Load(image_files::LoadArgs),
    /// Make an image of one layer from an archive of files
    #[command(after_help = "Example:\n  onggi export web | onggi import - web:flat")]
    Import(image_files::ImportArgs),
}

/// The same by their noun.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// List the images that are here
    #[command(visible_alias = "list", after_help = "Example:\n  onggi image ls -q")]
    Ls(LsArgs),
    /// Get an image from a registry
    #[command(after_help = "Example:\n  onggi image pull --platform linux/arm64 nginx")]
    Pull(pull::PullArgs),
    /// Send an image to a registry
    #[command(after_help = "Example:\n  onggi image push -a localhost:5000/team/web")]
    Push(push::PushArgs),
    /// Remove images, or names of them
    #[command(visible_alias = "remove", after_help = "Example:\n  onggi image rm web:1")]
    Rm(image_remove::RmArgs),
    /// Remove images that have no name
    #[command(after_help = "Example:\n  onggi image prune -a --filter until=24h")]
    Prune(image_remove::PruneArgs),
    /// Show all about images
    #[command(after_help = "Example:\n  onggi image inspect --format '{{.Config.Cmd}}' base")]
    Inspect(image_look::InspectArgs),
    /// Give an image one more name
    #[command(after_help = "Example:\n  onggi image tag base web:1")]
    Tag(TagArgs),
    /// Show how an image came to be, layer by layer
    #[command(after_help = "Example:\n  onggi image history --no-trunc base")]
    History(image_look::HistoryArgs),
    /// Save images to an archive that docker, podman and skopeo read too
    #[command(after_help = "Example:\n  onggi image save base | gzip > base.tar.gz")]
    Save(image_files::SaveArgs),
    /// Load images from an archive, or from a folder in the OCI's layout
    #[command(after_help = "Example:\n  onggi image load < base.tar.gz")]
    Load(image_files::LoadArgs),
    /// Make an image of one layer from an archive of files
    #[command(after_help = "Example:\n  onggi image import --change 'CMD [\"sh\"]' files.tar web:flat")]
    Import(image_files::ImportArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only this repository, or this repository and tag; `*` stands for anything but a slash
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// All images, which the list shows anyway
    #[arg(short, long)]
    all: bool,
    /// Only the images' IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show the manifests' digests
    #[arg(long)]
    digests: bool,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// A template for each image, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// dangling=true|false, reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME, label=KEY[=VALUE]
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TagArgs {
    /// An image that is here
    source: String,
    /// The name that it gets
    #[arg(value_name = "REPOSITORY[:TAG]")]
    target: String,
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn images(verb: Images) -> Result<u8> {
    image(match verb {
        Images::Images(args) => Image::Ls(args),
        Images::Pull(args) => Image::Pull(args),
        Images::Push(args) => Image::Push(args),
        Images::Rmi(args) => Image::Rm(args),
        Images::Tag(args) => Image::Tag(args),
        Images::History(args) => Image::History(args),
        Images::Save(args) => Image::Save(args),
        Images::Load(args) => Image::Load(args),
        Images::Import(args) => Image::Import(args),
    })
}

/// Does it: the exit code.
///
/// # Errors
/// Those of the verb.
pub fn image(verb: Image) -> Result<u8> {
    let home = Home::open()?;
    let store = Store::open(&home.data)?;
    match verb {
        Image::Ls(args) => ls(&store, &args),
        Image::Pull(args) => pull::pull(&home, &store, &args),
        Image::Push(args) => push::push(&home, &store, &args),
        Image::Rm(args) => image_remove::rm(&home, &store, &args),
        Image::Prune(args) => image_remove::prune(&home, &store, &args),
        Image::Inspect(args) => image_look::inspect(&store, &args),
        Image::Tag(args) => tag(&home, &store, &args),
        Image::History(args) => image_look::history(&store, &args),
        Image::Save(args) => image_files::save(&store, &args),
        Image::Load(args) => image_files::load(&home, &store, &args),
        Image::Import(args) => image_files::import(&home, &store, &args),
    }
}

fn tag(home: &Home, store: &Store, args: &TagArgs) -> Result<u8> {
    let target = Reference::parse(&args.target)?;
    if target.digest.is_some() {
        return Err(Error::invalid(format!("tag {}", args.target), "refusing to create a tag with a digest reference"));
    }
    let _held = store.hold()?;
    let manifest = find(store, &store.repositories()?, &args.source).map_err(|e| Error { doing: format!("tag {}", args.source), ..e })?;
    store.tag(&target, &manifest)?;
    events::image(home, "tag", &manifest.to_string(), &target.familiar());
    Ok(0)
}

const HEADERS: &[(&str, &str)] = &[("CreatedAt", "CREATED AT"), ("Digest", "DIGEST"), ("Containers", "CONTAINERS")];

fn ls(store: &Store, args: &LsArgs) -> Result<u8> {
    let mut filters = args.filter.clone();
    filters.extend(args.name.iter().map(|name| format!("reference={name}")));
    let filters = Filters::parse(&filters, &["dangling", "reference", "before", "since", "until", "label"])?;
    let all = list::all(store)?;
    let chosen = Chosen::new(store, &filters, &all)?;
    let mut rows = Vec::new();
    for image in &all {
        if chosen.takes(image)? {
            rows.extend(rows_of(image, &chosen, args));
        }
    }
    if args.quiet && args.format.is_none() {
        // An image of several names has one ID.
        rows.dedup_by(|one, other| one["ID"] == other["ID"]);
    }
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag"), ("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size")];
    if args.digests {
        columns.insert(2, ("DIGEST", "Digest"));
    }
    let columns = columns.into_iter().map(|(header, field)| Column { header, field }).collect();
    table::print(&Listing { columns, headers: HEADERS, rows }, args.format.as_deref(), args.quiet.then_some("ID"))?;
    Ok(0)
}

fn rows_of(image: &Listed, chosen: &Chosen, args: &LsArgs) -> Vec<Value> {
    let id = if args.no_trunc { image.id.as_str() } else { image.id.short() };
    let row = |repository: &str, tag: &str, digest: &str| {
        json!({
            "ID": id, "Repository": repository, "Tag": tag, "Digest": digest, "Size": human::size(image.size),
            "CreatedSince": human::ago(&image.created), "CreatedAt": created_at(&image.created),
            "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A", "VirtualSize": human::size(image.size),
        })
    };
    if image.names.is_empty() {
        return vec![row("<none>", "<none>", image.manifests.first().map_or("<none>", |manifest| manifest.as_str()))];
    }
    let names = image.names.iter().filter(|(name, _)| chosen.takes_name(name));
    names.map(|(name, manifest)| row(&repository(name), name.tag.as_deref().unwrap_or("<none>"), manifest.as_str())).collect()
}

/// The name without the tag, as people write it.
pub fn repository(name: &Reference) -> String {
    Reference { tag: None, digest: None, ..name.clone() }.familiar()
}

/// `2026-11-21 08:00:00 +0000 UTC`
pub fn created_at(time: &str) -> String {
    match time.get(..19) {
        Some(seconds) => format!("{} +0000 UTC", seconds.replace('T', " ")),
        None => String::new(),
    }
}

/// The image of this name, as the list has it.
///
/// # Errors
/// NotFound, Conflict when several IDs begin like this.
pub fn listed(store: &Store, name: &str, doing: &str) -> Result<Listed> {
    let repositories = store.repositories()?;
    let doing = || format!("{doing} {name}");
    let manifest = find(store, &repositories, name).map_err(|e| Error { doing: doing(), ..e })?;
    let image = list::listed(store, &repositories).into_iter().find(|image| image.manifests.contains(&manifest));
    image.ok_or_else(|| Error::new(Class::NotFound, doing(), format!("No such image: {name}")))
}

/// Prints a line; the exit code.
///
/// # Errors
/// ENOSPC, EIO.
pub fn tell(line: impl std::fmt::Display) -> Result<()> {
    say(line).map(|_| ())
}
