//! What is in the image `base`: the host's usual programs, the libraries that they need, and a few files of our own.
//!
//! Nothing of the host's configuration comes along: no users, keys, names or addresses. What is taken are programs, libraries, the
//! descriptions of terminals and the locale C.UTF-8: files that every machine with the same packages has.
//!
//! The layout is today's: `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr`. A file elsewhere (`/nix/store/…`) keeps its path.
//!
//! See it: `onggi run --rm base find / -xdev`. Read: hier(7), file-hierarchy(7), ld.so(8), terminfo(5).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::host_programs;
use super::libraries::{self, Elf, Libraries};
use super::probe::PROBE;
use crate::error::{Class, Doing, Error, Result};

/// Files by their path (relative to the root), which also sorts them: a folder before what is in it.
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    /// The usual programs that this host doesn't have.
    pub missing: Vec<&'static str>,
    /// When the newest of the host's files in it was changed last.
    pub newest: Option<SystemTime>,
}

struct Node {
    kind: Kind,
    mode: u32,
    owner: u32,
}

enum Kind {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
}

const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "run",
    "srv",
    "sys",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/local",
    "usr/local/bin",
    "usr/sbin",
    "usr/share",
    "var",
    "var/cache",
    "var/lib",
    "var/log",
];

const STUDENT: u32 = 1000;

const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000:Student:/home/student:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nwheel:x:10:\nstudent:x:1000:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
    ("etc/os-release", "NAME=\"Onggi base\"\nPRETTY_NAME=\"Onggi base (made from the host's programs)\"\nID=onggi-base\nVERSION_ID=1\n"),
    (
        "etc/profile",
        "# For login shells; see also /etc/bash.bashrc.\nexport PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPS1='$ '\n[ \"$(id -u)\" = 0 ] && PS1='# '\n[ -n \"$BASH_VERSION\" ] && . /etc/bash.bashrc\nexport PS1\n",
    ),
    ("etc/bash.bashrc", "PS1='\\u@\\h:\\w\\$ '\nalias ll='ls -l'\n"),
    ("root/.bashrc", ". /etc/bash.bashrc\n"),
    ("home/student/.bashrc", ". /etc/bash.bashrc\n"),
    ("etc/shells", "/bin/sh\n/bin/bash\n"),
    ("etc/host.conf", "multi on\n"),
];

const TERMINALS: &[&str] = &[
    "ansi",
    "dumb",
    "linux",
    "screen",
    "screen-256color",
    "tmux",
    "tmux-256color",
    "vt100",
    "vt220",
    "xterm",
    "xterm-256color",
    "rxvt-unicode-256color",
];

impl Tree {
    /// Looks at this host and collects all of it.
    ///
    /// # Errors
    /// NotFound on a host without a shell.
    pub fn of_this_host() -> Result<Tree> {
        let mut tree = Tree { nodes: BTreeMap::new(), missing: Vec::new(), newest: None };
        tree.lay_out();
        let mut programs = Vec::new();
        for name in host_programs::wanted() {
            match tree.program(name)? {
                Some(found) => programs.extend(found),
                None => tree.missing.push(name),
            }
        }
        programs.extend(tree.busybox()?);
        if !tree.has("usr/bin/sh") {
            return Err(Error::new(Class::NotFound, "make the image base", "this host has neither sh nor busybox")
                .hint("install busybox (Debian: apt install busybox-static)"));
        }
        tree.libraries(programs)?;
        tree.terminals();
        tree.locale();
        tree.file("usr/bin/probe", 0o755, PROBE.to_vec());
        Ok(tree)
    }

