//! What each command of a container's life costs, side by side with docker and podman, in one run.
//!
//! ```text
//! cargo bench --bench life                     # as root; peers that are not installed are skipped, and it says so
//! cargo bench --bench life -- life logs        # only these parts: life ps logs stats crowd images cp memory
//! ONGGI_BENCH_RUNS=3 cargo bench --bench life
//! ```
//! Contenders alternate, in an order that turns round by round. Told are the medians of the time that passes and of the CPU time of the
//! command itself, and the ratio to docker. A daemon's CPU time is nobody's child's, and not in it. Nothing is asserted.
//!
//! The measurements are a process of their own; this one waits for it, or for Ctrl-C, and clears up in either case.

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;

type Outcome<T> = Result<T, Box<dyn Error>>;

const ONGGI: &str = env!("CARGO_BIN_EXE_onggi");

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.split_first() {
        Some((mode, [dir, parts @ ..])) if mode == "measure" => measure(Path::new(dir), parts),
        _ if !nix::unistd::geteuid().is_root() => {
            println!("skipped: it makes containers with docker and podman, which need root");
            Ok(())
        }
        _ => supervise(&words),
    }
}

/// Starts the measurements in a process group of their own, waits, and clears up.
fn supervise(parts: &[String]) -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("onggi-life-{}", std::process::id()));
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
struct Engine {
    name: &'static str,
    words: Vec<String>,
    image: String,
}

impl Engine {
    fn new(name: &'static str, words: &[&str]) -> Engine {
        Engine { name, words: words.iter().map(|word| word.to_string()).collect(), image: "base".into() }
    }

    fn onggi(dir: &Path) -> Engine {
        Engine::new("onggi", &["env", &format!("ONGGI_ROOT={}", dir.join("onggi").display()), ONGGI])
    }

    fn docker(dir: &Path) -> Engine {
        Engine::new("docker", &["docker", "-H", &format!("unix://{}", dir.join("docker.sock").display())])
    }

    fn podman(dir: &Path) -> Engine {
        let place = |name: &str| dir.join(name).display().to_string();
        let (conf, root, run) = (format!("CONTAINERS_CONF={}", place("containers.conf")), place("podman"), place("podman-run"));
        Engine::new(
            "podman",
            &["env", &conf, "podman", "--root", &root, "--runroot", &run, "--tmpdir", &run, "--cgroup-manager", "cgroupfs", "--runtime", "runc"],
        )
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn does(&self, words: &[&str]) -> Outcome<()> {
        let status = self.command(words).status()?;
        if status.success() { Ok(()) } else { Err(format!("{} {}: {status}", self.name, words.join(" ")).into()) }
    }

    fn says(&self, words: &[&str]) -> Outcome<String> {
        let output = self.command(words).stdout(Stdio::piped()).output()?;
        if output.status.success() { Ok(String::from_utf8(output.stdout)?) } else { Err(format!("{} {}", self.name, words.join(" ")).into()) }
    }

    fn run(&self, name: &str, program: &[&str]) -> Outcome<()> {
        self.does(&[&["run", "-d", "--network", "none", "--name", name, &self.image], program].concat())
    }

    fn remove_all(&self) {
        let ids = self.says(&["ps", "-aq"]).unwrap_or_default();
        for ids in ids.split_whitespace().collect::<Vec<_>>().chunks(100) {
            let _ = self.does(&[&["rm", "-f"], ids].concat());
        }
    }
}

/// Samples of one question: time passed and CPU time, by engine.
struct Row {
    title: String,
    samples: Vec<(&'static str, Vec<(Duration, Duration)>)>,
}

impl Row {
    fn new(title: impl Into<String>) -> Row {
        Row { title: title.into(), samples: Vec::new() }
    }

