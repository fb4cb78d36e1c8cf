//! JSON files that others write too (Docker's `config.json`, `registries.json`): changed whole or not at all, with all else in them kept.
//!
//! Whoever changes one holds flock(2) on its folder, so that no lock file is left lying about; readers see the old text or the new one.
//! A symbolic link is followed and stays: people keep such files elsewhere. A new file belongs to whom its folder belongs, for below
//! `sudo -E` the folder may be another's.
//!
//! See it: `strace -f -e trace=flock,rename,fsync,fchmod onggi login localhost:5000`. Read: rename(2), flock(2), path_resolution(7).

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Class, Doing, Error, Result};

/// People write these by hand: more than this is something else.
const BIGGEST: u64 = 1 << 20;

/// Links that are followed, as many as the kernel does.
const MOST_LINKS: usize = 40;

/// What a file says, or None when there is none.
///
/// # Errors
/// EACCES; Invalid when it is bigger than such files are.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let doing = || format!("read {}", path.display());
    let file = match File::open(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        opened => opened.doing(doing)?,
    };
    let mut text = Vec::new();
    file.take(BIGGEST + 1).read_to_end(&mut text).doing(doing)?;
    if text.len() as u64 > BIGGEST {
        return Err(Error::invalid(doing(), format!("it is larger than {BIGGEST} bytes")));
    }
    Ok(Some(text))
}

/// A file's object, empty when there is no file or nothing in it.
///
/// # Errors
/// As [`read`]; Invalid when it is no JSON object. The error shows none of the text: there may be passwords in it.
pub fn read_members(path: &Path) -> Result<Members> {
    let text = read(path)?.unwrap_or_default();
    if text.trim_ascii().is_empty() {
        return Ok(Members::default());
    }
    serde_json::from_slice(&text).map_err(|e| {
        let place = format!("it is no JSON object: see line {}, column {}", e.line(), e.column());
        Error::invalid(format!("read {}", path.display()), place)
    })
}

/// Changes a file's object under a lock, and writes it when `change` says that something is new. A file that isn't there is made, with
/// its folder.
///
/// # Errors
/// As [`read_members`]; those of `change`; EACCES, EROFS, ENOSPC.
pub fn edit(path: &Path, change: impl FnOnce(&mut Members) -> Result<bool>) -> Result<()> {
    let path = follow(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folder(folder)?;
    let lock = File::open(folder).and_then(|dir| dir.lock().map(|()| dir)).doing(|| format!("lock {}", folder.display()))?;
    let mut members = read_members(&path)?;
    if change(&mut members)? {
        write_whole(&path, &members.pretty(), &lock)?;
    }
    Ok(())
}

/// Where a path leads: the file behind symbolic links, which need not be there.
fn follow(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::invalid(format!("open {}", path.display()), "its symbolic links lead in a circle"))
}

fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    // What is below /etc is for all to read; what is in a home is its owner's.
    let mode = if folder.starts_with("/etc") { 0o755 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(folder) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.doing(|| format!("make {}", folder.display()))?,
    }
    let of = fs::metadata(parent).doing(|| format!("look at {}", parent.display()))?;
    give(folder, of.uid(), of.gid())
}

/// Gives it to this user and group where that is another: only root can, and only for root it happens.
fn give(path: &Path, uid: u32, gid: u32) -> Result<()> {
    let doing = || format!("give {} to user {uid}", path.display());
    let is = fs::symlink_metadata(path).doing(doing)?;
    if (is.uid(), is.gid()) == (uid, gid) || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).doing(doing)
}

fn write_whole(path: &Path, text: &str, folder: &File) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let (uid, gid, mode) = match fs::metadata(path) {
        Ok(old) => (old.uid(), old.gid(), old.permissions().mode() & 0o777),
        // What is below /etc has no secrets in it, and is everybody's to read.
        Err(_) if path.starts_with("/etc") => (0, 0, 0o644),
        Err(_) => folder.metadata().map(|of| (of.uid(), of.gid(), 0o600)).doing(doing)?,
    };
    let new = path.with_extension("onggi-new");
    // A killed writer's, for a living one would hold the lock. Removed, not truncated: in another's folder it may be a link.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).doing(doing)?;
    let written = file.write_all(text.as_bytes()).doing(doing).and_then(|()| give(&new, uid, gid));
    let written = written.and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)).and_then(|()| file.sync_all()).doing(doing));
    let written = written.and_then(|()| fs::rename(&new, path).and_then(|()| folder.sync_all()).doing(doing));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// A JSON object's members in their order, each with its text as it was.
