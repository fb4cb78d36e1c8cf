//! Hostile and odd layers: whatever an archive says, nothing outside of its directory changes, and what it means is what overlay shows.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use onggi::error::{Class, Error};
use onggi::image::layers::{Unpacked, unpack};
use tar::{Builder, EntryType, Header};

/// `outside/` with a sentinel in it, and next to it `root/`, into which layers are unpacked.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("layers-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(path.join("outside")).unwrap();
        fs::create_dir_all(path.join("root")).unwrap();
        fs::write(path.join("outside/sentinel"), "untouched").unwrap();
        Place(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn outside(&self) -> String {
        self.0.join("outside").to_str().unwrap().to_string()
    }

    fn unpack(&self, layer: Layer) -> Result<Unpacked, Error> {
        let unpacked = unpack(&*layer.bytes(), &self.root(), &[]);
        assert_eq!(fs::read_to_string(self.0.join("outside/sentinel")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.0.join("outside")).unwrap().count(), 1, "something new is outside");
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 2, "something new is next to the root");
        unpacked
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.meta(path);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        let root = fs::File::open(self.root()).unwrap();
        let key = onggi::image::layers::opaque_attribute(onggi::image::layers::in_user_namespace());
        onggi::sys::xattr::value(std::os::fd::AsFd::as_fd(&root), Path::new(path), key).is_ok_and(|value| value == b"y")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An archive with names that no honest tool would write.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Layer {
        Layer(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, content: &[u8], change: impl FnOnce(&mut Header)) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        // The crate's own setters refuse `..` and `/`: the bytes are put there directly.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Layer {
        self.add(EntryType::Regular, name, "", content.as_bytes(), |_| {})
    }

    fn folder(self, name: &str) -> Layer {
        self.add(EntryType::Directory, name, "", b"", |header| header.set_mode(0o755))
    }

    fn symlink(self, name: &str, target: &str) -> Layer {
        self.add(EntryType::Symlink, name, target, b"", |_| {})
    }

    fn hard_link(self, name: &str, target: &str) -> Layer {
        self.add(EntryType::Link, name, target, b"", |_| {})
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn dots_that_lead_out_are_refused() {
    for name in ["../evil", "a/../../evil", "./../evil", "/../evil"] {
        let place = Place::new();
        let error = place.unpack(Layer::new().file(name, "evil")).unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{name}: {error}");
    }
}

#[test]
fn absolute_names_and_inner_dots_stay_inside() {
    let place = Place::new();
    place.unpack(Layer::new().file("/etc/x", "1").file("./a/./b/../c", "2").folder("./").folder("/")).unwrap();
    assert_eq!((place.read("etc/x"), place.read("a/c")), ("1".into(), "2".into()));
}

#[test]
fn a_link_to_outside_is_not_written_through() {
    let place = Place::new();
    let outside = place.outside();
    let layer = Layer::new().symlink("dir", &outside).file("dir/new", "x").symlink("file", &format!("{outside}/sentinel")).file("file", "mine");
    place.unpack(layer).unwrap();
    assert_eq!(place.read("file"), "mine");
    // The link was followed as the container would: inside its own root.
    assert_eq!(place.read(&format!("{}/new", outside.trim_start_matches('/'))), "x");
}

#[test]
fn a_link_with_dots_does_not_lead_out() {
    let place = Place::new();
    let layer = Layer::new().symlink("up", "../../outside").file("up/evil", "x").symlink("loop", "loop");
    place.unpack(layer).unwrap();
    assert_eq!(place.read("outside/evil"), "x");
    let error = Place::new().unpack(Layer::new().symlink("loop", "loop").file("loop/x", "x")).unwrap_err();
    assert!(error.to_string().contains("loop"), "{error}");
}

#[test]
fn modes_and_times_of_what_links_point_to_do_not_change() {
    let place = Place::new();
    let sentinel = format!("{}/sentinel", place.outside());
    let before = fs::metadata(&sentinel).unwrap();
    place
        .unpack(
            Layer::new()
                .symlink("l", &sentinel)
                .add(EntryType::Symlink, "m", &sentinel, b"", |h| h.set_mode(0o4777))
                .folder("l2")
                .symlink("l2/x", &sentinel),
        )
        .unwrap();
    let after = fs::metadata(&sentinel).unwrap();
    assert_eq!((before.mode(), before.mtime(), before.uid()), (after.mode(), after.mtime(), after.uid()));
}

#[test]
fn hard_links_find_only_files_of_their_own_layer() {
    let place = Place::new();
    place.unpack(Layer::new().file("a", "x").hard_link("b", "/a").hard_link("c/d", "./a").hard_link("a", "a")).unwrap();
    assert_eq!(place.meta("a").nlink(), 3);
    let outside = Place::new().outside();
    for target in ["/etc/passwd", "../outside/sentinel", "nothing", "", "dir"] {
        let place = Place::new();
        let error = place.unpack(Layer::new().folder("dir").hard_link("evil", target)).unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{target}: {error}");
    }
    let place = Place::new();
    let error = place.unpack(Layer::new().symlink("out", &outside).hard_link("evil", "out/sentinel")).unwrap_err();
    assert_eq!(error.class, Class::Invalid, "{error}");
}

#[test]
fn what_is_written_over_a_hard_link_leaves_the_other_name_alone() {
    let place = Place::new();
    place.unpack(Layer::new().file("a", "first").hard_link("b", "a").file("b", "second")).unwrap();
    assert_eq!((place.read("a"), place.read("b")), ("first".into(), "second".into()));
}

#[test]
fn of_two_entries_with_one_name_the_last_counts() {
    let place = Place::new();
    let layer = Layer::new()
        .file("x", "1")
        .file("x", "2")
        .folder("d")
        .file("d/in", "1")
        .file("d", "now a file")
        .symlink("l", "/etc")
        .folder("l")
        .file("l/f", "3");
    place.unpack(layer).unwrap();
    assert_eq!((place.read("x"), place.read("d"), place.read("l/f")), ("2".into(), "now a file".into(), "3".into()));
    assert!(place.meta("l").is_dir());
    let error = Place::new().unpack(Layer::new().file("f", "").file("f/below", "")).unwrap_err();
    assert_eq!(error.class, Class::Invalid, "{error}");
}

#[test]
fn device_nodes_are_made_by_root_and_left_out_in_a_user_namespace() {
    let place = Place::new();
    let layer = Layer::new()
        .add(EntryType::Char, "null", "", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            header.set_mode(0o666);
        })
        .add(EntryType::Fifo, "pipe", "", b"", |_| {});
    let unpacked = place.unpack(layer).unwrap();
    if onggi::image::layers::in_user_namespace() {
        assert_eq!(unpacked.devices_left_out, 1);
    } else {
        assert_eq!((place.meta("null").rdev(), place.meta("null").mode() & 0o777), (0x103, 0o666));
    }
    assert!(place.meta("pipe").file_type().is_fifo());
}

#[test]
fn whiteouts_become_overlays_own_marks() {
    let place = Place::new();
    let layer = Layer::new()
        .file(".wh.gone", "")
        .file("dir/.wh..wh..opq", "")
        .file("dir/new", "")
        .file(".wh.again", "")
        .folder("again")
        .file("again/x", "")
        .file("kept", "1")
        .file(".wh.kept", "")
        .folder("first")
        .file(".wh.first", "")
        .file(".wh.parent", "")
        .file("parent/child", "")
        .file(".wh..wh.plnk", "");
    place.unpack(layer).unwrap();
    assert!(place.is_whiteout("gone"));
    assert!(place.is_opaque("dir") && place.meta("dir/new").is_file());
    // Deleted and made again: what was below stays deleted.
    assert!(place.is_opaque("again") && place.is_opaque("first") && place.is_opaque("parent"));
    assert_eq!(place.read("kept"), "1");
    assert!(!place.root().join(".wh..wh.plnk").exists());
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        assert_eq!(Place::new().unpack(Layer::new().file(name, "")).unwrap_err().class, Class::Invalid, "{name}");
    }
}