    /// Does it and remembers how long it took.
    fn time(&mut self, engine: &Engine, once: impl FnOnce() -> Outcome<()>) {
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

    fn print(&self) {
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

fn cpu_of_children() -> Duration {
    let time = |value: nix::sys::time::TimeVal| Duration::from_micros(value.tv_sec() as u64 * 1_000_000 + value.tv_usec() as u64);
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |usage| time(usage.user_time()) + time(usage.system_time()))
}

fn measure(dir: &Path, parts: &[String]) -> Outcome<()> {
    SigSet::empty().thread_set_mask()?;
    let runs = std::env::var("ONGGI_BENCH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    let (engines, _daemon) = engines(dir)?;
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    println!("  {:<34}{:>22}{:>22}{:>22}{:>10}", "ms: time (CPU of the command)", "onggi", "docker", "podman", "ratio");
    let all: [(&str, Part); 8] =
        [("life", life), ("memory", memory), ("stats", stats), ("crowd", crowd), ("ps", ps), ("logs", logs), ("cp", cp), ("images", images)];
    for (name, part) in all {
        if wanted(name) {
            if let Err(why) = part(dir, &engines, runs) {
                println!("  {name}: {why}");
            }
            engines.iter().for_each(Engine::remove_all);
        }
    }
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

type Part = fn(&Path, &[Engine], usize) -> Outcome<()>;

/// Those that are here, each with the base image.
fn engines(dir: &Path) -> Outcome<(Vec<Engine>, Option<Child>)> {
    let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nevents_logger = \"none\"\n";
    std::fs::write(dir.join("containers.conf"), conf)?;
    let archive = dir.join("base.tar").display().to_string();
    let onggi = Engine::onggi(dir);
    onggi.does(&["run", "--rm", "base", "true"])?;
    onggi.does(&["save", "-o", &archive, "base"])?;
    let daemon = dockerd(dir).inspect_err(|why| println!("  docker: skipped: {why}")).ok();
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
fn dockerd(dir: &Path) -> Outcome<Child> {
    let place = |name: &str| dir.join(name).display().to_string();
    let log = std::fs::File::create(dir.join("dockerd.log"))?;
    let mut command = Command::new("dockerd");
    command.args(["--data-root", &place("docker"), "--exec-root", &place("docker-run"), "--pidfile", &place("docker.pid")]);
    command.args(["-H", &format!("unix://{}", place("docker.sock")), "--bridge=none", "--iptables=false", "--ip6tables=false"]);
    // It is to outlive this process group: the one that clears up asks it to remove its containers.
    let daemon = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
    let docker = Engine::docker(dir);
    for _ in 0..150 {
        if docker.does(&["version"]).is_ok() {
            return Ok(daemon);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("dockerd did not answer in 15 s".into())
}

/// The engines in the order of a round.
fn turned(engines: &[Engine], round: usize) -> impl Iterator<Item = &Engine> {
    (0..engines.len()).map(move |turn| &engines[(round + turn) % engines.len()])
}

/// It ends at SIGTERM, as PID 1 does only when it wants to.
const GENTLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];

fn life(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut rows = ["run -d", "exec true", "stop", "start", "rm"].map(Row::new);
    for round in 0..runs {
        for engine in turned(engines, round) {
            let name = format!("life{round}");
            let [run, exec, stop, start, rm] = &mut rows;
            run.time(engine, || engine.run(&name, &GENTLE));
            exec.time(engine, || engine.does(&["exec", &name, "true"]));
            stop.time(engine, || engine.does(&["stop", &name]));
            start.time(engine, || engine.does(&["start", &name]));
            engine.does(&["kill", &name])?;
            let _ = engine.does(&["wait", &name]);
            rm.time(engine, || engine.does(&["rm", &name]));
        }
    }
    rows.iter().for_each(Row::print);
    Ok(())
}

/// The process that looks after a container: our monitor, containerd's shim, conmon.
fn memory(_: &Path, engines: &[Engine], _: usize) -> Outcome<()> {
    for engine in engines {
        engine.run("memory", &["sleep", "1000"])?;
        let init = engine.says(&["inspect", "-f", "{{.State.Pid}}", "memory"])?;
        let field = |file: &str, key: &str| -> Option<String> {
            let text = std::fs::read_to_string(file).ok()?;
            Some(text.lines().find_map(|line| line.strip_prefix(key))?.trim().to_string())
        };
        let parent = field(&format!("/proc/{}/status", init.trim()), "PPid:").ok_or("its first process is gone")?;
        let own = field(&format!("/proc/{parent}/status"), "RssAnon:").unwrap_or_default();
        let share = field(&format!("/proc/{parent}/smaps_rollup"), "Pss:").unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{parent}/comm"))?;
        println!("  memory of {:<24}RssAnon {own}, Pss {share}", comm.trim());
    }
    Ok(())
}

fn stats(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    for engine in engines {
        (0..3).try_for_each(|number| engine.run(&format!("stats{number}"), &["sleep", "1000"]))?;
    }
    command_row("stats --no-stream, 3 running", engines, runs.min(3), &["stats", "--no-stream"]);
    Ok(())
}

fn command_row(title: &str, engines: &[Engine], runs: usize, words: &[&str]) {
    let mut row = Row::new(title);
    for round in 0..runs {
        turned(engines, round).for_each(|engine| row.time(engine, || engine.does(words)));
    }
    row.print();
}

fn crowd(_: &Path, engines: &[Engine], _: usize) -> Outcome<()> {
    const MANY: usize = 100;
    let (mut run, mut rm) = (Row::new("run -d, 100 at once"), Row::new("rm -f of 100 that run"));
    for engine in engines {
        let names: Vec<String> = (0..MANY).map(|number| format!("crowd{number}")).collect();
        run.time(engine, || {
            let one = |name: &String| engine.command(&["run", "-d", "--network", "none", "--name", name, &engine.image, "sleep", "1000"]).spawn();
            let children = names.iter().map(one).collect::<Result<Vec<Child>, _>>()?;
            let failed = children.into_iter().filter_map(|mut child| child.wait().ok()).filter(|status| !status.success()).count();
            if failed == 0 { Ok(()) } else { Err(format!("{}: {failed} of {MANY} failed", engine.name).into()) }
        });
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        rm.time(engine, || engine.does(&words));
    }
    [run, rm].iter().for_each(Row::print);
    Ok(())
}

/// Of the peers at most a hundred containers: they take a second each to be made.
fn ps(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut there = 0;
    for count in [10, 100, 1000] {
        let part = if count > 100 { &engines[..1] } else { engines };
        for engine in part {
            (there..count)
                .try_for_each(|number| engine.does(&["create", "--network", "none", "--name", &format!("ps{number}"), &engine.image, "true"]))?;
        }
        there = count;
        command_row(&format!("ps, {count} created"), part, runs, &["ps"]);
        command_row(&format!("ps -a, {count} created"), part, runs, &["ps", "-a"]);
    }
    Ok(())
}

fn logs(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (mut write, mut read, mut tail) =
        (Row::new("1,000,000 lines written"), Row::new("logs of 1,000,000 lines"), Row::new("logs --tail 10 of them"));
    for round in 0..runs.min(3) {
        for engine in turned(engines, round) {
            let name = format!("logs{round}");
            write.time(engine, || {
                engine.run(&name, &["seq", "1000000"])?;
                engine.does(&["wait", &name])
            });
            read.time(engine, || engine.does(&["logs", &name]));
            tail.time(engine, || engine.does(&["logs", "--tail", "10", &name]));
            engine.does(&["rm", "-f", &name])?;
        }
    }
    [write, read, tail].iter().for_each(Row::print);
    Ok(())
}

fn cp(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (many, large) = (dir.join("many"), dir.join("large"));
    std::fs::create_dir_all(&many)?;
    (0..5000).try_for_each(|number| std::fs::write(many.join(number.to_string()), format!("file {number}\n")))?;
    std::fs::write(&large, vec![7; 200 << 20])?;
    let mut rows = ["cp of 5,000 files in", "cp of 5,000 files out", "cp of 200 MB in", "cp of 200 MB out"].map(Row::new);
    for engine in engines {
        engine.run("cp", &["sleep", "1000"])?;
    }
    let out: PathBuf = dir.join("out");
    for round in 0..runs.min(3) {
        for engine in turned(engines, round) {
            for (at, from) in [(0, &many), (2, &large)] {
                let (from, inside) = (from.display().to_string(), format!("cp:/tmp/copy{at}-{round}"));
                rows[at].time(engine, || engine.does(&["cp", &from, &inside]));
                std::fs::create_dir_all(&out)?;
                rows[at + 1].time(engine, || engine.does(&["cp", &inside, &out.display().to_string()]));
                std::fs::remove_dir_all(&out)?;
            }
        }
    }
    rows.iter().for_each(Row::print);
    Ok(())
}

fn images(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (folder, archive) = (dir.join("image"), dir.join("image.tar").display().to_string());
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("file"), "content")?;
    let packed = Command::new("tar").arg("-C").arg(&folder).args(["-cf", &archive, "."]).status()?;
    if !packed.success() {
        return Err("tar failed".into());
    }
    for engine in engines {
        // Podman takes longer for each one the more there are.
        let count = if engine.name == "podman" { 50 } else { 500 };
        (0..count).try_for_each(|number| engine.does(&["import", "-c", &format!("LABEL n={number}"), &archive, &format!("many{number}")]))?;
    }
    command_row("images, 500 of them (podman: 50)", engines, runs, &["images"]);
    Ok(())
}
