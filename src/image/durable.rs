//! Making things so that they are there whole or not at all: aside, synced, renamed into their place.
//!
//! See it: `strace -f -e fsync,rename,flock onggi pull alpine`. Read: rename(2), fsync(2), flock(2).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::store::Store;
use crate::error::{Doing, Result};

/// A folder in `tmp` for what is being made; it goes when dropped, with what is still in it.
#[must_use]
pub struct Temporary {
    path: PathBuf,
    // The lock that says that its maker lives.
    _lock: File,
}

impl Temporary {
    /// Makes one, and clears away those whose makers are gone.
    ///
    /// # Errors
    /// ENOSPC, EACCES.
    pub fn new(store: &Store) -> Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tmp = store.root().join("tmp");
        // A folder that is made and not yet locked looks like a dead one's: nobody looks while this is held.
        let _making = store.lock("tmp/.lock")?;
        clear_leftovers(&tmp);
        let path = loop {
            let path = tmp.join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Another PID namespace has a process of our number.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                made => made.doing(|| format!("make {}", path.display()))?,
            }
            break path;
        };
        let lock = File::open(&path).and_then(|dir| dir.try_lock().map_err(std::io::Error::from).map(|()| dir));
        Ok(Temporary { _lock: lock.doing(|| format!("lock {}", path.display()))?, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders that nobody holds. What can't be removed now is tried again by the next.
fn clear_leftovers(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let is_free = || File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_free() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes a folder with exactly this mode, whatever the umask; one that is there stays as it is.
pub fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let doing = || format!("make {}", path.display());
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).doing(doing),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).create(parent).doing(doing)?;
            make_dir(path, mode)
        }
        Err(e) => Err(e).doing(doing),
    }
}

/// Replaces the file by these bytes: readers see the old ones or the new ones, also after a power cut.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("write {}", path.display());
    // One name for all writers: each holds a lock, and what a killed one left is written over.
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).doing(doing)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.doing(doing)?;
    sync_parent(path)
}

/// A rename is on the disk when its folder is.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).doing(|| format!("sync {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    #[test]
    fn what_a_dead_maker_left_is_cleared_and_what_a_living_one_makes_stays() {
        let folder = Folder::new();
        let store = Store::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("tmp/1-0")).unwrap();
        let living = Temporary::new(&store).unwrap();
        let other = Temporary::new(&store).unwrap();
        assert!(living.path().exists() && !folder.path().join("tmp/1-0").exists());
        drop(other);
        assert!(living.path().exists());
    }
}
