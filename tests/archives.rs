//! Images as files: what we save, docker, podman, skopeo and umoci read, and we read what they save; the digests stay the same all the
//! way round, and an unpacked tree is the same to the last attribute.
//!
//! See it: `tar tvf IMAGE.tar`. Read: docker save(1), skopeo(1), umoci(1).

mod support;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi::image::create::{New, create};
use onggi::image::digest::Digest;
use onggi::image::list::{self, Listed};
use onggi::image::pack;
use onggi::image::reference::Reference;
use onggi::image::resolve;
use onggi::image::store::Store;
use onggi::sys::path::open_root;
use onggi::sys::xattr;
use support::jar::{Jar, until};
use support::peer;
use support::short::{Short, unmount_below};

fn ours() -> Option<Jar> {
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("device nodes and owners are root's to make, and this is not root");
        return None;
    }
    Some(Jar::empty())
}

fn store(jar: &Jar) -> Store {
    fs::create_dir_all(&jar.root).unwrap();
    Store::open(&jar.root.join("data")).unwrap()
}

/// A tree with one of everything that a layer can hold.
fn fill(root: &Path) {
    for dir in ["bin", "etc/deep/er", "gone", "hidden", "한글"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("bin/tool"), vec![1u8; 70_000]).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    fs::write(root.join("gone/file"), "deleted later").unwrap();
    fs::write(root.join("hidden/old"), "hidden later").unwrap();
    fs::write(root.join(format!("etc/{}", "long".repeat(40))), "x").unwrap();
    fs::hard_link(root.join("bin/tool"), root.join("etc/deep/tool")).unwrap();
    std::os::unix::fs::symlink("../../outside", root.join("etc/link")).unwrap();
    let folder = open_root(root).unwrap();
    onggi::sys::path::mknodat(&folder, Path::new("null"), libc::S_IFCHR | 0o666, libc::makedev(1, 3)).unwrap();
    onggi::sys::path::mknodat(&folder, Path::new("pipe"), libc::S_IFIFO | 0o640, 0).unwrap();
    std::os::unix::fs::chown(root.join("etc/passwd"), Some(1234), Some(4_000_000)).unwrap();
    fs::set_permissions(root.join("bin/tool"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    fs::set_permissions(root.join("etc/deep"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    // cap_dac_override and cap_fowner: a line feed in the attribute.
    let capabilities = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    xattr::set(folder.as_fd(), Path::new("etc/passwd"), "security.capability", capabilities).unwrap();
    xattr::set(folder.as_fd(), Path::new("한글"), "user.note", b"two\nlines").unwrap();
}

/// An image of two layers: everything, and on top of it deletions.
fn two_layers(jar: &Jar, name: &str) -> Listed {
    let store = store(jar);
    let (lower, upper) = (jar.root.join("lower"), jar.root.join("upper"));
    fs::create_dir(&lower).unwrap();
    fill(&lower);
    for dir in ["hidden", "new"] {
        fs::create_dir_all(upper.join(dir)).unwrap();
    }
    let folder = open_root(&upper).unwrap();
    onggi::sys::path::mknodat(&folder, Path::new("gone"), libc::S_IFCHR, 0).unwrap();
    xattr::set(folder.as_fd(), Path::new("hidden"), "trusted.overlay.opaque", b"y").unwrap();
    fs::write(upper.join("hidden/new"), "x").unwrap();
    let mut new = New { created_by: Some("test".into()), ..New::default() };
    new.config.cmd = vec!["/bin/sh".into()];
    create(&store, &new, &|| Ok(Vec::new()), |out| pack::layer(&lower, out)).unwrap();
    new.below = Some(list::all(&store).unwrap()[0].manifests[0].clone());
    new.name = Some(Reference::parse(name).unwrap());
    let id = create(&store, &new, &|| Ok(Vec::new()), |out| pack::layer(&upper, out)).unwrap();
    fs::remove_dir_all(lower).unwrap();
    fs::remove_dir_all(upper).unwrap();
    list::all(&store).unwrap().into_iter().find(|image| image.id == id).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn runs(program: &Path, words: &[&str]) -> String {
    let done = Command::new(program).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{program:?} {words:?}: {}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// All of an image's layers as they are unpacked, as archives: equal trees are equal bytes.
fn trees(jar: &Jar, name: &str) -> Vec<Vec<u8>> {
    let image = resolve::resolve(&store(jar), name).unwrap();
    let packed = |layer: &PathBuf| {
        let mut bytes = Vec::new();
        pack::layer(layer, &mut bytes).unwrap();
        bytes
    };
    image.layers.iter().map(packed).collect()
}

/// All that is in a folder, whose own time is that of whoever made it just now.
fn tree(dir: &Path) -> Vec<u8> {
    fs::File::open(dir).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut bytes = Vec::new();
    pack::tree(open_root(dir).unwrap().as_fd(), &mut bytes).unwrap();
    bytes
}

/// What is in the store and is not a lock: after a failure as before.
fn content(jar: &Jar) -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["data/images", "data/images/blobs/sha256", "data/snapshots", "data/tmp"] {
        let entries = fs::read_dir(jar.root.join(folder)).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())).filter(|name| !name.ends_with("lock")));
    }
    all.extend(fs::read_to_string(jar.root.join("data/images/repositories.json")));
    all.sort();
    all
}

#[test]
fn what_is_saved_and_loaded_is_saved_again_the_same_to_the_byte() {
    let (Some(one), Some(two)) = (ours(), ours()) else { return };
    let image = two_layers(&one, "team/web:1");
    let (first, second) = (one.root.join("1.tar"), two.root.join("2.tar"));
    assert_eq!(one.does(&["save", "-o", text(&first), "team/web:1"]), "");
    assert_eq!(two.does(&["load", "-i", text(&first)]), "Loaded image: team/web:1");
    assert_eq!(two.does(&["images", "-q", "--no-trunc"]), image.id.as_str());
    two.does(&["save", "-o", text(&second), "team/web:1"]);
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap());
    assert!(trees(&one, "team/web:1") == trees(&two, "team/web:1"));
}

#[test]
fn a_compressed_archive_is_loaded_from_standard_input_and_several_images_are_in_one() {
    let (Some(one), Some(two), Some(zstd)) = (ours(), ours(), peer("zstd")) else { return };
    let image = two_layers(&one, "web:1");
    one.does(&["tag", "web:1", "localhost:5000/other:2"]);
    let archive = one.root.join("both.tar");
    // A repository without a tag means all of its tags.
    one.does(&["save", "-o", text(&archive), "web", "localhost:5000/other:2"]);
    runs(Path::new("gzip"), &["-k", text(&archive)]);
    runs(&zstd, &["-q", text(&archive)]);
    for name in ["both.tar", "both.tar.gz", "both.tar.zst"] {
        let file = fs::File::open(one.root.join(name)).unwrap();
        let loaded = two.onggi(&["load"]).stdin(file).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&loaded.stdout), "Loaded image: web:1\nLoaded image: localhost:5000/other:2\n", "{name}: {loaded:?}");
        assert_eq!(two.does(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "web:1\nlocalhost:5000/other:2");
        two.does(&["rmi", "-f", image.id.as_str()]);
        assert_eq!(two.does(&["images", "-q"]), "");
    }
}

