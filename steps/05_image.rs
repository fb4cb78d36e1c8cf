//! An image becomes a root file system: its index leads to a manifest, that to a config and to layers, and each is known by its digest.
//!
//! Try it: `onggi create base; onggi save base -o base.tar; step-05 base.tar cat /etc/os-release`
//! See it: `tar -xOf base.tar index.json`, `ls /run/onggi-steps/layers`, `grep overlay /proc/PID/mountinfo`
//! Read: the OCI image specification: image-layout.md, image-index.md, manifest.md, config.md, layer.md "Whiteouts"

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use flate2::read::MultiGzDecoder;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, sethostname};
use onggi::cli::limits::LimitArgs;
use onggi::error::{Class, Doing, Error, Result};
use onggi::id;
use onggi::image::snapshot::{self, Prepared};
use onggi::runtime::{default_spec, users};
use onggi::sys::{path, xattr};
use onggi::workshop::steps::{self, Group};
use serde_json::Value;
use tar::Archive;

const NAME: &str = env!("CARGO_BIN_NAME");

/// What is asked for.
#[derive(Parser)]
#[command(infer_long_args = true)]
struct Request {
    #[command(flatten)]
    limits: LimitArgs,
    /// An image in the OCI's layout: a folder, or an archive of one
    layout: PathBuf,
    /// What to run instead of what the image says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() {
    steps::main(NAME, |request| run(&request))
}

/// Answers the command's exit code.
fn run(request: &Request) -> Result<i32> {
    // A signal that ended us at once would leave the cgroup behind: they wait until we ask for them.
    steps::signals().thread_block().doing(|| "block signals".into())?;
    let id = id::random()?;
    let image = read_image(&request.layout)?;
    let command = command(&image, &request.command)?;
    let snapshot = Snapshot::make(&image.layers, id::short(&id))?;
    let group = steps::limit(&request.limits, &format!("{NAME}-{}", id::short(&id)))?;
    let child = steps::isolate(NAME, &group, || inside(&image, &command, &group, &snapshot))?;
    steps::wait_for(child)
}

/// An image that is ready to be run.
struct Image {
    /// The unpacked layers, the lowest first.
    layers: Vec<PathBuf>,
    /// The image's own defaults: `Env`, `Entrypoint`, `Cmd`, `WorkingDir`.
    config: Value,
}

/// Goes the way of the digests: index → manifest → config and layers. Whoever trusts the first of them can trust them all.
fn read_image(layout: &Path) -> Result<Image> {
    let mut manifest = json(&file(layout, "index.json")?)?;
    // Of several manifests the one for this machine. What an index lists may be an index again.
    while let Some(manifests) = manifest["manifests"].as_array() {
        let fits = |it: &&Value| it["platform"].is_null() || (it["platform"]["os"] == "linux" && it["platform"]["architecture"] == architecture());
        let missing = || Error::new(Class::NotFound, "read the image", format!("it has nothing for linux/{}", architecture()));
        manifest = json(&blob(layout, manifests.iter().find(fits).ok_or_else(missing)?)?)?;
    }
    let config = json(&blob(layout, &manifest["config"])?)?;
    let (descriptors, diff_ids) = (manifest["layers"].as_array(), strings(&config["rootfs"]["diff_ids"]));
    let layers =
        descriptors.into_iter().flatten().zip(&diff_ids).map(|(layer, diff_id)| unpack(layout, layer, diff_id)).collect::<Result<Vec<_>>>()?;
    if layers.len() != diff_ids.len() {
        return Err(Error::invalid("read the image", "its config tells of more layers than its manifest"));
    }
    Ok(Image { layers, config: config["config"].clone() })
}

/// Go's name of this machine's processor.
fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

/// The content behind a descriptor: its bytes are looked at only after they have proved what they are.
fn blob(layout: &Path, descriptor: &Value) -> Result<Vec<u8>> {
    let wanted = descriptor["digest"].as_str().unwrap_or_default();
    let bytes = file(layout, &format!("blobs/sha256/{}", hex(wanted)?))?;
    if digest(&bytes) == wanted { Ok(bytes) } else { Err(Error::invalid(format!("use {wanted}"), format!("its bytes are {}", digest(&bytes)))) }
}

fn digest(bytes: &[u8]) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("sha256:{}", sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The 64 letters of a digest. They become the name of a file, so nothing else gets through.
fn hex(digest: &str) -> Result<&str> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    hex.ok_or_else(|| Error::invalid("read the image", format!("{digest:?} is no digest by sha256")))
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid("read the image", e.to_string()))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(String::from)).collect()
}

