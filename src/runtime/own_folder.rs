//! Folders that must be ours: what stands in them is believed, and some of it is run with our rights.
//!
//! In a folder that everybody may write to, such as `/tmp`, anybody can have made ours before us, or a link to elsewhere, and whoever
//! owns a folder can replace what is in it. So below such a folder everything must belong to us or to root.
//!
//! See it: `namei -l /tmp/onggi-1000/oci`. Read: inode(7) on the sticky bit, proc_sys_fs(5) "protected_symlinks".

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Class, Doing, Error, Result};

/// Refuses a folder, there or still to be made, on whose path another user could put something else.
///
/// # Errors
/// Denied, with the folder and its owner.
pub fn check(dir: &Path) -> Result<()> {
    let doing = || format!("use the folder {}", dir.display());
    let absolute = std::path::absolute(dir).doing(doing)?;
    let us = nix::unistd::geteuid().as_raw();
    let mut everybody_s = false;
    let mut levels: Vec<&Path> = absolute.ancestors().collect();
    levels.reverse();
    for level in levels {
        // Not yet made: what is made from here on is ours.
        let Ok(found) = std::fs::symlink_metadata(level) else { break };
        if everybody_s && found.uid() != us && found.uid() != 0 {
            let why = format!("{} belongs to user {}, who could replace what is in it", level.display(), found.uid());
            return Err(Error::new(Class::Denied, doing(), why).hint("choose a folder of your own"));
        }
        everybody_s |= found.is_dir() && found.permissions().mode() & 0o002 != 0;
    }
    Ok(())
}