#[test]
fn an_archive_that_is_cut_off_is_refused() {
    let whole = Layer::new().file("a", &"x".repeat(5000)).file("b", "y").bytes();
    for length in [100, 512, 700, 3000, 5500] {
        let place = Place::new();
        let error = unpack(&whole[..length], &place.root(), &[]).unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{length}: {error}");
    }
    let place = Place::new();
    assert_eq!(
        unpack(&b"this is no archive at all, but long enough to be looked at as if it were one. ".repeat(20)[..], &place.root(), &[])
            .unwrap_err()
            .class,
        Class::Invalid
    );
    assert_eq!(unpack(&b""[..], &place.root(), &[]).unwrap().entries, 0);
}

#[test]
fn the_diff_id_counts_what_follows_the_end_too() {
    let mut bytes = Layer::new().file("a", "x").bytes();
    bytes.extend([0u8; 4096]);
    let place = Place::new();
    let unpacked = unpack(&*bytes, &place.root(), &[]).unwrap();
    assert_eq!(unpacked.diff_id.0, onggi::image::digest::Digest::of(&bytes));
    assert_eq!((unpacked.size, unpacked.entries), (bytes.len() as u64, 1));
}

#[test]
fn modes_owners_times_and_attributes_are_kept() {
    let place = Place::new();
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut layer =
        Layer::new().add(EntryType::Directory, "d", "", b"", |h| h.set_mode(0o2775)).file("d/in", "").add(EntryType::Regular, "f", "", b"x", |h| {
            h.set_mode(0o4755);
            h.set_uid(1234);
            h.set_gid(5678);
        });
    let attributes: [(&str, &[u8]); 3] =
        [("SCHILY.xattr.user.note", b"hello"), ("SCHILY.xattr.user.overlay.redirect", b"/etc"), ("mtime", b"1000000000.5")];
    layer.0.append_pax_extensions(attributes).unwrap();
    let unpacked = place.unpack(layer.file("x", "").file("implied/deep/file", "")).unwrap();
    nix::sys::stat::umask(old);
    assert_eq!((place.meta("d").mode() & 0o7777, place.meta("d").mtime()), (0o2775, 1_000_000_000));
    assert_eq!((place.meta("f").mode() & 0o7777, place.meta("f").mtime()), (0o4755, 1_000_000_000));
    assert_eq!(place.meta("implied/deep").permissions().mode() & 0o7777, 0o755);
    if unpacked.owners_unmapped == 0 {
        assert_eq!((place.meta("f").uid(), place.meta("f").gid()), (1234, 5678));
    }
    assert_eq!(place.meta("x").mtime_nsec(), 500_000_000);
    let root = fs::File::open(place.root()).unwrap();
    let names = onggi::sys::xattr::names(std::os::fd::AsFd::as_fd(&root), Path::new("x")).unwrap_or_default();
    assert!(!names.iter().any(|name| name.contains("overlay")), "{names:?}");
}

#[test]
fn a_folder_that_is_only_implied_looks_as_it_does_below() {
    let (lower, upper) = (Place::new(), Place::new());
    lower.unpack(Layer::new().add(EntryType::Directory, "tmp", "", b"", |h| h.set_mode(0o1777))).unwrap();
    unpack(&*Layer::new().file("tmp/x", "").bytes(), &upper.root(), &[lower.root()]).unwrap();
    assert_eq!(upper.meta("tmp").mode() & 0o7777, 0o1777);
}

#[test]
fn ten_thousand_files_are_unpacked_in_a_moment() {
    let mut layer = Layer::new();
    for n in 0..10_000 {
        layer = layer.file(&format!("d{}/f{n}", n % 100), "x");
    }
    let bytes = layer.bytes();
    let place = Place::new();
    let began = std::time::Instant::now();
    assert_eq!(unpack(&*bytes, &place.root(), &[]).unwrap().entries, 10_000);
    println!("10 000 files in {:?}", began.elapsed());
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 100);
}
