//! A folder with a short path, for programs that refuse long ones: a socket's has at most 107 bytes (unix(7)), podman's `--runroot` 50.
//! The checkout may be anywhere, so `target/tmp` is no place for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// It goes with what was mounted in it when this is dropped.
pub struct Short(PathBuf);

impl Short {
    pub fn new() -> Short {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("onggi-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("make a folder with a short path");
        Short(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The options that give podman a store of its own below `folder`.
    pub fn podman(&self, folder: &Path) -> Vec<String> {
        let place = |name: &str| folder.join(name).display().to_string();
        ["--root", &place("podman"), "--runroot", &self.path("run"), "--tmpdir", &place("podman-tmp"), "--storage-driver", "vfs"]
            .map(String::from)
            .to_vec()
    }
}

impl Short {
    /// The options that give dockerd a place of its own below `folder`, and nothing to do with networks.
    pub fn dockerd(&self, folder: &Path) -> Vec<String> {
        let more = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"];
        [self.dockerd_place(folder), more.map(String::from).to_vec()].concat()
    }

    /// The place alone.
    pub fn dockerd_place(&self, folder: &Path) -> Vec<String> {
        let place = |name: &str| folder.join(name).display().to_string();
        let namespace = self.path("").trim_matches('/').replace('/', "-");
        // containerd's sockets are below the second.
        ["--data-root", &place("data"), "--exec-root", &self.path("exec"), "--pidfile", &place("pid"), "-H", &self.host()]
            .into_iter()
            .chain(["--containerd-namespace", &namespace])
            .map(String::from)
            .collect()
    }

    /// Where it listens, as `docker -H` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        unmount_below(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lets go of what another engine has mounted below a folder: its namespaces, its shared memory.
pub fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| *place != folder.as_os_str() && Path::new(place).starts_with(folder)) {
        let _ = Command::new("umount").args(["-l", place]).status();
    }
}
