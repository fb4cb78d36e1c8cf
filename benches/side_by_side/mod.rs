//! Engines side by side: each with a folder of its own, asked the same in turn, and the medians printed in columns.
//!
//! Contenders alternate, in an order that turns round by round. The measurements are a process of their own; its parent waits for it, or for
//! Ctrl-C, and clears up in either case.

#![allow(dead_code)] // each benchmark compiles this module and uses its own part of it

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
pub type Part = fn(&Path, &[Engine], usize) -> Outcome<()>;

const ONGGI: &str = env!("CARGO_BIN_EXE_onggi");

/// Runs those of the parts that the command line names, or all. With `networks` each engine is in a network namespace of its own.
pub fn run(name: &str, networks: bool, parts: &[(&str, Part)]) -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.split_first() {
        Some((mode, [dir, wanted @ ..])) if mode == "measure" => measure(Path::new(dir), networks, parts, wanted),
        _ if !nix::unistd::geteuid().is_root() => {
            println!("skipped: it makes containers with docker and podman, which need root");
            Ok(())
        }
        _ => supervise(name, &words),
    }
}

fn measure(dir: &Path, networks: bool, parts: &[(&str, Part)], wanted: &[String]) -> Outcome<()> {
    SigSet::empty().thread_set_mask()?;
    let runs = std::env::var("ONGGI_BENCH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let (engines, _daemon) = engines(dir, networks)?;
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    println!("  {:<34}{:>22}{:>22}{:>22}{:>10}", "ms: time (CPU of the command)", "onggi", "docker", "podman", "ratio");
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            if let Err(why) = part(dir, &engines, runs) {
                println!("  {name}: {why}");
            }
            engines.iter().for_each(Engine::remove_all);
        }
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// Starts the measurements in a process group of their own, waits, and clears up.
fn supervise(name: &str, parts: &[String]) -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("onggi-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut wanted = SigSet::empty();
    wanted.extend([Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    wanted.thread_block()?;
    let mut worker = Command::new(std::env::current_exe()?).arg("measure").arg(&dir).args(parts).process_group(0).spawn()?;
    let status = loop {
        match wanted.wait()? {
            Signal::SIGCHLD => {
                if let Some(status) = worker.try_wait()? {
                    break status;
                }
            }
            _ => {
                killpg(Pid::from_raw(worker.id() as i32), Signal::SIGKILL)?;
                break worker.wait()?;
            }
        }
    };
    // Further Ctrl-C wait: clearing up is not to be cut short.
    clear(&dir);
    if status.success() { Ok(()) } else { Err(format!("the measurements ended with {status}").into()) }
}

/// Ends and removes all that the measurements may have left, however they ended.
fn clear(dir: &Path) {
    for engine in [Engine::onggi(dir), Engine::podman(dir)] {
        engine.remove_all();
    }
    let docker = Engine::docker(dir);
    if let Some(pid) = std::fs::read_to_string(dir.join("docker.pid")).ok().and_then(|pid| pid.trim().parse().ok()) {
        docker.remove_all();
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        for _ in 0..100 {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| Path::new(place).starts_with(dir)) {
        let _ = Command::new("umount").args(["-l", place]).status();
    }
    if let Err(why) = std::fs::remove_dir_all(dir) {
        println!("{} stays: {why}", dir.display());
    }
}

/// An engine: the words before its command, and its name for the base image.
pub struct Engine {
    pub name: &'static str,
    words: Vec<String>,
    pub image: String,
    /// The network namespace that is its host, when it isn't the machine's.
    pub place: Option<PathBuf>,
}

impl Engine {
    fn new(name: &'static str, dir: &Path, words: &[&str]) -> Engine {
        let place = Some(dir.join(format!("{name}.net"))).filter(|place| place.exists());
        Engine { name, words: words.iter().map(|word| word.to_string()).collect(), image: "base".into(), place }
    }

    fn onggi(dir: &Path) -> Engine {
        Engine::new("onggi", dir, &["env", &format!("ONGGI_ROOT={}", dir.join("onggi").display()), ONGGI])
    }

    fn docker(dir: &Path) -> Engine {
        Engine::new("docker", dir, &["docker", "-H", &format!("unix://{}", dir.join("docker.sock").display())])
    }

    fn podman(dir: &Path) -> Engine {
        let place = |name: &str| dir.join(name).display().to_string();
        let (conf, root, run) = (format!("CONTAINERS_CONF={}", place("containers.conf")), place("podman"), place("podman-run"));
        let own = ["--root", &root, "--runroot", &run, "--tmpdir", &run, "--network-config-dir", &place("podman-networks")];
        Engine::new("podman", dir, &[&["env", &conf, "podman"], &own[..], &["--cgroup-manager", "cgroupfs", "--runtime", "runc"]].concat())
    }

    /// Starts the command; told is nothing.
    pub fn begin(&self, words: &[&str]) -> Outcome<Child> {
        self.there(|| Ok(self.command(words).spawn()?))
    }

    /// Does it in the network namespace that is the engine's host: what is opened or started there stays there.
    pub fn there<T: Send>(&self, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        match &self.place {
            Some(place) => at(place, work),
            None => work(),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub fn does(&self, words: &[&str]) -> Outcome<()> {
        let status = self.there(|| Ok(self.command(words).status()?))?;
        if status.success() { Ok(()) } else { Err(format!("{} {}: {status}", self.name, words.join(" ")).into()) }
    }

    pub fn says(&self, words: &[&str]) -> Outcome<String> {
        let output = self.there(|| Ok(self.command(words).stdout(Stdio::piped()).output()?))?;
        if output.status.success() { Ok(String::from_utf8(output.stdout)?) } else { Err(format!("{} {}", self.name, words.join(" ")).into()) }
    }

    /// Starts a container without networks.
    pub fn run(&self, name: &str, program: &[&str]) -> Outcome<()> {
        self.does(&[&["run", "-d", "--network", "none", "--name", name, &self.image], program].concat())
    }

    pub fn remove_all(&self) {
        let ids = self.says(&["ps", "-aq"]).unwrap_or_default();
        for ids in ids.split_whitespace().collect::<Vec<_>>().chunks(100) {
            let _ = self.does(&[&["rm", "-f"], ids].concat());
        }
    }
}

/// Samples of one question: time passed and CPU time, by engine.
pub struct Row {
    title: String,
    samples: Vec<(&'static str, Vec<(Duration, Duration)>)>,
}

impl Row {
    pub fn new(title: impl Into<String>) -> Row {
        Row { title: title.into(), samples: Vec::new() }
    }

    /// Does it and remembers how long it took.
    pub fn time(&mut self, engine: &Engine, once: impl FnOnce() -> Outcome<()>) {
        let (began, before) = (Instant::now(), cpu_of_children());
        let done = once();
        let sample = (began.elapsed(), cpu_of_children().saturating_sub(before));
        match done {
            Ok(()) => match self.samples.iter_mut().find(|(name, _)| *name == engine.name) {
                Some((_, samples)) => samples.push(sample),
                None => self.samples.push((engine.name, vec![sample])),
            },
            Err(why) => println!("  {}: {why}", self.title),
        }
    }

    pub fn print(&self) {
        let median = |name: &str| {
            let samples = &self.samples.iter().find(|(engine, _)| *engine == name)?.1;
            let middle = |mut times: Vec<Duration>| {
                times.sort_unstable();
                times[times.len() / 2].as_secs_f64() * 1000.0
            };
            Some((middle(samples.iter().map(|sample| sample.0).collect()), middle(samples.iter().map(|sample| sample.1).collect())))
        };
        let shown = |name: &str| median(name).map_or(format!("{:>22}", "-"), |(time, cpu)| format!("{time:>10.1} ({cpu:>8.1})"));
        let ratio = median("onggi").zip(median("docker")).map_or("-".into(), |(ours, docker)| format!("{:.1} ×", docker.0 / ours.0));
        println!("  {:<34}{}{}{}{ratio:>10}", self.title, shown("onggi"), shown("docker"), shown("podman"));
    }
}

/// Samples of something else than time: a number for each engine.
pub struct Figure {
    title: String,
    more_is_better: bool,
    samples: Vec<(&'static str, Vec<f64>)>,
}

impl Figure {
    /// A number of which less is better.
    pub fn new(title: impl Into<String>) -> Figure {
        Figure { title: title.into(), more_is_better: false, samples: Vec::new() }
    }

    pub fn more_is_better(self) -> Figure {
        Figure { more_is_better: true, ..self }
    }

    pub fn add(&mut self, engine: &Engine, value: f64) {
        match self.samples.iter_mut().find(|(name, _)| *name == engine.name) {
            Some((_, samples)) => samples.push(value),
            None => self.samples.push((engine.name, vec![value])),
        }
    }

    pub fn print(&self) {
        let median = |name: &str| {
            let mut values = self.samples.iter().find(|(engine, _)| *engine == name)?.1.clone();
            values.sort_by(f64::total_cmp);
            Some(values[values.len() / 2])
        };
        let shown = |name: &str| median(name).map_or(format!("{:>22}", "-"), |value| format!("{value:>22.1}"));
        let times = |(ours, docker): (f64, f64)| format!("{:.1} ×", if self.more_is_better { ours / docker } else { docker / ours });
        let ratio = median("onggi").zip(median("docker")).map_or("-".into(), times);
        println!("  {:<34}{}{}{}{ratio:>10}", self.title, shown("onggi"), shown("docker"), shown("podman"));
    }
}

fn cpu_of_children() -> Duration {
    let time = |value: nix::sys::time::TimeVal| Duration::from_micros(value.tv_sec() as u64 * 1_000_000 + value.tv_usec() as u64);
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |usage| time(usage.user_time()) + time(usage.system_time()))
}

/// Those that are here, each with the base image.
fn engines(dir: &Path, networks: bool) -> Outcome<(Vec<Engine>, Option<Child>)> {
    let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nevents_logger = \"none\"\n";
    std::fs::write(dir.join("containers.conf"), conf)?;
    if networks {
        ["onggi", "docker", "podman"].iter().try_for_each(|name| host_of_its_own(dir, name))?;
    }
    let archive = dir.join("base.tar").display().to_string();
    let onggi = Engine::onggi(dir);
    onggi.does(&["run", "--rm", "base", "true"])?;
    onggi.does(&["save", "-o", &archive, "base"])?;
    let daemon = dockerd(dir, networks).inspect_err(|why| println!("  docker: skipped: {why}")).ok();
    let mut engines = vec![onggi];
    for mut peer in daemon.iter().map(|_| Engine::docker(dir)).chain([Engine::podman(dir)]) {
        match peer.says(&["load", "-i", &archive]) {
            Ok(said) => {
                peer.image = said.split_whitespace().next_back().unwrap_or("base").into();
                match peer.does(&["run", "--rm", "--network", "none", &peer.image, "true"]) {
                    Ok(()) => engines.push(peer),
                    Err(why) => println!("  {}: skipped: {why}", peer.name),
                }
            }
            Err(why) => println!("  {}: skipped: {why}", peer.name),
        }
    }
    Ok((engines, daemon))
}

/// A dockerd of this program's own, with everything below one folder.
fn dockerd(dir: &Path, networks: bool) -> Outcome<Child> {
    let place = |name: &str| dir.join(name).display().to_string();
    let log = std::fs::File::create(dir.join("dockerd.log"))?;
    let mut command = Command::new("dockerd");
    command.args(["--data-root", &place("docker"), "--exec-root", &place("docker-run"), "--pidfile", &place("docker.pid")]);
    command.args(["-H", &format!("unix://{}", place("docker.sock"))]);
    if !networks {
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    }
    // It is to outlive this process group: the one that clears up asks it to remove its containers.
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let docker = Engine::docker(dir);
    let daemon = docker.there(|| Ok(command.spawn()?))?;
    for _ in 0..150 {
        if docker.does(&["version"]).is_ok() {
            return Ok(daemon);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("dockerd did not answer in 15 s".into())
}

/// The engines in the order of a round.
pub fn turned(engines: &[Engine], round: usize) -> impl Iterator<Item = &Engine> {
    (0..engines.len()).map(move |turn| &engines[(round + turn) % engines.len()])
}

pub fn command_row(title: &str, engines: &[Engine], runs: usize, words: &[&str]) {
    let mut row = Row::new(title);
    for round in 0..runs {
        turned(engines, round).for_each(|engine| row.time(engine, || engine.does(words)));
    }
    row.print();
}

/// Does it in a network namespace, on a thread of its own: sockets that are opened and programs that are started there stay there.
pub fn at<T: Send>(place: &Path, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let file = File::open(place)?;
    let enter_and_work = || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter_and_work).join()).map_err(|_| "the thread there panicked")?
}

/// A network namespace as an engine's host, kept by a mount below `dir`, and another one that is the world outside of it:
/// 192.0.2.1 is the host, 192.0.2.2 is somebody else.
fn host_of_its_own(dir: &Path, name: &str) -> Outcome<()> {
    let (host, outside) = (dir.join(format!("{name}.net")), outside_of(dir, name));
    for place in [&host, &outside] {
        File::create(place)?;
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            ip(&["link", "set", "lo", "up"])?;
            Ok(mount(Some("/proc/thread-self/ns/net"), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        };
        std::thread::scope(|scope| scope.spawn(make).join())
            .map_err(|_| "the thread there panicked")?
            .map_err(|e: Box<dyn Error + Send + Sync>| e)?;
    }
    at(&host, || {
        ip(&["link", "add", "up0", "type", "veth", "peer", "name", "out0"])?;
        ip(&["link", "set", "out0", "netns", &outside.display().to_string()])?;
        ip(&["address", "add", "192.0.2.1/24", "dev", "up0"])?;
        ip(&["link", "set", "up0", "up"])?;
        ip(&["route", "add", "default", "via", "192.0.2.2"])
    })?;
    at(&outside, || {
        ip(&["address", "add", "192.0.2.2/24", "dev", "out0"])?;
        ip(&["link", "set", "out0", "up"])
    })
}

/// The network namespace of somebody outside of an engine's host.
pub fn outside_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.outside"))
}

fn ip(words: &[&str]) -> Outcome<()> {
    let status = Command::new("ip").args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {}: {status}", words.join(" ")).into()) }
}
