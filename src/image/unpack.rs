//! A layer becomes a snapshot: unpacked aside, checked, and only then given its name.
//!
//! ```text
//! ROOT/tmp/PID-N/snapshot/fs     while it is unpacked
//! ROOT/snapshots/HEX/fs          when its diff ID is right, and all of it is on the disk
//! ```
//! See it: `ls /var/lib/onggi/tmp` during a pull. Read: rename(2), syncfs(2).

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use super::compression;
use super::digest::{ChainId, DiffId};
use super::durable::{Temporary, make_dir, sync_parent};
use super::layer_entry::unreadable;
use super::layers::{self, Unpacked};
use super::snapshot;
use super::store::Store;
use crate::error::{Doing, Error, Result};

/// Unpacks a layer on top of `below` (the lowest first), whatever it is compressed with. A snapshot that is there stays.
///
/// # Errors
/// Invalid when the archive is not the layer that `expected` names, or as [`layers::unpack`]; ENOSPC.
pub fn unpack(store: &Store, below: &[ChainId], expected: Option<&DiffId>, archive: impl Read) -> Result<(ChainId, Unpacked)> {
    let folders: Vec<PathBuf> = below.iter().map(|chain| snapshot::dir(store, chain)).collect();
    let archive = compression::undone(archive).map_err(unreadable)?;
    let aside = unpack_aside(store, below.last(), &folders, expected, archive)?;
    let (chain, unpacked) = (aside.chain.clone(), aside.unpacked.clone());
    keep(store, vec![aside])?;
    Ok((chain, unpacked))
}

/// A layer that is unpacked and right, and has no name in the store yet. Dropped, it is gone.
pub struct Aside {
    pub chain: ChainId,
    pub unpacked: Unpacked,
    temporary: Temporary,
}

impl Aside {
    /// Its files.
    pub fn dir(&self) -> PathBuf {
        self.temporary.path().join("snapshot/fs")
    }
}

/// Unpacks an (uncompressed) layer aside, on top of the stack `below`, whose files are in `folders`, the lowest first.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_aside(store: &Store, below: Option<&ChainId>, folders: &[PathBuf], expected: Option<&DiffId>, archive: impl Read) -> Result<Aside> {
    let temporary = Temporary::new(store)?;
    let (snapshot, fs_dir) = (temporary.path().join("snapshot"), temporary.path().join("snapshot/fs"));
    make_dir(&snapshot, 0o711)?;
    make_dir(&fs_dir, 0o755)?;
    let uppermost_first: Vec<PathBuf> = folders.iter().rev().cloned().collect();
    let unpacked = layers::unpack(archive, &fs_dir, &uppermost_first)?;
    if let Some(expected) = expected.filter(|expected| **expected != unpacked.diff_id) {
        return Err(Error::invalid(format!("unpack layer {}", expected.0.short()), format!("its bytes are {}", unpacked.diff_id)));
    }
    let chain = ChainId::on(below, &unpacked.diff_id);
    fs::write(snapshot.join("size"), unpacked.content.to_string()).doing(|| format!("keep the snapshot {}", chain.0.short()))?;
    Ok(Aside { chain, unpacked, temporary })
}

/// Gives layers their names in the store, in this order.
///
/// # Errors
/// ENOSPC, EIO.
pub fn keep(store: &Store, asides: Vec<Aside>) -> Result<()> {
    let Some(first) = asides.first() else { return Ok(()) };
    let doing = |chain: &ChainId| format!("keep the snapshot {}", chain.0.short());
    // One call for all files: after a power cut a snapshot with a name has all its bytes.
    File::open(first.dir()).and_then(|dir| Ok(nix::unistd::syncfs(&dir)?)).doing(|| doing(&first.chain))?;
    for aside in &asides {
        let place = store.root().join("snapshots").join(aside.chain.0.hex());
        match fs::rename(aside.temporary.path().join("snapshot"), &place) {
            // Somebody else was faster; the same layers make the same snapshot.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY)) => {}
            renamed => renamed.doing(|| doing(&aside.chain))?,
        }
    }
    sync_parent(&store.root().join("snapshots/x"))
}
