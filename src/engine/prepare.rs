//! What is done before each start: the layers stacked, the container's own files written, the OCI bundle made of it all.
//!
//! A container that is started again finds its upper layer as it left it; everything else is made anew from its definition.
//!
//! See it: `cat /var/lib/onggi/containers/*/config.json`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::config::{self, Defaults, Facts};
use super::etc_files::Resolver;
use super::home::Home;
use super::record::{self, Definition, Record, layer_dirs};
use super::request::NetworkMode;
use super::{create, etc_files, users, volume_mounts};
use crate::error::{Class, Doing, Error, Result};
use crate::image::snapshot::{self, Mounted};
use crate::runtime::bundle::{self, Bundle};

/// A bundle, ready to be created.
pub struct Prepared {
    pub bundle: Bundle,
    /// The root file system, mounted and attached nowhere; None when it is a copy in the bundle.
    pub rootfs: Option<OwnedFd>,
    /// Its own name; None for the host's.
    pub hostname: Option<String>,
    pub resolver: Resolver,
    /// The volumes, by their destinations.
    pub trees: Vec<(PathBuf, OwnedFd)>,
    /// Why the layers were copied instead of stacked.
    pub warning: Option<String>,
}

/// Prepares a start.
///
/// # Errors
/// NotFound for a layer that is gone, Invalid for a request that doesn't fit the image, ENOSPC.
pub fn prepare(home: &Home, record: &Record, definition: &Definition) -> Result<Prepared> {
    let id = record.id.as_str();
    let dir = home.container(id);
    let request = &definition.request;
    let layers = snapshot::prepare(&layer_dirs(home, definition), &dir)?;
    let (place, rootfs, warning) = root_file_system(&layers, &dir)?;
    let the_hosts = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let shared = shared_network(home, record)?;
    let hostname = match &shared {
        Some(shared) => Some(shared.hostname.clone()),
        None => config::hostname(request, id),
    };
    let resolver = etc_files::resolver(home, request, record)?;
    let files = etc_files::write(home, record, request, &hostname.clone().unwrap_or_else(the_hosts), &resolver)?;
    let user = users::resolve(&layers.lowers, request.user.as_deref().unwrap_or(&definition.image.user), &request.groups)?;
    let facts = Facts {
        id,
        image: &Defaults::of(&definition.image),
        user,
        rootfs: place,
        files,
        hostname: hostname.clone(),
        network: shared.map(|shared| shared.namespace),
        init: if request.init { Some(create::install_init(home)?) } else { None },
        rootless: home.rootless,
        volumes: &home.volumes(),
    };
    let spec = config::spec(request, &facts)?;
    let trees = volume_mounts::trees(home, id, &request.mounts)?;
    bundle::write(&dir, &spec)?;
    Ok(Prepared { bundle: Bundle { dir, spec }, rootfs, trees, warning, hostname, resolver })
}

/// Another container's network, and the name that goes with it.
struct SharedNetwork {
    namespace: PathBuf,
    hostname: String,
}

/// `--network container:NAME`: None when it has one of its own.
fn shared_network(home: &Home, record: &Record) -> Result<Option<SharedNetwork>> {
    let NetworkMode::Container(other) = &record.network else { return Ok(None) };
    let other = record::load(home, other)?;
    let init = other.state.init.filter(|_| other.is_active()).ok_or_else(|| {
        let why = format!("cannot join network of a non running container: {}", other.id);
        Error::new(Class::Conflict, format!("start {}", record.name), why).hint(format!("onggi start {}", other.name))
    })?;
    let hostname = etc_files::hostname(home, &other.id).unwrap_or_default();
    Ok(Some(SharedNetwork { namespace: format!("/proc/{}/ns/net", init.pid).into(), hostname }))
}

/// The layers stacked: a mount attached nowhere and the place where it shall be, or a copy.
fn root_file_system(layers: &snapshot::Prepared, dir: &Path) -> Result<(PathBuf, Option<OwnedFd>, Option<String>)> {
    match snapshot::mount(layers)? {
        Mounted::Overlay(mount) => {
            let place = dir.join("merged");
            std::fs::create_dir_all(&place).doing(|| format!("make {}", place.display()))?;
            Ok((place, Some(mount), None))
        }
        Mounted::Copied { path, reason } => Ok((path, None, Some(format!("the image was copied, which is slow: {reason}")))),
    }
}
