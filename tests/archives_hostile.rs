//! A thousand hostile archives, each made from a number: whatever they say, nothing outside of the store changes, and what is refused leaves
//! nothing in it.
//!
//! `ONGGI_SEED=N` tries one of them alone.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use onggi::image::create::{New, create};
use onggi::image::digest::Digest;
use onggi::image::store::Store;
use onggi::image::{list, load, remove};
use tar::{EntryType, Header};

/// Numbers that look random, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }
}

/// `outside/` with a sentinel, and next to it the store.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hostile-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(path.join("outside")).unwrap();
        fs::write(path.join("outside/sentinel"), "untouched").unwrap();
        Place(path)
    }

    fn outside(&self) -> String {
        self.0.join("outside").display().to_string()
    }

    #[track_caller]
    fn is_untouched(&self, seed: u64) {
        use std::os::unix::fs::MetadataExt;
        let sentinel = self.0.join("outside/sentinel");
        let meta = fs::symlink_metadata(&sentinel).unwrap();
        assert_eq!(fs::read_to_string(&sentinel).unwrap(), "untouched", "seed {seed}");
        assert_eq!((meta.nlink(), meta.mode() & 0o7777, meta.uid()), (1, 0o644, 0), "seed {seed}");
        assert_eq!(fs::read_dir(self.0.join("outside")).unwrap().count(), 1, "seed {seed}: something new is outside");
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 2, "seed {seed}: something new is next to the store");
        assert!(!Path::new("/onggi-evil").exists() && !Path::new("/etc/onggi-evil").exists(), "seed {seed}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn content(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["images/blobs/sha256", "snapshots", "tmp"] {
        let entries = fs::read_dir(store.root().join(folder)).unwrap().flatten();
        all.extend(entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())).filter(|name| !name.ends_with("lock")));
    }
    all.sort();
    all
}