    /// Whether there is something of this name, given without the first slash.
    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(Path::new(path))
    }

    /// How many files there are that are no folders, and their bytes.
    pub fn count(&self) -> (u64, u64) {
        self.nodes.values().fold((0, 0), |(files, bytes), node| match &node.kind {
            Kind::Folder => (files, bytes),
            Kind::File(content) => (files + 1, bytes + content.len() as u64),
            Kind::Link(_) => (files + 1, bytes),
        })
    }

    /// Writes the archive. Nothing in it depends on when, where or by whom: the same files give the same bytes.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn write(&self, writer: impl Write) -> std::io::Result<()> {
        let mut archive = tar::Builder::new(writer);
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(node.owner.into());
            header.set_gid(node.owner.into());
            header.set_mtime(0);
            header.set_size(0);
            match &node.kind {
                Kind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, path.join(""), std::io::empty())?;
                }
                Kind::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, &**content)?;
                }
                Kind::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }

    fn lay_out(&mut self) {
        for folder in FOLDERS {
            self.insert(folder, 0o755, Kind::Folder);
        }
        for (folder, mode) in [("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("home/student", 0o755)] {
            self.insert(folder, mode, Kind::Folder);
        }
        for top in ["bin", "sbin", "lib", "lib64"] {
            self.insert(top, 0o777, Kind::Link(Path::new("usr").join(top)));
        }
        self.insert("var/run", 0o777, Kind::Link("../run".into()));
        for (path, text) in FILES {
            self.file(path, 0o644, text.as_bytes().to_vec());
        }
        for (path, node) in &mut self.nodes {
            if path.starts_with("home/student") {
                node.owner = STUDENT;
            }
        }
    }

    fn insert(&mut self, path: impl AsRef<Path>, mode: u32, kind: Kind) {
        // The first stays: what was found first is what the host itself would have run.
        self.nodes.entry(path.as_ref().to_path_buf()).or_insert(Node { kind, mode, owner: 0 });
    }

    fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: Vec<u8>) {
        for folder in path.as_ref().ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            self.insert(folder, 0o755, Kind::Folder);
        }
        self.insert(path, mode, Kind::File(content));
    }

    fn link(&mut self, path: &Path, target: &Path) {
        if path == target {
            return;
        }
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            self.insert(folder, 0o755, Kind::Folder);
        }
        let target = match target.file_name() {
            Some(name) if path.parent() == target.parent() => PathBuf::from(name),
            _ => Path::new("/").join(target),
        };
        self.insert(path, 0o777, Kind::Link(target));
    }

    /// Takes the host's program of this name, and whatever runs it if it is a script. None when there is none that can run.
    fn program(&mut self, name: &str) -> Result<Option<Vec<(PathBuf, Elf)>>> {
        let Some(found) = host_programs::find(name) else { return Ok(None) };
        let real = found.canonicalize().doing(|| format!("find {}", found.display()))?;
        // Programs that may not be read (some setuid ones) are no loss: setuid is taken off here anyway.
        let Ok(bytes) = self.read(&real) else { return Ok(None) };
        let elf = match libraries::read(&real, &bytes) {
            Some(elf) => elf,
            // A script of the shell runs wherever the shell does; perl and python stay at home.
            None if host_programs::interpreter(&bytes).is_some_and(|path| ["sh", "bash", "dash"].iter().any(|shell| path.ends_with(shell))) => {
                Elf::default()
            }
            None => return Ok(None),
        };
        let place = in_image(&real);
        self.file(&place, 0o755, bytes);
        // `awk` may be a link to a link to `mawk`: two names, one program.
        let folder = if found.parent().is_some_and(|dir| dir.ends_with("sbin")) { "usr/sbin" } else { "usr/bin" };
        self.link(&Path::new(folder).join(name), &place);
        Ok(Some(vec![(real, elf)]))
    }

    /// Busybox for what is still missing; even for the shell, on a host that has nothing else.
    fn busybox(&mut self) -> Result<Vec<(PathBuf, Elf)>> {
        let Some(taken) = self.program("busybox")? else { return Ok(Vec::new()) };
        let Some(bytes) = fs::read(&taken[0].0).ok() else { return Ok(taken) };
        let place = in_image(&taken[0].0);
        let wanted = host_programs::applets_of(&bytes).into_iter().map(str::to_string);
        let strings: HashSet<&[u8]> = bytes.split(|&b| b == 0).collect();
        let usual = self.missing.iter().filter(|name| strings.contains(name.as_bytes())).map(|name| name.to_string());
        for name in wanted.chain(usual).collect::<Vec<_>>() {
            let (bin, sbin) = (Path::new("usr/bin").join(&name), Path::new("usr/sbin").join(&name));
            if !self.nodes.contains_key(&bin) && !self.nodes.contains_key(&sbin) {
                self.link(&bin, &place);
            }
        }
        self.missing = std::mem::take(&mut self.missing).into_iter().filter(|name| !self.has(&format!("usr/bin/{name}"))).collect();
        Ok(taken)
    }

    /// The libraries of the programs, the libraries of those, and so on; and the linkers that load them.
    fn libraries(&mut self, programs: Vec<(PathBuf, Elf)>) -> Result<()> {
        let host = Libraries::of_this_host();
        let mut system_dir = None;
        let mut seen = HashSet::new();
        let mut waiting: Vec<(Elf, Vec<PathBuf>)> = Vec::new();
        for (_, elf) in programs {
            waiting.push((elf, Vec::new()));
        }
        // Loaded by name at run time, so nobody's DT_NEEDED says so: users and host names before glibc 2.34, and thread cancellation.
        let by_name = ["libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"].map(str::to_string);
        waiting.insert(0, (Elf { needed: by_name.to_vec(), ..Elf::default() }, Vec::new()));
        while let Some((elf, inherited)) = waiting.pop() {
            if let Some(interpreter) = &elf.interpreter {
                self.host_file(interpreter, 0o755)?;
            }
            for name in &elf.needed {
                let Some(found) = host.find(name, &elf, &inherited) else { continue };
                let mut inherited = inherited.clone();
                inherited.extend(elf.rpath.iter().cloned());
                if !seen.insert((found.clone(), inherited.clone())) {
                    continue;
                }
                let (real, bytes) = self.host_file(&found, 0o644)?;
                if name.starts_with("libc.") {
                    system_dir = in_image(&found).parent().map(Path::to_path_buf);
                }
                waiting.extend(libraries::read(&real, &bytes).map(|elf| (elf, inherited)));
            }
        }
        self.make_findable(system_dir, seen.into_iter().map(|(found, _)| found).collect());
        Ok(())
    }

    /// The image has no `ld.so.cache`: what only the host's cache finds gets a name next to libc, where every linker looks.
    fn make_findable(&mut self, system_dir: Option<PathBuf>, mut found: Vec<PathBuf>) {
        let Some(system_dir) = system_dir else { return };
        // Sorted, because where two have one name the first wins.
        found.sort();
        for path in found {
            let place = in_image(&path);
            let in_store = ["nix", "gnu"].iter().any(|store| place.starts_with(store));
            if let (Some(name), false) = (place.file_name(), in_store) {
                self.link(&system_dir.join(name), &place);
            }
        }
    }

    /// A file of the host under all its names: the one that it is asked for by, and its own.
    fn host_file(&mut self, path: &Path, mode: u32) -> Result<(PathBuf, Vec<u8>)> {
        let doing = || format!("take {} into the image base", path.display());
        let real = path.canonicalize().doing(doing)?;
        let place = in_image(&real);
        let bytes = match self.nodes.get(&place).map(|node| &node.kind) {
            Some(Kind::File(bytes)) => bytes.clone(),
            _ => self.read(&real).doing(doing)?,
        };
        self.file(&place, mode, bytes.clone());
        self.link(&in_image(path), &place);
        Ok((real, bytes))
    }

    /// A file of the host, of whose time a note is taken.
    fn read(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        self.newest = self.newest.max(file.metadata()?.modified().ok());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn terminals(&mut self) {
        for name in TERMINALS {
            let entry = Path::new(&name[..1]).join(name);
            let places = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo", "/run/current-system/sw/share/terminfo"];
            let found = places.iter().find_map(|dir| self.read(&Path::new(dir).join(&entry)).ok());
            if let Some(bytes) = found {
                self.file(Path::new("usr/share/terminfo").join(entry), 0o644, bytes);
            }
        }
        // Where Debian's ncurses looks first.
        self.link(Path::new("usr/lib/terminfo"), Path::new("usr/share/terminfo"));
    }

    /// C.UTF-8, which knows Korean letters and no language. Upstream's glibc has it built in since 2.35; where it is a folder, all of
    /// it is needed: setlocale(3) takes the whole or nothing.
    fn locale(&mut self) {
        for name in ["C.utf8", "C.UTF-8"] {
            let dir = Path::new("/usr/lib/locale").join(name);
            for folder in [dir.clone(), dir.join("LC_MESSAGES")] {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    if let Ok(bytes) = self.read(&entry.path()) {
                        self.file(in_image(&entry.path()), 0o644, bytes);
                    }
                }
            }
        }
    }
}

/// The path that a file of the host has in the image: without the first slash, and below `usr` where hosts of old had it above.
fn in_image(path: &Path) -> PathBuf {
    let inner: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let is_moved = ["bin", "sbin", "lib", "lib64"].iter().any(|top| inner.starts_with(top));
    if is_moved { Path::new("usr").join(inner) } else { inner }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_places_are_below_usr_and_odd_ones_stay() {
        assert_eq!(in_image(Path::new("/bin/ls")), Path::new("usr/bin/ls"));
        assert_eq!(in_image(Path::new("/lib64/ld-linux-x86-64.so.2")), Path::new("usr/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(in_image(Path::new("/nix/store/x/bin/ls")), Path::new("nix/store/x/bin/ls"));
        assert_eq!(in_image(Path::new("/library/x")), Path::new("library/x"));
    }

    #[test]
    fn the_same_tree_is_the_same_bytes() {
        let mut bytes = [Vec::new(), Vec::new()];
        for bytes in &mut bytes {
            let mut tree = Tree { nodes: BTreeMap::new(), missing: Vec::new(), newest: None };
            tree.lay_out();
            tree.write(bytes).unwrap();
        }
        assert!(bytes[0] == bytes[1] && bytes[0].len() > 10_000);
    }
}