#[test]
fn skopeo_reads_both_of_our_formats_and_we_read_all_of_its() {
    let (Some(one), Some(skopeo)) = (ours(), peer("skopeo")) else { return };
    let image = two_layers(&one, "web:1");
    let archive = one.root.join("web.tar");
    one.does(&["save", "-o", text(&archive), "web:1"]);
    let place = |name: &str| one.root.join(name).display().to_string();
    let copy = |from: String, to: String, options: &[&str]| {
        runs(&skopeo, &[&["copy", "--insecure-policy", "-q"], options, &[from.as_str(), to.as_str()]].concat())
    };
    let raw = runs(&skopeo, &["inspect", "--raw", &format!("oci-archive:{}:1", text(&archive))]);
    assert_eq!(Digest::of(raw.as_bytes()), image.manifests[0]);

    let oci = || format!("oci-archive:{}:1", text(&archive));
    copy(oci(), format!("oci:{}:1", place("layout")), &["--preserve-digests"]);
    copy(oci(), format!("oci-archive:{}:1", place("oci.tar")), &["--preserve-digests"]);
    copy(oci(), format!("docker-archive:{}:web:9", place("docker.tar")), &[]);
    copy(format!("docker-archive:{}:web:1", text(&archive)), format!("oci:{}:1", place("from-docker")), &[]);
    copy(oci(), format!("oci:{}:1", place("zstd")), &["--dest-compress", "--dest-compress-format", "zstd", "--dest-decompress=false"]);
    let expected = trees(&one, "web:1");
    for (name, same_manifest) in [("layout", true), ("oci.tar", true), ("docker.tar", false), ("from-docker", false), ("zstd", false)] {
        let two = ours().unwrap();
        let said = two.does(&["load", "-i", &place(name)]);
        assert_eq!(said.starts_with("Loaded image: web:9"), name == "docker.tar", "{name}: {said}");
        let loaded = &list::all(&store(&two)).unwrap()[0];
        assert!(!same_manifest || loaded.manifests == image.manifests);
        // On its way from Docker's form to the OCI's skopeo writes the config anew: the same, or with the zeros at the end of a time cut.
        assert_eq!((name, loaded.id == image.id || name == "from-docker", loaded.size), (name, true, image.size));
        assert!(trees(&two, &loaded.id.to_string()) == expected, "{name}");
    }
}

