//! Packs files of this machine into an initramfs: the archive that the kernel unpacks into its first root filesystem.
//!
//! See it: `cpio -itv < initramfs`. Read: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst (the `newc`
//! format, written by hand here), ramfs-rootfs-initramfs.rst.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// A root filesystem to be. All of it belongs to root.
pub struct Initramfs {
    // Sorted by path: a folder comes before what is in it, as the kernel demands.
    entries: BTreeMap<PathBuf, Entry>,
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    HostFile(PathBuf),
}

impl Initramfs {
    /// Only the folders that every Linux has, with `/bin`, `/sbin`, `/lib` and `/lib64` as links into `/usr`, and a console.
    pub fn with_folders() -> Initramfs {
        let mut root = Initramfs { entries: BTreeMap::new() };
        for folder in ["bin", "sbin", "lib", "lib64"] {
            root.add_folder(&Path::new("/usr").join(folder));
            root.add_symlink(&Path::new("/").join(folder), &format!("usr/{folder}"));
        }
        root.add_folder(Path::new("/dev"));
        // The kernel opens it for PID 1's first three descriptors.
        root.insert(Path::new("/dev/console"), CHARACTER_DEVICE | 0o600, Content::Bytes(Vec::new()), (5, 1));
        root
    }

    pub fn add_folder(&mut self, path: &Path) {
        self.insert(path, DIRECTORY | 0o755, Content::Bytes(Vec::new()), (0, 0));
    }

    pub fn add_symlink(&mut self, path: &Path, target: &str) {
        self.insert(path, SYMLINK | 0o777, Content::Bytes(target.into()), (0, 0));
    }

    pub fn add_text(&mut self, path: &str, mode: u32, text: &str) {
        self.insert(Path::new(path), FILE | mode, Content::Bytes(text.into()), (0, 0));
    }

    /// Adds a file or folder of this machine under its own path; a program brings its shared libraries.
    pub fn add_from_host(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            self.add_folder(path);
            for entry in fs::read_dir(path)? {
                self.add_from_host(&entry?.path())?;
            }
            return Ok(());
        }
        self.add_host_file_as(path, path)?;
        if is_program(path, metadata.permissions().mode()) {
            for library in shared_libraries(path)? {
                self.add_host_file_as(&library, &library)?;
            }
        }
        Ok(())
    }

    /// Adds the content of a file of this machine under another path, with the mode that it has here, setuid bit included.
    pub fn add_host_file_as(&mut self, source: &Path, path: &Path) -> io::Result<()> {
        let mode = fs::metadata(source)?.permissions().mode() & 0o7777;
        self.insert(path, FILE | mode, Content::HostFile(source.to_path_buf()), (0, 0));
        Ok(())
    }

    /// Adds busybox, and its own name for each of its programs that isn't there yet: the real `ip` wins over busybox's.
    pub fn add_busybox(&mut self, busybox: &Path) -> io::Result<()> {
        self.add_host_file_as(busybox, Path::new("/usr/bin/busybox"))?;
        let present: BTreeSet<_> = self.entries.keys().filter_map(|path| path.file_name().map(|name| name.to_owned())).collect();
        let list = Command::new(busybox).arg("--list-full").output()?;
        for applet in String::from_utf8_lossy(&list.stdout).lines() {
            let path = Path::new("/").join(applet);
            if path.file_name().is_some_and(|name| !present.contains(name)) {
                self.add_symlink(&path, "/usr/bin/busybox");
            }
        }
        Ok(())
    }

    /// Writes the archive, and answers how many bytes it has.
    pub fn write(&self, archive: &Path) -> io::Result<u64> {
        let mut out = BufWriter::new(fs::File::create(archive)?);
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
            let content = match &entry.content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::HostFile(source) => without_debug_info(source, &archive.with_extension("stripped"))?,
            };
            write_entry(&mut out, number + 1, &name, entry.mode, entry.device, &content)?;
        }
        write_entry(&mut out, 0, "TRAILER!!!", 0, (0, 0), &[])?;
        out.flush()?;
        Ok(fs::metadata(archive)?.len())
    }

    fn insert(&mut self, path: &Path, mode: u32, content: Content, device: (u32, u32)) {
        let path = under_usr(path);
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            let content = Content::Bytes(Vec::new());
            self.entries.entry(folder.to_path_buf()).or_insert(Entry { mode: DIRECTORY | 0o755, device: (0, 0), content });
        }
        self.entries.insert(path, Entry { mode, device, content });
    }
}

/// `/lib/x` is `/usr/lib/x`: the links of the root would otherwise be folders.
fn under_usr(path: &Path) -> PathBuf {
    let mut parts = path.components().skip(1).peekable();
    let merged = matches!(parts.peek(), Some(Component::Normal(first)) if ["bin", "sbin", "lib", "lib64"].iter().any(|name| first == name));
    let is_link_itself = path.components().count() == 2;
    if merged && !is_link_itself { Path::new("/usr").join(parts.collect::<PathBuf>()) } else { path.to_path_buf() }
}

fn is_program(path: &Path, mode: u32) -> bool {
    let mut magic = [0; 4];
    mode & 0o111 != 0 && fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut magic)).is_ok() && &magic == b"\x7fELF"
}

/// What ldd(1) says: the shared libraries of a program, and the loader of them all. None for a static one.
fn shared_libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output()?.stdout;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`
    Ok(String::from_utf8_lossy(&said).split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// The bytes of a file; of a program without what only a debugger reads, two thirds of one that cargo built. A library keeps it:
/// Debian's have none.
fn without_debug_info(file: &Path, scratch: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    if !bytes.starts_with(b"\x7fELF") || file.extension().is_some() {
        return Ok(bytes);
    }
    let done = Command::new("strip").arg("--strip-debug").arg("-o").arg(scratch).arg(file).status();
    if done.is_ok_and(|status| status.success()) { fs::read(scratch) } else { Ok(bytes) }
}

/// One entry of a `newc` archive: thirteen numbers in hexadecimal, the name, the content; both padded to four bytes.
fn write_entry(out: &mut impl Write, number: usize, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
    let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
    let (owner, group, changed, (major, minor), check) = (0, 0, 0, (0, 0), 0);
    let numbers =
        [number as u32, mode, owner, group, links, changed, content.len() as u32, major, minor, device.0, device.1, name.len() as u32 + 1, check];
    let header: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
    let head = format!("070701{header}{name}\0");
    out.write_all(head.as_bytes())?;
    out.write_all(&[0; 3][..padding(head.len())])?;
    out.write_all(content)?;
    out.write_all(&[0; 3][..padding(content.len())])
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}