/// A file of the layout. An archive has no table of contents: one looks from its beginning, from header to header.
fn file(layout: &Path, name: &str) -> Result<Vec<u8>> {
    let doing = || format!("read {name} of {}", layout.display());
    if layout.is_dir() {
        return fs::read(layout.join(name)).doing(doing);
    }
    let mut archive = Archive::new(File::open(layout).doing(|| format!("open the image {}", layout.display()))?);
    for entry in archive.entries_with_seek().doing(doing)? {
        let mut entry = entry.doing(doing)?;
        if entry.path().doing(doing)? == Path::new(name) {
            let mut bytes = Vec::new();
            return entry.read_to_end(&mut bytes).map(|_| bytes).doing(doing);
        }
    }
    Err(Error::new(Class::NotFound, doing(), "there is no such file in the archive"))
}

/// The folder with a layer's files, unpacked when it is met for the first time. It gets its name, the digest of the unpacked archive, only
/// when it is whole.
fn unpack(layout: &Path, layer: &Value, diff_id: &str) -> Result<PathBuf> {
    let folder = steps::folder("layers")?.join(hex(diff_id)?);
    if folder.exists() {
        return Ok(folder);
    }
    let mut archive = blob(layout, layer)?;
    if layer["mediaType"].as_str().is_some_and(|kind| kind.ends_with("gzip")) {
        let packed = std::mem::take(&mut archive);
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut archive).doing(|| format!("decompress {}", layer["digest"]))?;
    }
    if digest(&archive) != diff_id {
        return Err(Error::invalid(format!("use the layer {}", layer["digest"]), format!("unpacked it is {}, not {diff_id}", digest(&archive))));
    }
    let aside = folder.with_extension(id::random()?);
    fs::create_dir(&aside).doing(|| format!("make {}", aside.display()))?;
    let unpacked = extract(&archive, &aside).and_then(|()| fs::rename(&aside, &folder).doing(|| format!("make {}", folder.display())));
    unpacked.inspect_err(|_| drop(fs::remove_dir_all(&aside))).map(|()| folder)
}

/// Unpacks a layer. `.wh.NAME` says that NAME of the layers below is deleted, and overlay says that with a device 0, 0. A folder with
/// `.wh..wh..opq` in it hides the whole folder of the layers below, and there overlay has an attribute.
fn extract(archive: &[u8], folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).doing(|| format!("make {}", folder.display()))?;
    let root = path::open_root(folder).doing(|| format!("open {}", folder.display()))?;
    let mut archive = Archive::new(archive);
    archive.set_preserve_permissions(true);
    // Who has a single id has nobody to give files to.
    archive.set_preserve_ownerships(!default_spec::one_group_only());
    for entry in archive.entries().doing(|| "read the layer".into())? {
        let mut entry = entry.doing(|| "read the layer".into())?;
        let path = entry.path().doing(|| "read the layer".into())?.into_owned();
        let doing = || format!("unpack {}", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(deleted) = name.strip_prefix(".wh.") else {
            // Not through a link or `..` to a place outside of the folder (tar::Entry::unpack_in).
            entry.unpack_in(folder).doing(doing)?;
            continue;
        };
        let parent = path::make_dirs_in(root.as_fd(), path.parent().unwrap_or(Path::new("")), 0o755).doing(doing)?;
        if deleted == ".wh..opq" {
            let key = if users::in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
            xattr::set(parent.as_fd(), Path::new("."), key, b"y").doing(doing)?;
        } else {
            path::mknodat(&parent, Path::new(deleted), libc::S_IFCHR, 0).doing(doing)?;
        }
    }
    Ok(())
}

/// The image's entry point with the words that are given, or else with the image's own.
fn command(image: &Image, words: &[String]) -> Result<Vec<String>> {
    let own = strings(&image.config["Cmd"]);
    let command = [strings(&image.config["Entrypoint"]), if words.is_empty() { own } else { words.to_vec() }].concat();
    if command.is_empty() { Err(Error::invalid("run the image", "it has no command, and none is given")) } else { Ok(command) }
}

/// The layers of one run, and the folder for what the command writes. Dropped, that is gone.
struct Snapshot {
    folder: PathBuf,
    prepared: Prepared,
}

impl Snapshot {
    fn make(layers: &[PathBuf], id: &str) -> Result<Snapshot> {
        let folder = steps::folder(id)?;
        let prepared = snapshot::prepare(layers, &folder).inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        Ok(Snapshot { folder, prepared })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(image: &Image, command: &[String], group: &Group, snapshot: &Snapshot) -> Result<i32> {
    // With us it ends, and with PID 1 its whole PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).doing(|| "end with the parent".into())?;
    steps::signals().thread_unblock().doing(|| "unblock signals".into())?;
    group.enter()?;
    sethostname("jar").doing(|| "set the host name".into())?;
    steps::furnish(&snapshot.folder, &snapshot.prepared, group, |_| Ok(()))?;
    let folder = image.config["WorkingDir"].as_str().filter(|folder| !folder.is_empty());
    chdir(folder.unwrap_or("/")).doing(|| "enter the working directory".into())?;
    steps::execute(command, &strings(&image.config["Env"]))
}
