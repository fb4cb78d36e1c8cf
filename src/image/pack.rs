//! A directory, packed as a tar archive: what a container changed as a layer, or all that it sees.
//!
//! The other way round of [`super::layers`]. Overlay says deletions by means of its own, which an archive says by names:
//!
//! ```text
//! in the upper directory                         in the archive       it means
//! NAME, a character device 0:0                   .wh.NAME             NAME of the layers below is gone
//! xattr trusted.overlay.opaque=y on DIR          DIR/.wh..wh..opq     all that the layers below have in DIR is gone
//! ```
//! The tree is walked by descriptors: no link is followed and no name is looked up twice, so that what runs in it meanwhile can send us
//! nowhere else. Sorted by name, with nothing of this machine but owners and times: the same tree gives the same bytes.
//!
//! See it: `tar tvf LAYER --full-time --xattrs`. Read: tar(5), openat2(2), the kernel's filesystems/overlayfs.rst.
//! Source: OCI image specification, layer.md.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::layer_entry::may_travel;
use super::layers::is_whiteout;
use super::tar_header::{self, Header, Kind};
use crate::error::{Class, Doing, Error, Result};
use crate::sys::{path, xattr};

/// Writes what overlay keeps in `upper` as a layer.
///
/// # Errors
/// Unsupported for a file whose name begins with `.wh.`, which a layer can only say of deletions; EACCES, and those of `out`.
pub fn layer(upper: &Path, out: impl Write) -> Result<()> {
    layer_without(upper, &[], out)
}

/// The same without the files and folders of these names, as long as they are empty: places that were made only to mount on them.
///
/// # Errors
/// As [`layer`].
pub fn layer_without(upper: &Path, places: &[&str], out: impl Write) -> Result<()> {
    let root = path::open_root(upper).doing(|| format!("open {}", upper.display()))?;
    let mut packing = Packing::new(out, true);
    packing.left_out = places.iter().map(|place| place.as_bytes().to_vec()).collect();
    packing.folder(root.as_fd(), root.as_fd(), OsStr::new("."), b"./")?;
    packing.end()
}

/// An archive of nothing.
///
/// # Errors
/// Those of `out`.
pub fn empty(out: impl Write) -> Result<()> {
    Packing::new(out, true).end()
}

/// Writes all that is below `root`, sockets left out.
///
/// # Errors
/// EACCES, and those of `out`.
pub fn tree(root: BorrowedFd, out: impl Write) -> Result<()> {
    let mut packing = Packing::new(out, false);
    packing.folder(root, root, OsStr::new("."), b"./")?;
    packing.end()
}

/// Writes what is called `name` in `folder`, with all that is below it, under the name `called`.
///
/// # Errors
/// NotFound; EACCES, and those of `out`.
pub fn one(folder: BorrowedFd, name: &OsStr, called: &OsStr, out: impl Write) -> Result<()> {
    let mut packing = Packing::new(out, false);
    packing.entry(folder, name, called.as_bytes())?;
    packing.end()
}

