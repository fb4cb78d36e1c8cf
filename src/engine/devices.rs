//! `--device` and, for `--privileged`, all devices of the host: the node to make and the rule that allows it.
//!
//! Read: docker run(1) `--device`, mknod(2), config-linux.md "Devices".

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::request::{HostDevice, Request};
use crate::error::{Doing, Error, Result};
use crate::runtime::spec::{Device, DeviceRule};

/// A device of the container.
pub struct Granted {
    pub node: Device,
    pub rule: DeviceRule,
}

/// The devices of a request. In a user namespace nodes are bound from the host, and no rules are needed: what the host's permissions
/// allow the user is allowed.
///
/// # Errors
/// NotFound, or Invalid for what is no device.
pub fn of(request: &Request, rootless: bool) -> Result<Vec<Granted>> {
    let mut granted = Vec::new();
    if request.security.privileged && !rootless {
        for path in nodes_below(Path::new("/dev")) {
            granted.extend(grant(&HostDevice { source: path.clone(), target: path, access: "rwm".into() }).ok());
        }
    }
    for device in &request.devices {
        let real = std::fs::metadata(&device.source).doing(|| format!("use --device {}", device.source.display()))?;
        if !real.is_dir() {
            granted.push(grant(device)?);
            continue;
        }
        // A folder stands for all devices in it (`--device /dev/snd`).
        for path in nodes_below(&device.source) {
            let target = device.target.join(path.strip_prefix(&device.source).unwrap_or(&path));
            granted.push(grant(&HostDevice { source: path, target, access: device.access.clone() })?);
        }
    }
    Ok(granted)
}

fn grant(device: &HostDevice) -> Result<Granted> {
    let doing = || format!("use --device {}", device.source.display());
    let found = std::fs::metadata(&device.source).doing(doing)?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(Error::invalid(doing(), "it is not a device")),
    };
    let (major, minor) = (i64::from(libc::major(found.rdev())), i64::from(libc::minor(found.rdev())));
    Ok(Granted {
        node: Device {
            path: device.target.clone(),
            kind: kind.into(),
            major,
            minor,
            file_mode: Some(found.mode() & 0o777),
            uid: Some(found.uid()),
            gid: Some(found.gid()),
        },
        rule: DeviceRule { allow: true, kind: Some(kind.into()), major: Some(major), minor: Some(minor), access: Some(device.access.clone()) },
    })
}

/// All device nodes below a folder, without what a container has for itself: terminals, shared memory.
fn nodes_below(dir: &Path) -> Vec<PathBuf> {
    const OWN: [&str; 8] = ["pts", "shm", "mqueue", "console", "fd", "ptmx", "core", "log"];
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if OWN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            nodes.extend(nodes_below(&entry.path()));
        } else if kind.is_char_device() || kind.is_block_device() {
            nodes.push(entry.path());
        }
    }
    nodes.sort();
    nodes
}
