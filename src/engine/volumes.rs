//! Volumes and the containers that use them: which ones a request means, who uses one, what nobody uses any more.
//!
//! See it: `onggi volume ls`, `onggi volume inspect db`. Read: docker run(1) `--volume`, `--volumes-from`, docker-volume(1).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::events::{self, Event};
use super::files::place::{self, Destination, Typed};
use super::files::tree;
use super::files::view::{Parts, View};
use super::home::Home;
use super::prune::Pruned;
use super::record::{self, Record};
use super::request::{NamedVolume, Request, Volume};
use super::{describe, names};
use crate::error::{Class, Doing, Error, Result};
use crate::image::manifest::ContainerConfig;
use crate::runtime::mount_options;
use crate::sys::fd;
use crate::volume::{self, ANONYMOUS, Held};
use crate::{clock, id};

/// Makes a volume; one of this name that is there stays as it is.
///
/// # Errors
/// Invalid for its name or options; ENOSPC.
pub fn create(home: &Home, name: &str, labels: BTreeMap<String, String>, options: BTreeMap<String, String>) -> Result<bool> {
    let words: Vec<String> = options.get("o").map(|o| o.split(',').map(String::from).collect()).unwrap_or_default();
    mount_options::parse(&words, "--opt o").map(drop)?;
    let made = volume::Volume { name: name.into(), created: clock::rfc3339(SystemTime::now()), labels, options };
    let is_new = volume::make(&home.volumes(), &made)?;
    if is_new {
        event(home, "create", name, &[]);
    }
    Ok(is_new)
}

/// Notes what was done to a volume.
pub fn event(home: &Home, action: &str, name: &str, more: &[(&str, &str)]) {
    let attributes = [("driver", "local")].into_iter().chain(more.iter().copied());
    events::record(home, &Event::new("volume", action, name, attributes.map(|(key, value)| (key.to_string(), value.to_string()))));
}

/// Notes that a container has its volumes now, or has them no more.
pub fn events_of(home: &Home, of: &Record, action: &str) {
    for named in named(&of.volumes) {
        let target = named.target.to_string_lossy();
        let is_writable = (!named.read_only).to_string();
        let more = [("container", &*of.id), ("destination", &*target), ("propagation", ""), ("read/write", &*is_writable)];
        event(home, action, &named.name, if action == "mount" { &more } else { &more[..1] });
    }
}

/// The named ones among a container's mounts.
pub fn named(mounts: &[Volume]) -> impl Iterator<Item = &NamedVolume> {
    mounts.iter().filter_map(|mount| if let Volume::Named(named) = mount { Some(named) } else { None })
}

/// Adds to a request what other containers and the image say of volumes, and names those that have no name.
///
/// # Errors
/// NotFound for a container of `--volumes-from`.
pub fn resolve(home: &Home, request: &mut Request, image: &ContainerConfig) -> Result<()> {
    for (name, mode) in &request.volumes_from {
        for mut mount in names::find(home, name)?.volumes {
            // What was asked for in so many words stands above what is inherited.
            if is_taken(&request.mounts, mount.target()) {
                continue;
            }
            match &mut mount {
                Volume::Bind { read_only, .. } => *read_only |= mode == "ro",
                Volume::Named(named) => {
                    named.read_only |= mode == "ro";
                    named.no_copy = true;
                }
                Volume::Tmpfs { .. } => continue,
            }
            request.inherited.push(mount.target().clone());
            request.mounts.push(mount);
        }
    }
    for place in image.volumes.keys() {
        let target: PathBuf = Path::new("/").join(place).components().collect();
        if !is_taken(&request.mounts, &target) {
            request.mounts.push(Volume::Named(NamedVolume { target, anonymous: true, ..NamedVolume::default() }));
        }
    }
    for mount in &mut request.mounts {
        if let Volume::Named(named) = mount
            && named.name.is_empty()
        {
            named.name = id::random()?;
            named.labels.push((ANONYMOUS.into(), String::new()));
        }
    }
    Ok(())
}