/// Appends an entry that no honest tool would write.
fn entry(dice: &mut Dice, archive: &mut Vec<u8>, outside: &str) {
    let far = format!("{outside}/sentinel");
    let up = "../".repeat(dice.roll(12) as usize + 1);
    let long = "x/".repeat(dice.roll(3000) as usize);
    let names = [
        "a",
        "a/b",
        "a/b/c",
        "./a",
        "/a",
        "//a//b",
        "a/../b",
        "..",
        ".",
        "",
        "/",
        "a/..",
        "new\nline",
        "\u{fffd}\u{1b}[31m",
        "-rf",
        ".wh.a",
        "a/.wh.b",
        "a/.wh..wh..opq",
        ".wh.",
        ".wh..",
        ".wh...",
        "../onggi-evil",
        "/onggi-evil",
        "/etc/onggi-evil",
        "a/../../onggi-evil",
        "index.json",
        "manifest.json",
        "blobs/sha256/a",
        "oci-layout",
        "link",
        "link/x",
        "link/sentinel",
        "a/link/../../x",
        "etc/passwd",
        "proc/self/root/onggi-evil",
        &far,
        &up,
        &long,
    ];
    let targets = ["a", "/etc/passwd", "/", "..", ".", "", "link", "/proc/self/root", "../../../../../../etc", outside, &far, &up];
    let kinds =
        [b'0', b'0', b'0', b'1', b'1', b'2', b'2', b'2', b'3', b'4', b'5', b'5', b'6', b'7', b'S', b'L', b'K', b'x', b'g', b'V', b'M', 0, 0xff];
    let mut kind = if dice.roll(3) == 0 { *dice.one(&kinds) } else { *dice.one(b"000022225567") };
    let plain = ["a", "a/b", "link", "link/x", "link/sentinel", "d", "d/link/up", "f", ".wh.a"];
    let name = if dice.roll(6) == 0 { *dice.one(&names) } else { *dice.one(&plain) };
    let target = *dice.one(&targets);
    let mut body = match dice.roll(4) {
        0 => Vec::new(),
        1 => vec![b'z'; dice.roll(3000) as usize],
        2 => name.to_string().into_bytes(),
        _ => b"{}".to_vec(),
    };
    if dice.roll(12) == 0 {
        // Names that don't fit into the header, and records that lie.
        kind = b'x';
        let records = [
            format!("path={name}"),
            format!("linkpath={target}"),
            "size=99999999999999".into(),
            "size=-1".into(),
            "uid=99999999999".into(),
            "mtime=1e99".into(),
            "SCHILY.xattr.trusted.overlay.redirect=/etc".into(),
            "SCHILY.xattr.user.x=\n\n\n".into(),
            "GNU.sparse.major=1".into(),
            "GNU.sparse.map=5,5,1,1".into(),
            "GNU.sparse.realsize=9223372036854775807".into(),
            format!("GNU.sparse.name={name}"),
            "path=a\0b".into(),
        ];
        body.clear();
        for _ in 0..dice.roll(3) {
            let record = dice.one(&records).clone();
            let length = record.len() + 4 + (record.len() + 4).to_string().len() - 2;
            let length = length as u64 + if dice.roll(8) == 0 { dice.roll(100) } else { 0 };
            body.extend(format!("{length} {record}\n").bytes());
        }
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(*dice.one(&[0o644, 0o4777, 0, 0o7777]));
    header.set_uid(if dice.roll(60) == 0 { *dice.one(&[u64::from(u32::MAX), 1 << 40]) } else { 1000 });
    header.set_gid(0);
    header.set_mtime(*dice.one(&[0, 1_000_000_000, u64::MAX >> 1, 1 << 35]));
    header.set_size(if dice.roll(60) == 0 { *dice.one(&[1 << 62, u64::MAX, 7, 1 << 33]) } else { body.len() as u64 });
    let gnu = header.as_gnu_mut().unwrap();
    let put = |field: &mut [u8], text: &str| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    };
    put(&mut gnu.name, name);
    put(&mut gnu.linkname, target);
    if [b'3', b'4'].contains(&kind) {
        header.set_device_major(dice.roll(300) as u32).unwrap();
        header.set_device_minor(dice.roll(3) as u32).unwrap();
    }
    header.set_cksum();
    if dice.roll(150) == 0 {
        header.as_mut_bytes()[dice.roll(512) as usize] ^= 0x55;
    }
    archive.extend(header.as_bytes());
    archive.extend(&body);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn hostile(dice: &mut Dice, outside: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    let most = *dice.one(&[2, 4, 12]);
    for _ in 0..=dice.roll(most) {
        entry(dice, &mut archive, outside);
    }
    match dice.roll(8) {
        0 => archive.truncate(dice.roll(archive.len() as u64 + 1) as usize),
        1 => archive.extend(b"garbage after the end"),
        2 => {}
        _ => archive.extend([0u8; 1024]),
    }
    if dice.roll(4) == 0 {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&archive).unwrap();
        archive = packed.finish().unwrap();
        match dice.roll(4) {
            0 => archive.truncate(archive.len() / 2),
            1 => archive.extend(b"garbage"),
            _ => {}
        }
    }
    archive
}

