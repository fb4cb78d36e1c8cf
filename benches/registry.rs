//! What pulls and pushes cost, side by side with docker, podman, and skopeo with umoci, in one run, from and to a registry on this machine:
//! the distribution project's own.
//!
//! ```text
//! cargo bench --bench registry                     # as root; peers that are not installed are skipped, and it says so
//! TMPDIR=/dev/shm cargo bench --bench registry     # where the disk is not the limit
//! cargo bench --bench registry -- pull push        # only these parts: pull push
//! ONGGI_BENCH_RUNS=3 cargo bench --bench registry
//! ```
//! A pull ends when the image is unpacked, ready to run, and written to the disk: a sync(2) of the whole machine is part of each time, for
//! some sync themselves and others leave that to later. Told are medians in milliseconds, and how many times the fastest peer's time is ours.
//! Nothing is asserted.

#[path = "../tests/support/faulty/content.rs"]
mod content;
mod side_by_side;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use content::{Dice, Image, Layer, archive};
use side_by_side::{Engine, Outcome, Part, turned};

fn main() -> Outcome<()> {
    let parts: [(&str, Part); 2] = [("pull", pull), ("push", push)];
    side_by_side::run("registry", false, &parts)
}

/// Bytes of the files of each image.
const SIZE: usize = 300 << 20;

fn pull(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let registry = Distribution::begin(dir, "from")?;
    let (few, many, next) = (image(0..4), image(100..160), image(106..166));
    for (name, image) in [("few", &few), ("many", &many), ("next", &next)] {
        registry.put(dir, name, image)?;
    }
    let contenders = contenders(dir, engines);
    let mut table = Table::new();
    let mut memory: u64 = 0;
    for round in 0..runs {
        for contender in order(&contenders, round) {
            for (title, image) in [("pull, 4 layers, 300 MB", "few"), ("pull, 60 layers, 300 MB", "many")] {
                let name = registry.name(image);
                contender.remove(&name);
                if let Some(peak) = table.time(title, contender.name(), || contender.pull(&name))? {
                    memory = memory.max(peak);
                }
            }
            // Of the 60 layers of this one 54 are here with the one before.
            let (next, many) = (registry.name("next"), registry.name("many"));
            if contender.keeps_layers() {
                table.time("pull, 54 of 60 layers here", contender.name(), || contender.pull(&next))?;
                table.time("pull of what is here", contender.name(), || contender.pull(&many))?;
            }
            [next, many, registry.name("few")].iter().for_each(|name| contender.remove(name));
        }
    }
    table.print();
    println!("  onggi's largest resident set: {:.1} MiB", memory as f64 / 1024.0);
    Ok(())
}

fn push(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let from = Distribution::begin(dir, "from")?;
    from.put(dir, "few", &image(0..4))?;
    from.put(dir, "many", &image(100..160))?;
    let contenders = contenders(dir, engines);
    let mut table = Table::new();
    for image in ["few", "many"] {
        for round in 0..runs {
            for contender in order(&contenders, round) {
                let to = Distribution::begin(dir, "to")?;
                contender.pull(&from.name(image))?;
                contender.tag(&from.name(image), &to.name(image))?;
                let title = format!("push, {} layers, 300 MB", if image == "few" { 4 } else { 60 });
                table.time(&title, contender.name(), || contender.push(&to.name(image)))?;
                table.time("push of what is there", contender.name(), || contender.push(&to.name(image)))?;
                contender.remove(&to.name(image));
            }
        }
        contenders.iter().for_each(|contender| contender.remove(&from.name(image)));
    }
    table.print();
    Ok(())
}

/// An image of these layers; together they are as big as all such images.
fn image(seeds: std::ops::Range<u64>) -> Image {
    let size = SIZE / (seeds.end - seeds.start) as usize;
    Image::of(&seeds.map(|seed| layer(seed, size)).collect::<Vec<_>>())
}

/// Files as programs have them: many small ones, some big ones, that gzip makes about half as big.
fn layer(seed: u64, size: usize) -> Layer {
    let (mut dice, mut files, mut left) = (Dice(seed * 2 + 1), Vec::new(), size);
    while left > 0 {
        let most = [4_000, 4_000, 30_000, 300_000, 3_000_000][dice.roll(5) as usize];
        let length = left.min(1 + dice.roll(most) as usize);
        let words: Vec<u64> = (0..256).map(|_| dice.roll(u64::MAX >> 31)).collect();
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            let word = if dice.roll(3) == 0 { dice.roll(u64::MAX >> 31) } else { words[dice.roll(256) as usize] };
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.truncate(length);
        files.push((format!("layer{seed}/folder{}/file{}", files.len() / 50, files.len()), bytes));
        left -= length;
    }
    let named: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    Layer::gzipped(&archive(&named))
}

/// docker-registry with a folder of its own, empty at first; it ends when dropped.
struct Distribution {
    host: String,
    server: Child,
    folder: PathBuf,
}

