//! A container before it runs: its name, and all that is on disk.
//!
//! See it: `find /run/onggi-steps/containers -maxdepth 2`. Read: mkdir(2).

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use clap::Args;

use super::state::folder;
use super::words::Run;
use super::{Group, image, limit};
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::image::manifest::ContainerConfig;
use crate::image::snapshot::{self, Prepared};

/// What the monitor and the child need to know.
pub struct Container {
    pub name: String,
    pub folder: PathBuf,
    pub command: Vec<String>,
    pub config: ContainerConfig,
    pub prepared: Prepared,
    pub group: Group,
    /// Once it has ended.
    pub remove: bool,
}

/// Takes the name, and makes all that is on disk. `step` is the name of the program, for the cgroup.
///
/// # Errors
/// Invalid for the image or the command; Conflict for a name that is taken.
pub fn create<More: Args>(step: &str, wanted: &Run<More>) -> Result<Container> {
    let image = image(&wanted.image)?;
    let config = image.config.config;
    let command = [config.entrypoint.clone(), if wanted.command.is_empty() { config.cmd.clone() } else { wanted.command.clone() }].concat();
    if command.is_empty() {
        return Err(Error::invalid("run the image", "it has no command, and none is given"));
    }
    let id = id::random()?;
    let name = wanted.name.clone().unwrap_or(id::short(&id).into());
    let folder = folder(&name)?;
    // mkdir(2) makes it or finds it: of two who want the name, one gets it.
    DirBuilder::new().mode(0o700).create(&folder).doing(|| format!("use the name {name}"))?;
    let made =
        snapshot::prepare(&image.layers, &folder).and_then(|prepared| Ok((prepared, limit(&wanted.limits, &format!("{step}-{}", id::short(&id)))?)));
    let (prepared, group) = made.inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
    Ok(Container { name, folder, command, config, prepared, group, remove: wanted.rm })
}
