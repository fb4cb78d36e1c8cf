//! Where the engine keeps its things: data that stays, and state that is gone after a reboot.
//!
//! ```text
//! root       /var/lib/onggi                /run/onggi
//! rootless   $XDG_DATA_HOME/onggi          $XDG_RUNTIME_DIR/onggi
//!            images/ snapshots/            oci/        what the runtime remembers
//!            containers/ID/                running/ID  which containers are looked after, and by whom
//!            names/NAME → ID  volumes/     monitors/ID the socket of a container's monitor
//!                                          userns/PID  (rootless) the processes that share one user namespace
//!                                          network.sock (rootless) the keeper of the networks; network.log its way out
//! ```
//! `ONGGI_ROOT` puts everything below another folder, for tests and for trying things out.

use std::path::{Path, PathBuf};

use crate::error::{Class, Doing, Error, Result};
use crate::runtime::{own_folder, users};

/// The engine's folders.
#[derive(Debug, Clone)]
pub struct Home {
    pub data: PathBuf,
    pub run: PathBuf,
    pub rootless: bool,
}

impl Home {
    /// Finds the folders and makes them.
    ///
    /// # Errors
    /// EACCES, EROFS, ENOSPC; Denied for a folder that another user made in `/tmp`.
    pub fn open() -> Result<Home> {
        let home = Home::find()?;
        own_folder::check(&home.data)?;
        own_folder::check(&home.run)?;
        // removing: made while there is room, for on a full disk it is what is needed.
        for dir in ["containers", "names", "removing"] {
            make(&home.data.join(dir), 0o710)?;
        }
        make(&home.data.join("volumes"), 0o701)?;
        for dir in ["running", "monitors"] {
            make(&home.run.join(dir), 0o711)?;
        }
        Ok(home)
    }

    /// Finds the folders without making them.
    ///
    /// # Errors
    /// NotFound without a home.
    pub fn find() -> Result<Home> {
        let rootless = users::in_user_namespace() || !nix::unistd::geteuid().is_root();
        if let Some(root) = variable("ONGGI_ROOT") {
            let root = std::path::absolute(&root).doing(|| format!("use ONGGI_ROOT {}", root.display()))?;
            return Ok(Home { data: root.join("data"), run: root.join("run"), rootless });
        }
        if !rootless {
            return Ok(Home { data: "/var/lib/onggi".into(), run: "/run/onggi".into(), rootless });
        }
        let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| Error::new(Class::NotFound, "find a folder for containers", "neither HOME nor XDG_DATA_HOME is set"))?;
        let run = variable("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()).map(|dir| dir.join("onggi"));
        let run = run.unwrap_or_else(|| std::env::temp_dir().join(format!("onggi-{}", users::outer_uid())));
        Ok(Home { data: data.join("onggi"), run, rootless })
    }

    /// A container's folder.
    pub fn container(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    /// The file that says who looks after a container.
    pub fn running(&self, id: &str) -> PathBuf {
        self.run.join("running").join(id)
    }

    /// What a container has written, in Docker's form.
    pub fn log(&self, id: &str) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }

    /// The folder of the monitors' sockets.
    pub fn monitors(&self) -> PathBuf {
        self.run.join("monitors")
    }

    /// The link from a name to an ID.
    pub fn name(&self, name: &str) -> PathBuf {
        self.data.join("names").join(name)
    }

    /// The folder of all volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// The runtime's folder.
    pub fn oci(&self) -> PathBuf {
        self.run.join("oci")
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .doing(|| format!("make {}", dir.display()))
        .map_err(|e| e.hint("set ONGGI_ROOT to a folder that you may write to"))?;
    // In /tmp anybody could have made it before us.
    let owner = std::fs::metadata(dir).doing(|| format!("look at {}", dir.display()))?.uid();
    match owner == nix::unistd::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Error::new(Class::Denied, format!("use {}", dir.display()), format!("it belongs to user {owner}"))),
    }
}