struct Packing<W> {
    out: W,
    is_layer: bool,
    /// Inodes with more than one name, and the first of them.
    linked: HashMap<(u64, u64), Vec<u8>>,
    left_out: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packing<W> {
    fn new(out: W, is_layer: bool) -> Packing<W> {
        Packing { out, is_layer, linked: HashMap::new(), left_out: Vec::new(), buffer: vec![0u8; 256 << 10] }
    }

    fn end(mut self) -> Result<()> {
        tar_header::end(&mut self.out).doing(|| "write the archive".into())
    }

    /// A folder's own entry, and then what is in it. `name` is what it is called in `parent`; `path` is its name in the archive.
    fn folder(&mut self, folder: BorrowedFd, parent: BorrowedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let stat = path::stat(folder).doing(|| doing(path))?;
        let opaque = self.is_layer && is_opaque(parent, name);
        self.write(&self.header(Kind::Folder, path, &stat, parent, name)?)?;
        let inside = if path == b"./" { &b""[..] } else { path };
        if opaque {
            self.mark(&[inside, b".wh..wh..opq"].concat())?;
        }
        if crate::sys::mount::is_the_kernels(folder) {
            return Ok(());
        }
        for name in names(folder).doing(|| doing(path))? {
            self.entry(folder, &name, &[inside, name.as_bytes()].concat())?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: BorrowedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let beneath = path::RESOLVE_BENEATH | path::RESOLVE_NO_SYMLINKS;
        let found = match path::openat2(folder, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0, beneath) {
            // Removed since its name was read, by what runs in there.
            Err(e) if e.errno() == Errno::ENOENT && path.contains(&b'/') => return Ok(()),
            Err(e) if e.errno() == Errno::ENOENT => return Err(Error::sys(doing(path), e).class(Class::NotFound)),
            found => found.doing(|| doing(path))?,
        };
        let stat = path::stat(found.as_fd()).doing(|| doing(path))?;
        if self.left_out.iter().any(|place| place == path) && is_empty(found.as_fd(), &stat) {
            return Ok(());
        }
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => return self.folder(found.as_fd(), folder, name, &[path, b"/"].concat()),
            libc::S_IFCHR if self.is_layer && is_whiteout(&stat) => return self.whiteout(name, path),
            // A socket is nothing without the process that listens.
            libc::S_IFSOCK => return Ok(()),
            libc::S_IFREG => Kind::File,
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFCHR => Kind::CharDevice,
            libc::S_IFBLK => Kind::BlockDevice,
            _ => Kind::Fifo,
        };
        if self.is_layer && name.as_bytes().starts_with(b".wh.") {
            let why = "in a layer, a name that begins with .wh. means that the rest of it was deleted";
            return Err(Error::new(Class::Unsupported, doing(path), why).hint("rename or remove the file"));
        }
        let mut header = self.header(kind, path, &stat, folder, name)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                header.link = first.clone();
                (header.kind, header.size, header.xattrs) = (Kind::HardLink, 0, Vec::new());
                return self.write(&header);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::File => self.file(&header, &found),
            Kind::Symlink => {
                header.link = nix::fcntl::readlinkat(&found, "").doing(|| doing(path))?.into_vec();
                self.write(&header)
            }
            _ => self.write(&header),
        }
    }

    fn file(&mut self, header: &Header, found: &OwnedFd) -> Result<()> {
        // The very inode that was looked at, opened again for reading; O_NONBLOCK because that is never a reason to wait.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let name = format!("/proc/self/fd/{}", found.as_raw_fd());
        let mut file = File::from(nix::fcntl::open(name.as_str(), flags, Mode::empty()).doing(|| doing(&header.name))?);
        self.write(header)?;
        let mut left = header.size;
        while left > 0 {
            let room = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut count = match file.read(&mut self.buffer[..room]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.doing(|| doing(&header.name))?,
            };
            if count == 0 {
                // Cut off while it was read. Its size is written already: the rest is zeros, as GNU tar does it.
                self.buffer[..room].fill(0);
                count = room;
            }
            self.out.write_all(&self.buffer[..count]).doing(|| "write the archive".into())?;
            left -= count as u64;
        }
        tar_header::pad(&mut self.out, header.size).doing(|| "write the archive".into())
    }

    fn header(&self, kind: Kind, path: &[u8], stat: &libc::stat, folder: BorrowedFd, name: &OsStr) -> Result<Header> {
        let device = if matches!(kind, Kind::CharDevice | Kind::BlockDevice) { stat.st_rdev } else { 0 };
        Ok(Header {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if kind == Kind::File { stat.st_size as u64 } else { 0 },
            time: (stat.st_mtime, stat.st_mtime_nsec as u32),
            device: (libc::major(device), libc::minor(device)),
            xattrs: xattrs(folder, name).doing(|| doing(path))?,
            ..Header::new(kind, path)
        })
    }

    fn whiteout(&mut self, name: &OsStr, path: &[u8]) -> Result<()> {
        let folder = &path[..path.len() - name.len()];
        self.mark(&[folder, b".wh.", name.as_bytes()].concat())
    }

    /// An empty file whose name is all that it says. The time of overlay's own mark is of no meaning.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        self.write(&Header { mode: 0, ..Header::new(Kind::File, path) })
    }

    fn write(&mut self, header: &Header) -> Result<()> {
        header.write(&mut self.out).doing(|| "write the archive".into())
    }
}

fn doing(path: &[u8]) -> String {
    format!("pack {}", String::from_utf8_lossy(path))
}

/// What is in a folder, sorted.
///
/// # Errors
/// EACCES.
pub fn names(folder: BorrowedFd) -> nix::Result<Vec<OsString>> {
    let mut entries = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_os_string());
        }
    }
    names.sort();
    Ok(names)
}

fn is_empty(found: BorrowedFd, stat: &libc::stat) -> bool {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => stat.st_size == 0,
        libc::S_IFDIR => names(found).is_ok_and(|names| names.is_empty()),
        _ => false,
    }
}