fn is_taken(mounts: &[Volume], target: &Path) -> bool {
    mounts.iter().any(|mount| mount.target() == target)
}

/// The volumes of a container that is being made: nobody can remove them meanwhile, and when it comes to nothing, those go again that
/// were made for it (a named one only when it is empty).
#[must_use]
pub struct Used<'a> {
    home: &'a Home,
    held: Vec<Held>,
    /// Name, and whether it is anonymous.
    new: Vec<(String, bool)>,
}

impl Used<'_> {
    /// The container's record is there and says what it uses.
    pub fn keep(mut self) {
        self.new.clear();
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.held.clear();
        let root = self.home.volumes();
        for (name, anonymous) in &self.new {
            if *anonymous || volume::is_empty(&volume::data(&root, name)) {
                let _ = remove(self.home, name);
            }
        }
    }
}

/// Makes the volumes that are missing, and fills the empty ones from the image's folders in their places. `layers` are the folders of the
/// image's layers, the lowest first.
///
/// # Errors
/// Invalid for a name; Conflict for a volume in the place of a file; ENOSPC, with the file's name.
pub fn prepare<'a>(home: &'a Home, mounts: &[Volume], layers: &[PathBuf]) -> Result<Used<'a>> {
    let mut used = Used { home, held: Vec::new(), new: Vec::new() };
    let root = home.volumes();
    for named in named(mounts) {
        loop {
            if create(home, &named.name, named.labels.iter().cloned().collect(), named.options.iter().cloned().collect())? {
                used.new.push((named.name.clone(), named.anonymous));
            }
            // None: removed between the two.
            if let Some(held) = volume::hold(&root, &named.name)? {
                used.held.push(held);
                break;
            }
        }
        if named.no_copy || named.subpath.is_some() {
            continue;
        }
        let options = volume::load(&root, &named.name)?.options;
        let is_bind = options.get("o").is_some_and(|o| o.split(',').any(|word| word == "bind" || word == "rbind"));
        match options.get("device").map(Path::new) {
            None if volume::is_empty(&volume::data(&root, &named.name)) => {
                let aside = root.join(&named.name).join("image");
                volume::fill(&root, &named.name, |to| copy(layers, &named.target, to, &aside))?;
            }
            Some(device) if is_bind && volume::is_empty(device) => {
                let to = File::open(device).doing(|| format!("open {}", device.display()))?;
                let aside = root.join(&named.name).join(format!("image-{}", std::process::id()));
                copy(layers, &named.target, &to.into(), &aside)?;
            }
            // What is mounted only while a container runs can't keep a copy.
            _ => {}
        }
    }
    Ok(used)
}

/// Copies what is in a folder of the image, and how the folder itself is; false when there is no such folder. `aside` is a folder for
/// what the kernel needs to stack the layers.
fn copy(layers: &[PathBuf], place: &Path, to: &OwnedFd, aside: &Path) -> Result<bool> {
    let doing = || format!("make {}", aside.display());
    let _ = std::fs::remove_dir_all(aside);
    std::fs::create_dir(aside).doing(doing)?;
    let copied = View::layers_at_rest(Parts { dir: aside, layers, mounts: &[], volumes: &[], read_only: true, writes: false }).and_then(|view| {
        let typed = Typed { path: place.to_path_buf(), contents: true, folder: true };
        let source = match place::source(view.root(), &typed, true) {
            Err(e) if e.class == Class::NotFound => return Ok(false),
            Err(e) if e.class == Class::Invalid => {
                let why = format!("cannot mount volume over existing file, file exists {}", place.display());
                return Err(Error::new(Class::Conflict, format!("mount a volume at {}", place.display()), why));
            }
            source => source?,
        };
        let folder = fd::duplicate(to.as_fd()).doing(|| "fill a volume".into())?;
        tree::copy(&source, &Destination::Into { folder, path: place.into() }, true, &mut |_| {})?;
        tree::folder_itself(&source.folder, OsStr::new("."), to).map(|()| true)
    });
    let _ = std::fs::remove_dir_all(aside);
    copied
}