#[derive(Clone, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// A member as what it should be; its default when there is none or null.
    ///
    /// # Errors
    /// Invalid when it is something else. The error doesn't show it: it may be a password.
    pub fn member<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        // Of two with one name the last counts, as in Go.
        let Some((_, text)) = self.0.iter().rev().find(|(known, _)| known == name) else { return Ok(T::default()) };
        let value = serde_json::from_str::<Option<T>>(text.get());
        value.map(Option::unwrap_or_default).map_err(|_| Error::invalid(format!("use {name:?}"), "its value is of another kind than it should be"))
    }

    /// Gives a member this value, in its old place or at the end.
    ///
    /// # Errors
    /// System when it can't be JSON.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let text = to_raw_value(value).map_err(|e| Error::new(Class::System, format!("write {name:?}"), e.to_string()))?;
        match self.0.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, old)) => *old = text,
            None => self.0.push((name.to_string(), text)),
        }
        Ok(())
    }

    /// Takes a member away: whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != name);
        self.0.len() < before
    }

    /// The text as Docker lays it out, with tabs.
    fn pretty(&self) -> String {
        laid_out(&serde_json::to_string(self).unwrap_or_default())
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, text) in &self.0 {
            map.serialize_entry(name, text)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Members, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The same JSON text with a line for each member, indented by tabs.
fn laid_out(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n('\t', depth));
    };
    for c in json.chars() {
        if in_string {
            text.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let (opened, closes) = (text.ends_with(['{', '[']), matches!(c, '}' | ']'));
        if closes {
            depth = depth.saturating_sub(1);
        }
        // An empty object or list stays on its line.
        if opened != closes {
            line(&mut text, depth);
        }
        text.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            ',' => line(&mut text, depth),
            ':' => text.push(' '),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    #[test]
    fn a_changed_member_keeps_its_place_and_all_others_their_text() {
        let folder = Folder::new();
        let path = folder.path().join("config.json");
        let text = "{\n\t\"z\": 1.50,\n\t\"auths\": {\n\t\t\"a\": {}\n\t},\n\t\"list\": [\n\t\t\"{\\\"\",\n\t\t[]\n\t]\n}";
        fs::write(&path, text).unwrap();
        edit(&path, |members| members.set("auths", &members.member::<Members>("auths")?).map(|()| true)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        edit(&path, |members| members.set("auths", &7).map(|()| true)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n\t\"z\": 1.50,\n\t\"auths\": 7,\n\t\"list\": [\n\t\t\"{\\\"\",\n\t\t[]\n\t]\n}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
        let folder = Folder::new();
        let path = folder.path().join("new/config.json");
        edit(&path, |members| members.set("a", &1).map(|()| true)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        edit(&path, |members| Ok(members.remove("a"))).unwrap();
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o640, "{}"));
    }

    #[test]
    fn a_symbolic_link_stays_and_what_it_leads_to_is_changed() {
        let folder = Folder::new();
        let (link, there) = (folder.path().join("config.json"), folder.path().join("dotfiles/docker.json"));
        std::os::unix::fs::symlink("dotfiles/docker.json", &link).unwrap();
        edit(&link, |members| members.set("a", &1).map(|()| true)).unwrap();
        assert!(link.is_symlink() && fs::read_to_string(there).unwrap().contains("\"a\": 1"));
        std::os::unix::fs::symlink("circle", folder.path().join("circle")).unwrap();
        assert!(edit(&folder.path().join("circle"), |_| Ok(true)).unwrap_err().to_string().contains("circle"));
    }

    #[test]
    fn what_is_no_object_is_refused_without_showing_it() {
        let folder = Folder::new();
        let path = folder.path().join("config.json");
        for text in ["\"secret\"", "{\"a\": secret}", "[\"secret\"]", "{\"a\": 1} secret"] {
            fs::write(&path, text).unwrap();
            let error = edit(&path, |_| Ok(true)).unwrap_err().to_string();
            assert!(error.contains("no JSON object") && error.contains("line 1") && !error.contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, " \n").unwrap();
        edit(&path, |members| members.set("a", &1).map(|()| true)).unwrap();
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let folder = Folder::new();
        let path = folder.path().join("config.json");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || edit(path, |members| members.set(&format!("w{writer}"), &writer).map(|()| true)).unwrap());
            }
        });
        assert_eq!(read_members(&path).unwrap().names().count(), 8);
    }
}