#[test]
fn umoci_unpacks_what_we_save_to_the_same_tree_and_we_unpack_what_it_makes() {
    let (Some(one), Some(umoci), Some(skopeo)) = (ours(), peer("umoci"), peer("skopeo")) else { return };
    let image = two_layers(&one, "web:1");
    let (archive, layout, bundle) = (one.root.join("web.tar"), one.root.join("layout"), one.root.join("bundle"));
    one.does(&["save", "-o", text(&archive), "web:1"]);
    fs::create_dir(&layout).unwrap();
    runs(Path::new("tar"), &["-C", text(&layout), "-xf", text(&archive)]);
    let source = format!("{}:1", text(&layout));
    runs(&umoci, &["unpack", "--image", &source, text(&bundle)]);

    let (theirs, ours) = (tree(&bundle.join("rootfs")), mounted(&one, "web:1"));
    assert!(theirs == ours, "{}", difference(&one, &theirs, &ours));

    // A layer of umoci's on top: gzip, with a deletion and a new file.
    fs::remove_file(bundle.join("rootfs/bin/tool")).unwrap();
    fs::write(bundle.join("rootfs/etc/new"), "from umoci").unwrap();
    runs(&umoci, &["repack", "--image", &format!("{}:2", text(&layout)), text(&bundle)]);
    runs(&skopeo, &["copy", "--insecure-policy", "-q", &format!("oci:{}:2", text(&layout)), &format!("oci:{}:2", text(&one.root.join("second")))]);
    let two = Jar::empty();
    two.does(&["load", "-i", text(&one.root.join("second"))]);
    let loaded = list::all(&store(&two)).unwrap().remove(0);
    assert_ne!(loaded.id, image.id);
    let after = mounted(&two, loaded.id.as_str());
    let again = one.root.join("again");
    runs(&umoci, &["unpack", "--image", &format!("{}:2", text(&layout)), text(&again)]);
    let theirs = tree(&again.join("rootfs"));
    assert!(theirs == after, "{}", difference(&one, &theirs, &after));
}

/// The image's root file system as a container would see it, as an archive.
fn mounted(jar: &Jar, name: &str) -> Vec<u8> {
    use onggi::image::snapshot::{self, Mounted};
    let image = resolve::resolve(&store(jar), name).unwrap();
    let container = jar.root.join("container");
    fs::create_dir_all(&container).unwrap();
    let bytes = match snapshot::mount(&snapshot::prepare(&image.layers, &container).unwrap()).unwrap() {
        Mounted::Overlay(mount) => {
            use std::os::fd::AsRawFd;
            tree(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())))
        }
        Mounted::Copied { path, .. } => tree(&path),
    };
    fs::remove_dir_all(container).unwrap();
    bytes
}

fn difference(jar: &Jar, one: &[u8], other: &[u8]) -> String {
    let list = |bytes: &[u8], name: &str| {
        let file = jar.root.join(name);
        fs::write(&file, bytes).unwrap();
        runs(Path::new("tar"), &["--full-time", "--xattrs", "-tvvf", text(&file)])
    };
    let (one, other) = (list(one, "one.tar"), list(other, "other.tar"));
    let lines = |a: &str, b: &str| a.lines().filter(|line| !b.lines().any(|other| other == *line)).collect::<Vec<_>>().join("\n");
    format!("only there:\n{}\nonly here:\n{}", lines(&one, &other), lines(&other, &one))
}

/// A peer's engine with a store of its own, and its daemon when it has one.
struct Engine {
    words: Vec<String>,
    daemon: Option<Child>,
    folder: Jar,
    _short: Short,
}

