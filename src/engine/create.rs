//! `create`: from a request and an image to a container that waits for its first start. Nothing runs yet, nothing is mounted.
//!
//! It is made aside and renamed into its place while all names are held: a `kill -9` leaves no half of it.
//!
//! See it: `ls /var/lib/onggi/containers/*`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::{self, Defaults};
use super::events;
use super::home::Home;
use super::names;
use super::networks;
use super::record::{self, Definition, Record, State};
use super::request::{Attachment, NetworkMode, Request, Restart, Volume};
use super::volumes;
use crate::error::{Class, Doing, Error, Result};
use crate::image::store::Store;
use crate::image::{self, Image};
use crate::runtime::state::ProcessId;
use crate::sys::process;
use crate::{clock, id};

/// What a front end may want to tell while it happens.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The base image was not there and was made.
    BaseMade(&'a image::base::Made),
    Warning(&'a str),
    /// The container is there, under this ID.
    Created {
        id: &'a str,
    },
}

/// Creates a container. `starter` is the process that will start it at once: should that be killed before, the
/// container stays as one that was never started, or goes with `--rm`.
///
/// # Errors
/// NotFound for the image, Conflict for the name, Invalid for the request; nothing is left behind.
pub fn create(home: &Home, request: &Request, starter: Option<ProcessId>, notice: &mut dyn FnMut(Notice)) -> Result<Record> {
    // Its users must be able to read what we write for them, whatever the caller's umask.
    process::umask(0o022);
    request.name.as_deref().map_or(Ok(()), id::check_name)?;
    if request.remove && request.restart != Restart::No {
        return Err(Error::invalid("create a container", "conflicting options: cannot specify both --restart and --rm"));
    }
    if request.network == NetworkMode::Host && (request.publish_all || !request.ports.is_empty()) {
        notice(Notice::Warning("Published ports are discarded when using host network mode"));
    }
    let store = Store::open(&home.data)?;
    // Until the record says that its layers are needed, nobody collects them.
    let _held = store.hold()?;
    let image = image(&store, &request.image, notice)?;
    if image.config.architecture != image::manifest::architecture() {
        let words =
            format!("the image is for machines of the kind {}, and this one is {}", image.config.architecture, image::manifest::architecture());
        notice(Notice::Warning(&words));
    }
    let mut request = request.clone();
    volumes::resolve(home, &mut request, &image.config.config)?;
    let request = &request;
    let mut record = new_record(request, &image, starter)?;
    join(home, request, &mut record)?;
    let definition = Definition { request: request.clone(), image: image.config.config.clone(), layers: image.chain.clone() };
    make_sources(request)?;
    let used = volumes::prepare(home, &request.mounts, &record::layer_dirs(home, &definition))?;

    let names = names::lock(home)?;
    let making = home.data.join("making");
    // Whatever is here was left by a command that was killed: its maker would hold the lock.
    let _ = std::fs::remove_dir_all(&making);
    std::fs::create_dir(&making).doing(|| format!("make {}", making.display()))?;
    record.name = match &request.name {
        Some(name) => names.claim(name, &record.id).map(|()| name.clone())?,
        None => {
            let name = names.choose(&record.id)?;
            names.claim(&name, &record.id).map(|()| name)?
        }
    };
    let made = record::write_json(&making.join("definition.json"), &definition)
        .and_then(|()| record::write_json(&making.join("container.json"), &record))
        .and_then(|()| starter.map_or(Ok(()), |starter| record::mark_running(home, &record.id, starter)))
        .and_then(|()| std::fs::rename(&making, home.container(&record.id)).doing(|| format!("make the container {}", record.name)));
    if let Err(e) = made {
        names.release(&record.name, &record.id);
        let _ = std::fs::remove_file(home.running(&record.id));
        let _ = std::fs::remove_dir_all(&making);
        return Err(e);
    }
    drop(names);
    used.keep();
    events::container(home, &record, "create", &[]);
    notice(Notice::Created { id: &record.id });
    Ok(record)
}

/// Finds the networks, the containers and the names that the request speaks of.
fn join(home: &Home, request: &Request, record: &mut Record) -> Result<()> {
    if let NetworkMode::Container(other) = &request.network {
        record.network = NetworkMode::Container(names::find(home, other)?.id);
    }
    if request.network != NetworkMode::Own {
        return Ok(());
    }
    for wanted in &request.attachments {
        let network = networks::network::find(home, &wanted.network)?;
        if network.driver != networks::network::Driver::Bridge || record.networks.iter().any(|other| other.network == network.id) {
            let why = format!("{} can't be one of several networks", network.name);
            return Err(Error::invalid("choose the container's networks", why));
        }
        networks::connect::check(&network, wanted)?;
        let links = wanted.links.iter().map(|(alias, other)| Ok((alias.clone(), names::find(home, other)?.id)));
        let links = links.collect::<Result<Vec<_>>>()?;
        record.networks.push(Attachment { network: network.id, name: network.name, links, ..wanted.clone() });
    }
    Ok(())
}

fn new_record(request: &Request, image: &Image, starter: Option<ProcessId>) -> Result<Record> {
    let settings = &image.config.config;
    let mut labels = settings.labels.clone();
    labels.extend(request.labels.iter().cloned());
    Ok(Record {
        id: id::random()?,
        name: String::new(),
        image: request.image.clone(),
        image_id: image.id.to_string(),
        manifest: image.manifest.to_string(),
        command: config::command_line(request, &Defaults::of(settings))?,
        created: clock::rfc3339(SystemTime::now()),
        remove: request.remove,
        restart: request.restart,
        stop_signal: request.stop_signal.clone().or_else(|| settings.stop_signal.clone()),
        stop_timeout: request.stop_timeout.or(settings.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok())),
        labels: labels.into_iter().collect(),
        network: request.network.clone(),
        networks: Vec::new(),
        exposed: networks::ports::exposed(request, settings),
        terminal: request.terminal,
        interactive: request.interactive,
        volumes: request.mounts.clone(),
        state: State { monitor: starter, boot: record::boot_id().into(), ..State::default() },
    })
}

