//! What the kernel says of a process, of mounts and of cgroups: `/proc/P/…` and `/sys/fs/cgroup`, read and split into words.

use std::fs;
use std::path::{Path, PathBuf};

/// A process, asked from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub i32);

/// This process itself: the host's side of a comparison.
pub fn host() -> Process {
    Process(std::process::id() as i32)
}

/// All processes that there are now.
pub fn all_processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).map(Process).collect()
}

impl Process {
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }

    /// A file of its `/proc` folder; empty when the process is gone.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// A line of `/proc/P/status`.
    #[track_caller]
    pub fn status(&self, key: &str) -> String {
        let status = self.read("status");
        let found = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("no {key} in {status:?}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// `pid:[4026531836]`
    #[track_caller]
    pub fn namespace(&self, kind: &str) -> String {
        fs::read_link(self.path("ns").join(kind)).unwrap().to_string_lossy().into_owned()
    }

    pub fn lives(&self) -> bool {
        let stat = self.read("stat");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    pub fn mounts(&self) -> Vec<Mount> {
        self.read("mountinfo").lines().map(mount).collect()
    }

    /// The topmost mount at a point.
    #[track_caller]
    pub fn mount(&self, point: &str) -> Mount {
        let found = self.mounts().into_iter().rev().find(|mount| mount.point == point);
        found.unwrap_or_else(|| panic!("nothing is mounted at {point}:\n{}", self.read("mountinfo")))
    }

    /// A file of its root, by the path that it has there.
    pub fn file(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }

    /// The folder on this host of its cgroup for a v1 controller, or of the v2 tree where there is no v1.
    #[track_caller]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let text = self.read("cgroup");
        let find =
            |wanted: &str| text.lines().find_map(|l| l.split_once(':')?.1.split_once(':').filter(|(names, _)| names.split(',').any(|n| n == wanted)));
        let old = find(controller).and_then(|(_, path)| {
            let mounted = host().mounts().into_iter().find(|m| m.fstype == "cgroup" && m.super_options.iter().any(|o| o == controller))?;
            Some(PathBuf::from(format!("{}{path}", mounted.point)))
        });
        old.unwrap_or_else(|| {
            let tree = host().mounts().into_iter().find(|m| m.fstype == "cgroup2").expect("a cgroup hierarchy is mounted");
            PathBuf::from(format!("{}{}", tree.point, find("").expect("a line of the v2 tree").1))
        })
    }
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub id: String,
    pub root: String,
    pub point: String,
    pub options: Vec<String>,
    /// `shared:12`, `master:3`, `unbindable`.
    pub optional: Vec<String>,
    pub fstype: String,
    pub source: String,
    pub super_options: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// The kinds of its propagation without the groups' numbers, `["shared", "master"]`; empty is private.
    pub fn propagation(&self) -> Vec<&str> {
        self.optional.iter().map(|o| o.split(':').next().unwrap_or_default()).collect()
    }
}

fn mount(line: &str) -> Mount {
    let (left, right) = line.split_once(" - ").unwrap();
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(String::from).collect();
    Mount {
        id: left[0].into(),
        root: left[3].into(),
        point: left[4].into(),
        options: list(left[5]),
        optional: left[6..].iter().map(|o| o.to_string()).collect(),
        fstype: right[0].into(),
        source: right[1].into(),
        super_options: list(right[2]),
    }
}

/// The cgroups whose name has `name` in it, in all hierarchies, two folders deep.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in host().mounts().iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        look(Path::new(&mount.point), name, 2, &mut found);
    }
    found
}

fn look(dir: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        } else if depth > 1 {
            look(&entry.path(), name, depth - 1, found);
        }
    }
}