impl Engine {
    fn podman() -> Option<Engine> {
        let (podman, folder) = (peer("podman")?, ours()?);
        let short = Short::new();
        let words = [vec![text(&podman).to_string()], short.podman(&folder.root)].concat();
        Some(Engine { words, daemon: None, folder, _short: short })
    }

    fn docker() -> Option<Engine> {
        let (dockerd, docker, folder) = (peer("dockerd")?, peer("docker")?, ours()?);
        let short = Short::new();
        let host = short.host();
        let daemon = Command::new(dockerd)
            .args(short.dockerd(&folder.root))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.root.join("log")).unwrap())
            .spawn()
            .unwrap();
        let engine = Engine { words: vec![text(&docker).into(), "-H".into(), host], daemon: Some(daemon), folder, _short: short };
        until("dockerd answers", || engine.command(&["version"]).output().is_ok_and(|done| done.status.success()));
        Some(engine)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(words).stdin(Stdio::null()).current_dir(&self.folder.root);
        command
    }

    #[track_caller]
    fn shows(&self, words: &[&str]) -> String {
        let done = self.command(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim_end().to_string()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM);
            let _ = daemon.wait();
        }
        unmount_below(&self.folder.root);
    }
}

fn there_and_back(engine: &Engine, save: &[&[&str]]) {
    let one = ours().unwrap();
    let image = two_layers(&one, "localhost/web:1");
    let archive: PathBuf = one.root.join("web.tar");
    one.does(&["save", "-o", text(&archive), "localhost/web:1"]);
    engine.shows(&["load", "-i", text(&archive)]);
    let id = engine.shows(&["image", "inspect", "--format", "{{.Id}}", "localhost/web:1"]);
    assert_eq!(id.trim_start_matches("sha256:"), image.id.hex());
    for (number, options) in save.iter().enumerate() {
        let back = one.root.join(format!("back{number}.tar"));
        engine.shows(&[&["save", "-o", text(&back)], *options, &["localhost/web:1"]].concat());
        let two = ours().unwrap();
        assert_eq!(two.does(&["load", "-i", text(&back)]), "Loaded image: localhost/web:1", "{options:?}");
        assert_eq!(list::all(&store(&two)).unwrap()[0].id, image.id, "{options:?}");
        assert!(trees(&two, "localhost/web:1") == trees(&one, "localhost/web:1"), "{options:?}");
    }
}

#[test]
fn podman_loads_what_we_save_and_we_load_what_it_saves() {
    let Some(engine) = Engine::podman() else { return };
    there_and_back(&engine, &[&["--format", "docker-archive"], &["--format", "oci-archive"]]);
}

#[test]
fn docker_loads_what_we_save_and_we_load_what_it_saves() {
    let Some(engine) = Engine::docker() else { return };
    there_and_back(&engine, &[&[]]);
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let (Some(one), Some(two)) = (ours(), ours()) else { return };
    two_layers(&one, "web:1");
    let archive = one.root.join("web.tar");
    one.does(&["save", "-o", text(&archive), "web:1"]);
    let whole = fs::read(&archive).unwrap();
    store(&two);
    let before = content(&two);
    let fails = |bytes: &[u8], words: &str| {
        let mut child = two.onggi(&["load"]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(bytes);
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains(words), "{words:?} is not in {said}");
        assert_eq!(content(&two), before, "{said}");
    };
    fails(b"", "neither an index.json nor a manifest.json");
    fails(b"no archive at all, but long enough to be looked at".repeat(20).as_slice(), "no tar archive");
    fails(&whole[..whole.len() / 2], "ends in the middle");
    // One byte of a layer's content is another one: its digest tells.
    let mut changed = whole.clone();
    let at = changed.windows(13).position(|bytes| bytes == b"deleted later").unwrap();
    changed[at] = b'D';
    fails(&changed, "its bytes are");
    let mut renamed = whole.clone();
    let at = renamed.windows(9).position(|bytes| bytes == b"\"web:1\"]}" || bytes == b"web:1\",\"o").unwrap();
    renamed[at..at + 3].copy_from_slice(b"W!!");
    fails(&renamed, "cannot");
    // Killed in the middle: the next one clears up.
    let mut child = two.onggi(&["load"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&whole[..whole.len() / 2]).unwrap();
    until("it has begun", || fs::read_dir(two.root.join("data/tmp")).unwrap().count() > 1);
    child.kill().unwrap();
    child.wait().unwrap();
    fails(b"x", "cut off");
}
