//! `commit`: a container becomes an image. What it changed is one more layer on those of its image, and how it was run becomes the
//! image's settings.
//!
//! See it: `onggi history IMAGE`. Read: docker commit(1), the OCI image specification's config.md.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::diff::{self, Kind};
use super::{instructions, tree};
use crate::clock;
use crate::engine::change;
use crate::engine::config;
use crate::engine::events;
use crate::engine::home::Home;
use crate::engine::record::{self, Definition, Record, Status};
use crate::error::{Class, Doing, Error, Result};
use crate::image::digest::{DiffId, Digest};
use crate::image::manifest::{self, ContainerConfig, Descriptor, History, ImageConfig, Manifest, RootFs};
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::image::{pack, resolve, unpack};
use crate::sys::{SysError, path};

/// How to make the image.
#[derive(Debug, Default, Clone)]
pub struct Choices {
    pub author: Option<String>,
    pub message: Option<String>,
    /// Instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// The container's processes are stopped meanwhile; None: if that can be done here.
    pub pause: Option<bool>,
}

/// Makes an image of a container, under this name when there is one, and answers its ID.
///
/// # Errors
/// Invalid for a change that makes no sense; NotFound when a part of the container's own image is gone; ENOSPC.
pub fn commit(home: &Home, record: &Record, name: Option<&str>, choices: &Choices) -> Result<Digest> {
    // First what can be wrong with the request.
    let name = name.map(Reference::parse).transpose()?;
    let definition = record::definition(home, &record.id)?;
    let mut settings = settings(&definition);
    choices.changes.iter().try_for_each(|change| instructions::apply(&mut settings, change))?;
    let store = Store::open(&home.data)?;
    let _held = store.hold()?;
    let (layer, size) = {
        let _paused = match (choices.pause, Paused::begin_if(choices.pause != Some(false), home, record)) {
            // Without root's rights there may be no cgroup to freeze.
            (None, Err(e)) if e.class == Class::Unsupported => None,
            (_, paused) => paused?,
        };
        layer(home, record, &store)?
    };
    let parent = Digest::parse(&record.manifest).and_then(|manifest| resolve::for_this_machine(&store, &manifest));
    let (_, parent) = parent.map_err(|e| Error { doing: format!("find the image of {}", record.name), ..e })?;
    let below: ImageConfig = store.read_json(&parent.config.digest)?;
    let mut config = config_of(&below, settings, record, choices);
    let mut layers = parent.layers;
    let diff_id = DiffId(layer.clone());
    unpack::unpack(&store, &definition.layers, Some(&diff_id), store.open_blob(&layer)?)?;
    config.rootfs.diff_ids.push(diff_id);
    layers.push(Descriptor::new(manifest::LAYER, layer, size));
    let bytes = serde_json::to_vec(&config).unwrap_or_default();
    let id = store.put(&bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(manifest::MANIFEST.into()),
        artifact_type: None,
        config: Descriptor::new(manifest::CONFIG, id.clone(), bytes.len() as u64),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let manifest = store.put(&serde_json::to_vec(&manifest).unwrap_or_default())?;
    // Last: an image on the list is all there.
    store.add(&manifest, name.as_slice())?;
    events::container(home, record, "commit", &[("imageID", &id.to_string())]);
    Ok(id)
}

/// What the container wrote, as a layer in the store.
fn layer(home: &Home, record: &Record, store: &Store) -> Result<(Digest, u64)> {
    let doing = || format!("pack what {} changed", record.name);
    let dir = home.container(&record.id);
    let collected = if dir.join("rootfs").exists() { Some(Collected::of(home, record)?) } else { None };
    let upper = collected.as_ref().map_or(dir.join("upper"), |collected| collected.dir.clone());
    let mut blob = BufWriter::with_capacity(256 << 10, store.writer()?);
    if upper.exists() {
        pack::layer_without(&upper, &diff::OURS.map(|ours| &ours[1..]), &mut blob)?;
    } else {
        // Created, and never looked at or started.
        pack::empty(&mut blob)?;
    }
    blob.flush().doing(doing)?;
    let blob = blob.into_inner().map_err(|e| Error::new(Class::System, doing(), e.to_string()))?;
    blob.commit(None)
}

/// The image's settings with the request's over them.
fn settings(definition: &Definition) -> ContainerConfig {
    let request = &definition.request;
    let mut settings = definition.image.clone();
    for pair in &request.env {
        let name = pair.split('=').next().unwrap_or_default();
        settings.env.retain(|old| old.split('=').next() != Some(name));
        settings.env.push(pair.clone());
    }
    if let Some(entrypoint) = &request.entrypoint {
        // The image's command was for the image's entrypoint.
        (settings.entrypoint, settings.cmd) = (entrypoint.clone(), Vec::new());
    }
    if !request.command.is_empty() {
        settings.cmd = request.command.clone();
    }
    if let Some(user) = &request.user {
        settings.user = user.clone();
    }
    if let Some(dir) = &request.working_dir {
        settings.working_dir = dir.display().to_string();
    }
    settings.labels.extend(request.labels.iter().cloned());
    settings.stop_signal = request.stop_signal.clone().or(settings.stop_signal);
    settings.stop_timeout = request.stop_timeout.and_then(|seconds| i64::try_from(seconds).ok()).or(settings.stop_timeout);
    settings.healthcheck = config::health_check(request, &definition.image);
    // Instructions for a build on the image below: they were for its children, and this is one.
    settings.on_build.clear();
    settings
}

fn config_of(below: &ImageConfig, settings: ContainerConfig, record: &Record, choices: &Choices) -> ImageConfig {
    let created = Some(clock::rfc3339(SystemTime::now()));
    let author = choices.author.clone().filter(|author| !author.is_empty());
    let mut history = below.history.clone();
    history.push(History {
        created: created.clone(),
        created_by: Some(record.command.join(" ")),
        author: author.clone(),
        comment: choices.message.clone().filter(|message| !message.is_empty()),
        empty_layer: false,
    });
    let rootfs = RootFs { kind: "layers".into(), diff_ids: below.rootfs.diff_ids.clone() };
    ImageConfig { created, author: author.or(below.author.clone()), config: settings, rootfs, history, ..below.clone() }
}

/// A container that is frozen for a moment, if it runs.
struct Paused<'a> {
    home: &'a Home,
    record: &'a Record,
}

