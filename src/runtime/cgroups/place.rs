//! Where a container's cgroup is: from the config's `cgroupsPath` to directories.
//!
//! | `cgroupsPath` | root | rootless |
//! |---|---|---|
//! | none | `/onggi/ID` | `onggi-ID` in the nearest group that is ours to divide |
//! | `/a/b` | `/a/b` below each hierarchy's mount | the same, if it may be written to |
//! | `a/b` | as `/a/b` | below the nearest group that is ours to divide |
//! | `slice:prefix:name` with `--systemd-cgroup` | the scope `prefix-name.scope` in that slice | the same, of the user's systemd |
//!
//! See it: `cat /proc/P/cgroup`. Read: cgroups(7), systemd.slice(5), config-linux.md ("Cgroups path"),
//! cgroup-v2.rst ("Delegation", "No Internal Process Constraint").

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use super::layout::{Hierarchy, Layout, below};
use super::systemd::{self, Unit};
use crate::error::{Error, Result};

/// What a place is decided from.
pub struct Request<'a> {
    pub layout: &'a Layout,
    /// From the config.
    pub cgroups_path: Option<&'a str>,
    pub id: &'a str,
    /// `--systemd-cgroup`: systemd makes the group.
    pub systemd: bool,
    pub rootless: bool,
    /// Whether the config limits anything (see [`super::limits`]): without a limit, a container can do without a cgroup.
    pub limits: bool,
}

/// A container's cgroup, as state.json keeps it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The v2 directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unified: Option<PathBuf>,
    /// The v1 directories by controller; `cpu` and `cpuacct` may name the same one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub legacy: BTreeMap<String, PathBuf>,
    /// Where the hierarchies are mounted: nothing there or above is ever made or removed.
    pub mounts: Vec<PathBuf>,
    /// The directories that we made, parents first: these, and no others, are removed again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<PathBuf>,
    /// The name is our own choice (`/onggi/ID`, `onggi-ID`): then the group is ours even when a crash left it from an earlier life,
    /// and so is the folder `/onggi` when it is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub named_by_us: bool,
    /// Set when systemd keeps the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Place {
    /// Every directory once, the v2 one first.
    pub fn dirs(&self) -> Vec<&Path> {
        let mut seen = BTreeSet::new();
        self.unified.iter().chain(self.legacy.values()).map(PathBuf::as_path).filter(|dir| seen.insert(*dir)).collect()
    }

    /// The directory that answers who is in the container. All hierarchies hold the same processes; the freezer's is the one in
    /// which nobody can slip away from us.
    pub fn main_dir(&self) -> Option<&Path> {
        let legacy = ["freezer", "devices", "memory", "pids"].iter().find_map(|name| self.legacy.get(*name));
        legacy.or(self.unified.as_ref()).or_else(|| self.legacy.values().next()).map(PathBuf::as_path)
    }

    /// v2 alone: processes can be born in it.
    pub fn is_unified(&self) -> bool {
        self.unified.is_some() && self.legacy.is_empty()
    }

    /// The directories from just below the mount down to `dir`.
    pub(super) fn levels(&self, dir: &Path) -> Vec<PathBuf> {
        // The longest mount that fits: a v2 tree may be mounted inside of another's folder.
        let mount = self.mounts.iter().filter(|mount| dir.starts_with(mount)).max_by_key(|mount| mount.as_os_str().len());
        let Some(mount) = mount else { return vec![dir.to_path_buf()] };
        let mut levels: Vec<PathBuf> = dir.ancestors().take_while(|level| level != mount).map(Path::to_path_buf).collect();
        levels.reverse();
        levels
    }
}

/// Decides where the container's cgroup is. Nothing is made yet. None when there can be none and no limit asks for one.
///
/// # Errors
/// Invalid for a path with `..` or one that names the whole machine, Denied when limits were asked for and no group is ours to
/// divide, Unsupported for `--systemd-cgroup` without systemd.
pub fn place(request: &Request) -> Result<Option<Place>> {
    if request.systemd {
        return systemd::place(request).map(Some);
    }
    let path = checked(request.cgroups_path.filter(|path| !path.is_empty()), request.id)?;
    let mut place = Place { named_by_us: path.is_none(), ..Place::default() };
    if let Some(hierarchy) = request.layout.unified()
        && let Some(dir) = directory(hierarchy, path.as_deref(), request, true)
    {
        place.unified = Some(dir);
        place.mounts.push(hierarchy.mount.clone());
    }
    for hierarchy in request.layout.legacy() {
        let Some(dir) = directory(hierarchy, path.as_deref(), request, false) else { continue };
        place.mounts.push(hierarchy.mount.clone());
        place.legacy.extend(hierarchy.controllers.iter().map(|name| (name.clone(), dir.clone())));
    }
    if place.unified.is_some() || !place.legacy.is_empty() {
        return Ok(Some(place));
    }
    if request.limits { Err(super::no_cgroup()) } else { Ok(None) }
}