/// An archive of `docker save` around a hostile layer, with lies of its own.
fn around(dice: &mut Dice, layer: &[u8], outside: &str) -> Vec<u8> {
    let diff = Digest::of(if dice.roll(5) == 0 { b"another" } else { layer });
    let config = format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#);
    let layer_name = *dice.one(&[
        "layer.tar",
        "layer.tar",
        "layer.tar",
        "layer.tar",
        "link",
        "link",
        "a/layer.tar",
        "../layer.tar",
        "link",
        "loop",
        "missing",
        outside,
        "config.json",
    ]);
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["evil:1"],"Layers":["{layer_name}"]}}]"#);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{}","size":1}}]}}"#, Digest::of(layer));
    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |kind: u8, name: &str, link: &str, body: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, body).unwrap();
    };
    put(b'0', "config.json", "", config.as_bytes());
    put(b'0', "layer.tar", "", layer);
    let target = *dice.one(&["../layer.tar", "/etc/passwd", "../../../../etc/passwd", outside]);
    put(b'2', "a/layer.tar", target, b"");
    put(b'2', "link", "layer.tar", b"");
    put(b'2', "loop", "loop", b"");
    if dice.roll(6) == 0 {
        put(b'0', "index.json", "", index.as_bytes());
    }
    if dice.roll(10) == 0 {
        put(*dice.one(b"3456"), "odd", "", b"");
    }
    put(b'0', "manifest.json", "", manifest.as_bytes());
    archive.into_inner().unwrap()
}

#[test]
fn a_thousand_hostile_archives_change_nothing_outside_of_the_store() {
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("what root may do is what matters here, and this is not root");
        return;
    }
    let place = Place::new();
    let outside = place.outside();
    let store = Store::open(&place.0.join("store")).unwrap();
    let empty = content(&store);
    let seeds: std::ops::Range<u64> = match std::env::var("ONGGI_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..1001,
    };
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let layer = hostile(&mut dice, &outside);
        let done = match dice.roll(4) {
            0 => load::archive(&store, &*layer, &|| Ok(Vec::new())).map(|_| ()),
            1 => create(&store, &New::default(), &|| Ok(Vec::new()), |out| {
                out.write_all(&layer).unwrap();
                Ok(())
            })
            .map(|_| ()),
            _ => load::archive(&store, &*around(&mut dice, &layer, &outside), &|| Ok(Vec::new())).map(|_| ()),
        };
        place.is_untouched(seed);
        *counts.entry(if done.is_ok() { "taken" } else { "refused" }).or_default() += 1;
        if done.is_ok() {
            for image in list::all(&store).unwrap() {
                remove::remove(&store, image.id.as_str(), true, false, &|| Ok(Vec::new())).unwrap();
            }
        }
        assert_eq!(content(&store), empty, "seed {seed}: {done:?}");
    }
    place.is_untouched(0);
    support::say(&format!("hostile archives: {counts:?}"));
}

#[test]
fn in_a_folder_links_to_outside_are_not_followed() {
    let place = Place::new();
    let store = Store::open(&place.0.join("store")).unwrap();
    let empty = content(&store);
    let secret = place.0.join("outside/sentinel");
    let layout = place.0.join("store/layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let digest = Digest::of(b"untouched");
    std::os::unix::fs::symlink(&secret, layout.join("blobs/sha256").join(digest.hex())).unwrap();
    fs::write(
        layout.join("index.json"),
        format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":9}}]}}"#),
    )
    .unwrap();
    let error = load::folder(&store, &layout, &|| Ok(Vec::new())).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    fs::remove_file(layout.join("index.json")).unwrap();
    nix::unistd::mkfifo(&layout.join("index.json"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(load::folder(&store, &layout, &|| Ok(Vec::new())).is_err());
    fs::remove_dir_all(&layout).unwrap();
    assert_eq!(content(&store), empty);
}

#[test]
fn a_hundred_thousand_entries_are_a_layer_like_any_other() {
    let place = Place::new();
    let store = Store::open(&place.0.join("store")).unwrap();
    let began = std::time::Instant::now();
    let write = |out: &mut dyn Write| {
        let mut archive = tar::Builder::new(std::io::BufWriter::new(out));
        for number in 0..100_000 {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_size(0);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("d{}/f{number}", number % 100), std::io::empty()).unwrap();
        }
        archive.into_inner().unwrap().flush().unwrap();
        Ok(())
    };
    create(&store, &New::default(), &|| Ok(Vec::new()), write).unwrap();
    support::say(&format!("100 000 entries in {:?}", began.elapsed()));
}