fn is_opaque(folder: BorrowedFd, name: &OsStr) -> bool {
    let is = |key: &str| xattr::value(folder, Path::new(name), key).is_ok_and(|value| value == b"y");
    is("trusted.overlay.opaque") || is("user.overlay.opaque")
}

fn xattrs(folder: BorrowedFd, name: &OsStr) -> crate::sys::SysResult<Vec<(String, Vec<u8>)>> {
    let gone = |errno: Errno| matches!(errno, Errno::ENOTSUP | Errno::ENODATA | Errno::ENOENT);
    let keys = match xattr::names(folder, Path::new(name)) {
        Err(e) if gone(e.errno()) => return Ok(Vec::new()),
        keys => keys?,
    };
    let mut all = Vec::new();
    for key in keys.into_iter().filter(|key| may_travel(key)) {
        match xattr::value(folder, Path::new(name), &key) {
            Err(e) if gone(e.errno()) => {}
            value => all.push((key, value?)),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    use super::*;
    use crate::image::layers;
    use crate::image::testing::Folder;

    fn pack(dir: &Path, is_layer: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if is_layer {
            layer(dir, &mut bytes).unwrap()
        } else {
            tree(path::open_root(dir).unwrap().as_fd(), &mut bytes).unwrap()
        }
        bytes
    }

    fn fill(root: &Path) {
        fs::create_dir_all(root.join("dir/deep")).unwrap();
        fs::write(root.join("dir/file"), vec![7u8; 100_000]).unwrap();
        fs::hard_link(root.join("dir/file"), root.join("dir/deep/second")).unwrap();
        fs::write(root.join(format!("long-{}", "x".repeat(200))), "x").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"new\nline \xff and \xed\x95\x9c")), "").unwrap();
        std::os::unix::fs::symlink("y".repeat(300), root.join("link")).unwrap();
        fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o2751)).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let folder = path::open_root(root).unwrap();
        xattr::set(folder.as_fd(), Path::new("dir"), "user.note", b"two\nlines\0and a zero").unwrap();
    }

    #[test]
    fn what_is_packed_and_unpacked_is_packed_again_the_same() {
        let (one, two) = (Folder::new(), Folder::new());
        fill(one.path());
        let bytes = pack(one.path(), true);
        layers::unpack(&*bytes, two.path(), &[]).unwrap();
        assert!(pack(two.path(), true) == bytes && pack(two.path(), false) == bytes);
        assert!(fs::symlink_metadata(two.path().join("pipe")).unwrap().file_type().is_fifo());
        assert!(!two.path().join("socket").exists());
        assert_eq!(fs::metadata(two.path().join("dir/file")).unwrap().nlink(), 2);
    }

    #[test]
    fn overlays_marks_leave_as_names_and_never_as_attributes() {
        let (upper, again) = (Folder::new(), Folder::new());
        let folder = path::open_root(upper.path()).unwrap();
        fs::create_dir(upper.path().join("hides")).unwrap();
        xattr::set(folder.as_fd(), Path::new("hides"), layers::opaque_attribute(layers::in_user_namespace()), b"y").unwrap();
        path::mknodat(&folder, Path::new("gone"), libc::S_IFCHR, 0).unwrap();
        let bytes = pack(upper.path(), true);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(".wh.gone") && text.contains("hides/.wh..wh..opq") && !text.contains("overlay"), "{text}");
        layers::unpack(&*bytes, again.path(), &[]).unwrap();
        assert_eq!(pack(again.path(), true), bytes);
    }

    #[test]
    fn a_file_that_looks_like_a_deletion_is_refused_in_a_layer_and_kept_in_a_tree() {
        let upper = Folder::new();
        fs::write(upper.path().join(".wh.passwd"), "").unwrap();
        let error = layer(upper.path(), std::io::sink()).unwrap_err();
        assert!(error.class == Class::Unsupported && error.to_string().contains(".wh."), "{error}");
        pack(upper.path(), false);
    }

    #[test]
    fn one_file_or_folder_goes_under_another_name() {
        let root = Folder::new();
        fill(root.path());
        let folder = path::open_root(root.path()).unwrap();
        let mut bytes = Vec::new();
        one(folder.as_fd(), OsStr::new("dir"), OsStr::new("copy"), &mut bytes).unwrap();
        let target = Folder::new();
        layers::unpack(&*bytes, target.path(), &[]).unwrap();
        assert_eq!(fs::metadata(target.path().join("copy/deep/second")).unwrap().len(), 100_000);
        assert_eq!(one(folder.as_fd(), OsStr::new("missing"), OsStr::new("x"), std::io::sink()).unwrap_err().class, Class::NotFound);
    }
}