/// The config's path without doubled slashes; None when there is none.
fn checked(path: Option<&str>, id: &str) -> Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    let doing = || format!("use the cgroupsPath {path:?} of {id}");
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => clean.push("/"),
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Error::invalid(doing(), "a cgroup path may not have `..` in it")),
        }
    }
    if clean.file_name().is_none() {
        return Err(Error::invalid(doing(), "it names the root of the hierarchy, and that is the whole machine"));
    }
    Ok(Some(clean))
}

fn directory(hierarchy: &Hierarchy, path: Option<&Path>, request: &Request, v2: bool) -> Option<PathBuf> {
    if !request.rootless {
        let inner = path.map_or_else(|| format!("onggi/{}", request.id), |path| path.display().to_string());
        return Some(below(&hierarchy.mount, &inner));
    }
    let dir = match path {
        Some(path) if path.is_absolute() => below(&hierarchy.mount, &path.display().to_string()),
        Some(path) => divisible(hierarchy, request.limits, v2)?.join(path),
        None => divisible(hierarchy, request.limits, v2)?.join(format!("onggi-{}", request.id)),
    };
    let nearest = dir.ancestors().find(|level| level.exists())?;
    writable(nearest).then_some(dir)
}

/// The nearest group, from our own upwards, in which we may make others. In v2 a group that has processes can't hand controllers
/// to its children ("no internal processes"), and our own has at least us: so with limits it is most often the parent of our own,
/// which the user's systemd owns.
fn divisible(hierarchy: &Hierarchy, limits: bool, v2: bool) -> Option<PathBuf> {
    let own = hierarchy.own_dir();
    let ours = own.ancestors().take_while(|dir| dir.starts_with(&hierarchy.mount)).filter(|dir| writable(dir));
    let empty = |dir: &Path| std::fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|pids| pids.trim().is_empty());
    if !v2 {
        return ours.map(Path::to_path_buf).next();
    }
    let mut fallback = None;
    for dir in ours {
        if empty(dir) {
            return Some(dir.to_path_buf());
        }
        fallback.get_or_insert_with(|| dir.to_path_buf());
    }
    fallback.filter(|_| !limits)
}

/// Whether we may make groups in `dir` and move processes between them: the directory and its cgroup.procs are ours.
fn writable(dir: &Path) -> bool {
    let may = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    may(dir) && may(&dir.join("cgroup.procs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Layout {
        Layout::Unified(Hierarchy { mount: "/cg".into(), own: "/user.slice/me".into(), controllers: vec![] })
    }

    fn at(path: Option<&str>) -> Result<Option<Place>> {
        place(&Request { layout: &v2(), cgroups_path: path, id: "web1", systemd: false, rootless: false, limits: false })
    }

    #[test]
    fn without_a_path_the_group_is_in_our_own_folder() {
        let place = at(None).unwrap().unwrap();
        assert_eq!(place.unified.as_deref(), Some(Path::new("/cg/onggi/web1")));
        assert!(place.named_by_us && place.is_unified());
    }

    #[test]
    fn absolute_and_relative_paths_begin_at_the_mount() {
        for path in ["/pods//p1/web", "pods/p1/./web/"] {
            assert_eq!(at(Some(path)).unwrap().unwrap().unified.unwrap(), Path::new("/cg/pods/p1/web"));
        }
    }

    #[test]
    fn a_path_that_climbs_out_or_names_the_root_is_refused() {
        for path in ["/a/../../b", "..", "/", ".", "a/.."] {
            assert!(at(Some(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn levels_go_from_below_the_mount_down() {
        let place = at(Some("/a/b")).unwrap().unwrap();
        assert_eq!(place.levels(Path::new("/cg/a/b")), [PathBuf::from("/cg/a"), PathBuf::from("/cg/a/b")]);
    }

    #[test]
    fn rootless_without_a_group_of_its_own_runs_unlimited_or_says_what_to_do() {
        let layout = v2();
        let request = |limits| Request { layout: &layout, cgroups_path: None, id: "x", systemd: false, rootless: true, limits };
        assert_eq!(place(&request(false)), Ok(None));
        assert!(place(&request(true)).unwrap_err().hint.unwrap().contains("Delegate=yes"));
    }

    #[test]
    fn state_json_keeps_a_place() {
        let place = at(None).unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Place>(&serde_json::to_string(&place).unwrap()).unwrap(), place);
    }
}