impl Distribution {
    fn begin(dir: &Path, name: &str) -> Outcome<Distribution> {
        let folder = dir.join(format!("registry-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let conf = folder.join("conf.yml");
        let storage = format!("storage: {{filesystem: {{rootdirectory: {:?}}}}}", folder.join("data").display().to_string());
        fs::write(&conf, format!("version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{storage}\nhttp: {{addr: {host:?}}}\n"))?;
        let mut command = Command::new("docker-registry");
        let server = command.arg("serve").arg(conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let registry = Distribution { host, server, folder };
        for _ in 0..500 {
            if TcpStream::connect(&registry.host).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("docker-registry does not listen".into())
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}:1", self.host)
    }

    fn put(&self, dir: &Path, name: &str, image: &Image) -> Outcome<()> {
        let layout = dir.join(format!("layout-{name}"));
        image.write_layout(&layout, "1");
        let done = skopeo(&format!("oci:{}:1", layout.display()), &format!("docker://{}", self.name(name)));
        fs::remove_dir_all(layout)?;
        done
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn skopeo(from: &str, to: &str) -> Outcome<()> {
    let words = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to];
    runs("skopeo", &words)
}

fn runs(program: &str, words: &[&str]) -> Outcome<()> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() { Ok(()) } else { Err(format!("{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr)).into()) }
}

/// Who pulls and pushes.
enum Contender<'a> {
    Engine(&'a Engine),
    /// skopeo fetches, umoci unpacks; the folder for both.
    Tools(PathBuf),
}

fn contenders<'a>(dir: &Path, engines: &'a [Engine]) -> Vec<Contender<'a>> {
    let tools = ["skopeo", "umoci"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    if !tools {
        println!("  skopeo and umoci: skipped: not installed");
    }
    let tools = tools.then(|| Contender::Tools(dir.join("tools")));
    turned(engines, 0).map(Contender::Engine).chain(tools).collect()
}

fn order<'a, 'b>(contenders: &'a [Contender<'b>], round: usize) -> impl Iterator<Item = &'a Contender<'b>> {
    (0..contenders.len()).map(move |turn| &contenders[(round + turn) % contenders.len()])
}

impl Contender<'_> {
    fn name(&self) -> &'static str {
        match self {
            Contender::Engine(engine) => engine.name,
            Contender::Tools(_) => "skopeo+umoci",
        }
    }

    /// umoci unpacks everything each time.
    fn keeps_layers(&self) -> bool {
        matches!(self, Contender::Engine(_))
    }

    /// Of Onggi, the most memory that it had, in KiB.
    fn pull(&self, name: &str) -> Outcome<Option<u64>> {
        match self {
            Contender::Engine(engine) if engine.name == "onggi" => watched(engine.begin(&["pull", "-q", name])?).map(Some),
            Contender::Engine(engine) if engine.name == "podman" => engine.does(&["pull", "-q", "--tls-verify=false", name]).map(|()| None),
            Contender::Engine(engine) => engine.does(&["pull", "-q", name]).map(|()| None),
            Contender::Tools(folder) => {
                fs::create_dir_all(folder)?;
                let image = format!("{}:1", folder.join("layout").display());
                skopeo(&format!("docker://{name}"), &format!("oci:{image}"))?;
                runs("umoci", &["unpack", "--image", &image, &folder.join("bundle").display().to_string()]).map(|()| None)
            }
        }
    }

    fn tag(&self, from: &str, to: &str) -> Outcome<()> {
        match self {
            Contender::Engine(engine) => engine.does(&["tag", from, to]),
            Contender::Tools(_) => Ok(()),
        }
    }

    fn push(&self, name: &str) -> Outcome<Option<u64>> {
        match self {
            Contender::Engine(engine) if engine.name == "podman" => engine.does(&["push", "-q", "--tls-verify=false", name]),
            Contender::Engine(engine) => engine.does(&["push", "-q", name]),
            Contender::Tools(folder) => skopeo(&format!("oci:{}:1", folder.join("layout").display()), &format!("docker://{name}")),
        }
        .map(|()| None)
    }

    fn remove(&self, name: &str) {
        match self {
            Contender::Engine(engine) => drop(engine.does(&["rmi", "-f", name])),
            Contender::Tools(folder) => drop(fs::remove_dir_all(folder)),
        }
    }
}

/// Waits for a command: the most memory that it had, in KiB, as seen shortly before its end.
fn watched(mut child: Child) -> Outcome<u64> {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(peak, |now: u64| now.max(peak));
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(peak) } else { Err(format!("onggi: {status}").into()) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Medians of times by title and contender.
struct Table {
    rows: Vec<(String, BTreeMap<&'static str, Vec<Duration>>)>,
}

const COLUMNS: [&str; 4] = ["onggi", "docker", "podman", "skopeo+umoci"];

impl Table {
    fn new() -> Table {
        Table { rows: Vec::new() }
    }

    /// Does it, until all is on the disk, and remembers how long that took; a failure is told and no end.
    fn time<T>(&mut self, title: &str, who: &'static str, once: impl FnOnce() -> Outcome<Option<T>>) -> Outcome<Option<T>> {
        nix::unistd::sync();
        let began = Instant::now();
        let done = once();
        nix::unistd::sync();
        let took = began.elapsed();
        match done {
            Ok(said) => {
                if !self.rows.iter().any(|(other, _)| other == title) {
                    self.rows.push((title.into(), BTreeMap::new()));
                }
                let row = self.rows.iter_mut().find(|(other, _)| other == title).map(|(_, row)| row);
                row.into_iter().for_each(|row| row.entry(who).or_default().push(took));
                Ok(said)
            }
            Err(why) => {
                println!("  {who}: {title}: {why}");
                Ok(None)
            }
        }
    }

    fn print(&self) {
        println!("  {:<34}{}{:>10}", "ms, to the disk", COLUMNS.map(|name| format!("{name:>14}")).concat(), "ratio");
        for (title, row) in &self.rows {
            let median = |name: &str| {
                let mut times = row.get(name)?.clone();
                times.sort_unstable();
                Some(times[times.len() / 2].as_secs_f64() * 1000.0)
            };
            let shown = COLUMNS.map(|name| median(name).map_or(format!("{:>14}", "-"), |time| format!("{time:>14.0}"))).concat();
            let fastest = COLUMNS[1..].iter().filter_map(|name| median(name)).reduce(f64::min);
            let ratio = median("onggi").zip(fastest).map_or("-".into(), |(ours, peer)| format!("{:.2} ×", peer / ours));
            println!("  {title:<34}{shown}{ratio:>10}");
        }
    }
}