impl Paused<'_> {
    fn begin_if<'a>(wanted: bool, home: &'a Home, record: &'a Record) -> Result<Option<Paused<'a>>> {
        if !wanted || record::load(home, &record.id)?.status() != Status::Running {
            return Ok(None);
        }
        match change::pause(home, record, true) {
            // It ended, or somebody else paused it, since we looked.
            Err(e) if e.class == Class::Conflict => Ok(None),
            paused => paused.map(|()| Some(Paused { home, record })),
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let _ = change::pause(self.home, self.record, false);
    }
}

/// The changes of a container whose layers were copied, laid out as overlay would have them. The files are hard links.
struct Collected {
    dir: PathBuf,
}

impl Collected {
    fn of(home: &Home, record: &Record) -> Result<Collected> {
        let container = home.container(&record.id);
        let collected = Collected { dir: container.join(format!("commit.{}", std::process::id())) };
        let doing = || format!("collect what {} changed", record.name);
        std::fs::create_dir(&collected.dir).doing(doing)?;
        let (from, to) = (path::open_root(&container.join("rootfs")).doing(doing)?, path::open_root(&collected.dir).doing(doing)?);
        for change in diff::changes(home, record)? {
            let (parent, name) = (change.path.parent().unwrap_or(Path::new("/")), change.path.file_name().unwrap_or_default());
            // The changes name each folder before what is in it; one that is only passed through is made like the container's.
            let target = path::make_dirs_in(to.as_fd(), parent, 0o755).doing(doing)?;
            if change.kind == Kind::Deleted {
                path::mknodat(&target, Path::new(name), libc::S_IFCHR, 0).map_err(|e| no_deletions(doing(), &change.path, e))?;
                continue;
            }
            let source = path::open_in(from.as_fd(), parent, libc::O_PATH | libc::O_DIRECTORY).doing(doing)?;
            one(&source, name, &target).map_err(|e| Error { doing: doing(), ..e })?;
        }
        Ok(collected)
    }
}

/// The container's image could not be unpacked here either: on overlay, overlay's own mark of a deletion can't be made.
fn no_deletions(doing: String, path: &Path, e: SysError) -> Error {
    Error::sys(doing, e)
        .class(Class::Unsupported)
        .hint(format!("{} was deleted, which can't be written down on this file system; set ONGGI_ROOT to a folder on another one", path.display()))
}

/// A folder is made anew with its attributes, anything else gets one more name.
fn one(from: &OwnedFd, name: &OsStr, to: &OwnedFd) -> Result<()> {
    let is_folder = super::place::look(from.as_fd(), name)?.is_some_and(|(_, stat)| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
    if !is_folder {
        return nix::unistd::linkat(from, name, to, name, nix::fcntl::AtFlags::empty()).doing(|| "link".into());
    }
    tree::folder_alone(from, name, to)
}

impl Drop for Collected {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