/// Who uses what: the mounts of each container, by its ID. They are the same for all of a container's life, so that each is read once.
#[derive(Default)]
pub struct Users(BTreeMap<String, Vec<Volume>>);

impl Users {
    /// All containers as they are now.
    ///
    /// # Errors
    /// EACCES.
    pub fn of(home: &Home) -> Result<Users> {
        let mut users = Users::default();
        users.look_again(home).map(|()| users)
    }

    fn look_again(&mut self, home: &Home) -> Result<()> {
        let ids = record::ids(home)?;
        self.0.retain(|id, _| ids.contains(id));
        for id in ids {
            // What a damaged record doesn't say its definition does.
            let definition = || record::definition(home, &id).map(|definition| definition.request.mounts);
            let mounts = || record::load(home, &id).map(|record| record.volumes).or_else(|_| definition()).unwrap_or_default();
            self.0.entry(id.clone()).or_insert_with(mounts);
        }
        Ok(())
    }

    /// The IDs of those that use a volume.
    pub fn of_volume(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(_, mounts)| named(mounts).any(|named| named.name == name)).map(|(id, _)| id.as_str()).collect()
    }
}

/// Removes a volume.
///
/// # Errors
/// NotFound; Conflict while a container uses it, with its ID.
pub fn remove(home: &Home, name: &str) -> Result<()> {
    remove_unused(home, name, &mut Users::default())
}

fn remove_unused(home: &Home, name: &str, users: &mut Users) -> Result<()> {
    let root = home.volumes();
    volume::check_name(name).map_err(|_| volume::no_such(name))?;
    let Some(_held) = volume::hold_alone(&root, name)? else { return Err(volume::no_such(name)) };
    // Only now: a container that is being made holds its volumes until its record is there.
    users.look_again(home)?;
    let ids = users.of_volume(name);
    if !ids.is_empty() {
        let why = format!("remove {name}: volume is in use - [{}]", ids.join(", "));
        return Err(Error::new(Class::Conflict, format!("remove the volume {name}"), why).hint("`onggi rm` those containers first; `onggi book 08`"));
    }
    volume::remove(&root, name)?;
    event(home, "destroy", name, &[]);
    Ok(())
}

/// Removes the anonymous volumes of a container that is gone; those that another one uses stay.
pub fn remove_anonymous(home: &Home, of: &[Volume]) {
    for named in named(of).filter(|named| named.anonymous) {
        // Whatever stands in the way: a volume too many is no reason to fail, and `volume prune` finds it.
        let _ = remove(home, &named.name);
    }
}

/// Removes the volumes that no container uses and that are meant.
///
/// # Errors
/// EACCES.
pub fn prune(home: &Home, is_meant: &dyn Fn(&volume::Volume) -> bool) -> Result<Pruned> {
    let root = home.volumes();
    let mut users = Users::of(home)?;
    let mut pruned = Pruned::default();
    for known in volume::list(&root)? {
        if !is_meant(&known) || !users.of_volume(&known.name).is_empty() {
            continue;
        }
        let bytes = size(home, &known);
        match remove_unused(home, &known.name, &mut users) {
            Err(e) if matches!(e.class, Class::Conflict | Class::NotFound) => continue,
            removed => removed?,
        }
        pruned.bytes += bytes;
        pruned.ids.push(known.name);
    }
    events::record(home, &Event::new("volume", "prune", "", [("reclaimed".to_string(), pruned.bytes.to_string())]));
    Ok(pruned)
}

/// The bytes of a volume; what is mounted in its stead is not its own.
pub fn size(home: &Home, of: &volume::Volume) -> u64 {
    if of.options.is_empty() { describe::tree_size(&volume::data(&home.volumes(), &of.name)) } else { 0 }
}