/// The image of this name; the base image is made when it isn't there yet.
fn image(store: &Store, reference: &str, notice: &mut dyn FnMut(Notice)) -> Result<Image> {
    match image::resolve(store, reference) {
        Err(e) if e.class == Class::NotFound && image::base::is_meant(reference) => {
            let (image, made) = image::base::ensure(store)?;
            if made != image::base::Made::Before {
                notice(Notice::BaseMade(&made));
            }
            Ok(image)
        }
        Err(e) if e.class == Class::NotFound && e.hint.is_some() => {
            Err(e.hint("`onggi images` shows what is here, `base` is there at once, `onggi pull` gets others from their registries"))
        }
        found => found,
    }
}

/// `-v` makes a folder of the host that isn't there (and Docker regrets it).
fn make_sources(request: &Request) -> Result<()> {
    for volume in &request.mounts {
        if let Volume::Bind { source, make_source: true, .. } = volume
            && !source.exists()
        {
            std::fs::create_dir_all(source).doing(|| format!("make the folder {} for a volume", source.display()))?;
        }
    }
    Ok(())
}

/// `--init`: the probe is one, when it is called docker-init. Written once, whole or not at all.
pub fn install_init(home: &Home) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let file = home.data.join("docker-init");
    let doing = || format!("write {}", file.display());
    if std::fs::read(&file).is_ok_and(|there| there == image::probe::PROBE) {
        return Ok(file);
    }
    let new = home.data.join(format!("docker-init.{}", std::process::id()));
    std::fs::write(&new, image::probe::PROBE).doing(doing)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).doing(doing)?;
    std::fs::rename(&new, Path::new(&file)).doing(doing)?;
    Ok(file)
}
