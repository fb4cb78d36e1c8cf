//! What it costs to start a container, side by side with the peers, in one run.
//!
//! ```text
//! cargo bench --bench start                    # as root; peers that are not installed are skipped, and it says so
//! ONGGI_BENCH_RUNS=20 cargo bench --bench start
//! cargo bench --bench start -- bundle          # only the tables whose name holds this word
//! ```
//! Each round starts every contender once, in an order that turns round by round, so that a machine that is busy for a moment is
//! busy for all of them. Told are the median, its ratio to the table's yardstick, and the memory of the largest process. Nothing is asserted.
//!
//! *Floor* is what the kernel itself asks: the same namespaces, mounts and cgroups made in a straight line by this program, without
//! a config, a record or a program of its own to load.

use std::error::Error;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};

use onggi::image::{self, snapshot};
use onggi::runtime::cgroups::{self, Layout};
use onggi::runtime::{bundle, default_spec};
use onggi::sys::namespace::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};
use onggi::sys::process::{self, Clone, Exit, Forked};
use onggi::sys::{fs, mount, namespace, path};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some((mode, command)) = words.split_first()
        && mode == "measure-memory"
    {
        return measure_memory(command);
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: it makes containers with runc and crun, which need root");
        return Ok(());
    }
    let runs = std::env::var("ONGGI_BENCH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let wanted = |table: &str| words.is_empty() || words.iter().any(|word| table.contains(word.as_str()));
    leave_the_v2_tree_of_a_hybrid_host()?;
    let place = Place::new()?;
    if wanted("bundle") {
        table("bundle: run (create, start, wait, delete)", "crun", runs, &mut bundle_contenders(&place));
    }
    if wanted("steps") {
        table("steps: create, start, wait and delete as commands of their own", "crun", runs, &mut step_contenders(&place));
    }
    if wanted("image") {
        let daemon = Dockerd::start(&place);
        table("image: run --rm, from an image", "onggi run", runs, &mut image_contenders(&place, &daemon)?);
    }
    if wanted("crowd") {
        crowd(&place, runs);
    }
    Ok(())
}

/// One that takes part: a name, and what it does once. The command alone is for the measurement of memory.
struct Contender {
    name: String,
    once: Box<dyn FnMut(usize) -> Outcome<()>>,
    command: Option<Vec<String>>,
}

impl Contender {
    fn new(name: &str, once: impl FnMut(usize) -> Outcome<()> + 'static) -> Contender {
        Contender { name: name.into(), once: Box::new(once), command: None }
    }

    /// A command, in which `@` stands for a name that was never used before.
    fn command(name: &str, words: &[&str]) -> Contender {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        let own = words.clone();
        let once = move |round: usize| succeed(&own.iter().map(|word| word.replace('@', &format!("bench{round}"))).collect::<Vec<_>>());
        Contender { name: name.into(), once: Box::new(once), command: Some(words) }
    }
}

/// Runs all contenders against each other and prints what came out.
fn table(title: &str, yardstick: &str, runs: usize, contenders: &mut Vec<Contender>) {
    println!("\n{title}, {runs} runs");
    // The first round warms caches, and shows who can't take part here.
    contenders.retain_mut(|contender| match (contender.once)(0) {
        Ok(()) => true,
        Err(why) => {
            println!("  {:<34} skipped: {}", contender.name, why.to_string().lines().next_back().unwrap_or("it failed"));
            false
        }
    });
    let mut times: Vec<Vec<Duration>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=runs {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let began = Instant::now();
            match (contenders[at].once)(round) {
                Ok(()) => times[at].push(began.elapsed()),
                Err(why) => println!("  {} failed in round {round}: {why}", contenders[at].name),
            }
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| quantile(times, 0.5)).collect();
    let base = contenders.iter().position(|contender| contender.name == yardstick).map(|at| medians[at]);
    println!("  {:<34}{:>10}{:>10}{:>10}{:>9}{:>12}", "", "median", "fastest", "90 %", "ratio", "peak RSS");
    for (at, contender) in contenders.iter().enumerate() {
        let ratio = base.map_or(String::new(), |base| format!("{:.2} ×", medians[at] / base));
        let (fastest, most) = (quantile(&mut times[at], 0.0), quantile(&mut times[at], 0.9));
        let memory = contender.command.as_deref().and_then(peak_memory).map_or("-".into(), |kib| format!("{:.1} MiB", kib as f64 / 1024.0));
        println!("  {:<34}{:>7.2} ms{fastest:>7.2} ms{most:>7.2} ms{ratio:>9}{memory:>12}", contender.name, medians[at]);
    }
}

/// In milliseconds.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    match times.len() {
        0 => f64::NAN,
        count => times[((count - 1) as f64 * part).round() as usize].as_secs_f64() * 1000.0,
    }
}

fn succeed(words: &[String]) -> Outcome<()> {
    // A file and not a pipe: a container that was created and lives on would hold the pipe open.
    let errors = std::env::temp_dir().join(format!("onggi-bench-{}.stderr", std::process::id()));
    let status =
        Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&errors)?).status()?;
    let said = std::fs::read_to_string(&errors).unwrap_or_default();
    let _ = std::fs::remove_file(&errors);
    if status.success() { Ok(()) } else { Err(format!("{status}\n{}", said.trim()).into()) }
}

/// The largest resident set among the processes that a command waits for, in KiB. This program starts itself anew to ask: the kernel
/// tells the maximum over all children that ever were (getrusage(2)). Daemons, which are nobody's children, are not in it.
fn peak_memory(command: &[String]) -> Option<u64> {
    let own = std::env::current_exe().ok()?;
    let command = command.iter().map(|word| word.replace('@', "benchmemory"));
    let output = Command::new(own).arg("measure-memory").args(command).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn measure_memory(command: &[String]) -> Outcome<()> {
    succeed(command)?;
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

/// A hybrid host's v2 tree stands beside v1's, and crun refuses such a host. In a mount namespace of this program's own it is taken
/// away for everybody: all contenders then use the same trees.
fn leave_the_v2_tree_of_a_hybrid_host() -> Outcome<()> {
    if let Layout::Hybrid { unified, .. } = cgroups::detect()? {
        namespace::unshare(CLONE_NEWNS)?;
        mount::mount(None, Path::new("/"), None, mount::MS_REC | mount::MS_PRIVATE, None)?;
        mount::umount2(&unified.mount, mount::MNT_DETACH)?;
        println!("cgroups: v1 alone; {} is out of sight, because crun refuses a hybrid host", unified.mount.display());
    }
    Ok(())
}

/// A folder in memory with all that the contenders need; removed in the end.
struct Place {
    dir: PathBuf,
    bundle: PathBuf,
}

impl Place {
    fn new() -> Outcome<Place> {
        let dir = PathBuf::from(format!("/dev/shm/onggi-bench-{}", std::process::id()));
        let place = Place { bundle: dir.join("bundle"), dir };
        std::fs::create_dir_all(&place.bundle)?;
        let store = image::store::Store::open(&place.dir.join("onggi/data"))?;
        let (image, _) = image::base::ensure(&store)?;
        let layers = snapshot::prepare(&image.layers, &place.dir.join("layers"))?.lowers;
        let layer = layers.first().ok_or("the base image has no layer")?;
        succeed(&["cp".into(), "-a".into(), layer.display().to_string(), place.bundle.join("rootfs").display().to_string()])?;
        let mut spec = default_spec::spec(false);
        // crun of Debian 12 knows no later version; limits can't be raised where CAP_SYS_RESOURCE is missing.
        spec.oci_version = "1.0.2".into();
        let process = spec.process.as_mut().ok_or("the default spec has no process")?;
        process.terminal = false;
        process.args = vec!["true".into()];
        process.rlimits.clear();
        bundle::write(&place.bundle, &spec)?;
        Ok(place)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn bundle(&self) -> String {
        self.bundle.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const RUNTIMES: [(&str, &str); 3] = [("onggi-runtime", env!("CARGO_BIN_EXE_onggi-runtime")), ("crun", "crun"), ("runc", "runc")];

fn bundle_contenders(place: &Place) -> Vec<Contender> {
    let rootfs = place.bundle.join("rootfs");
    let mut contenders = vec![Contender::new("floor", move |round| floor(&rootfs, round)), Contender::command("a process alone (true)", &["true"])];
    for (name, program) in RUNTIMES {
        contenders.push(Contender::command(name, &[program, "--root", &place.path(name), "run", "--bundle", &place.bundle(), "@"]));
    }
    contenders
}

/// What the kernel asks of whoever makes a container, and nothing else.
fn floor(rootfs: &Path, round: usize) -> Outcome<()> {
    let layout = cgroups::detect()?;
    let name = format!("onggi-bench-floor-{round}");
    let legacy: Vec<PathBuf> = layout.legacy().iter().map(|hierarchy| hierarchy.own_dir().join(&name)).collect();
    let unified = layout.unified().map(|hierarchy| hierarchy.own_dir().join(&name));
    for dir in legacy.iter().chain(&unified) {
        fs::mkdir(dir, 0o755)?;
        if dir.join("cpuset.cpus").exists() && legacy.contains(dir) {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(&dir.join(file), fs::read(&dir.with_file_name(file))?.trim())?;
            }
        }
    }
    let born_in = unified.as_deref().map(path::open_root).transpose()?;
    let flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET;
    let exit = match process::clone3(&Clone { flags, cgroup: born_in.as_ref().map(|dir| dir.as_fd()) })? {
        Forked::Child => {
            let Err(why) = floor_inside(rootfs, &legacy);
            eprintln!("the floor's container: {why}");
            process::exit_now(1)
        }
        Forked::Parent { pidfd, .. } => process::wait(pidfd.as_fd())?,
    };
    legacy.iter().chain(&unified).try_for_each(|dir| fs::rmdir(dir))?;
    if exit == Exit::Code(0) { Ok(()) } else { Err(format!("{exit:?}").into()) }
}

fn floor_inside(rootfs: &Path, cgroups: &[PathBuf]) -> Outcome<std::convert::Infallible> {
    for dir in cgroups {
        fs::write(&dir.join("tasks"), "0")?;
    }
    namespace::loopback_up()?;
    mount::mount(None, Path::new("/"), None, mount::MS_REC | mount::MS_SLAVE, None)?;
    let root = rootfs.to_str().ok_or("a path that is no text")?;
    mount::mount(Some(root), rootfs, None, mount::MS_BIND | mount::MS_REC, None)?;
    let kernel = [
        ("proc", "proc", None),
        ("dev", "tmpfs", Some("mode=755")),
        ("dev/pts", "devpts", Some("newinstance,ptmxmode=0666")),
        ("dev/shm", "tmpfs", Some("mode=1777")),
        ("dev/mqueue", "mqueue", None),
        ("sys", "sysfs", None),
    ];
    for (target, kind, options) in kernel {
        std::fs::create_dir_all(rootfs.join(target))?;
        mount::mount(Some(kind), &rootfs.join(target), Some(kind), 0, options)?;
    }
    let dev = path::open_root(&rootfs.join("dev"))?;
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
        path::mknodat(&dev, Path::new(name), 0o666 | nix::sys::stat::SFlag::S_IFCHR.bits(), nix::sys::stat::makedev(major, minor))?;
    }
    fs::chdir(rootfs)?;
    mount::pivot_root(Path::new("."), Path::new("."))?;
    mount::umount2(Path::new("."), mount::MNT_DETACH)?;
    fs::chdir(Path::new("/"))?;
    namespace::sethostname("floor")?;
    let argv = [CString::new("true")?];
    Err(process::execve(&CString::new("/usr/bin/true")?, &argv, &[]).into())
}

fn step_contenders(place: &Place) -> Vec<Contender> {
    let mut contenders = Vec::new();
    for (name, program) in RUNTIMES {
        let (root, bundle, pid_file) = (place.path(name), place.bundle(), place.path("pid"));
        contenders.push(Contender::new(name, move |round| {
            let id = format!("step{round}");
            let call =
                |words: &[&str]| succeed(&[&[program, "--root", &root], words].concat().iter().map(|word| word.to_string()).collect::<Vec<_>>());
            call(&["create", "--bundle", &bundle, "--pid-file", &pid_file, &id])?;
            let first = process::pidfd_open(std::fs::read_to_string(&pid_file)?.trim().parse()?)?;
            call(&["start", &id])?;
            poll(&mut [PollFd::new(first.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
            // Who is not its parent may look before the record says "stopped": -f takes it in either case.
            call(&["delete", "-f", &id])
        }));
    }
    contenders
}

fn image_contenders(place: &Place, daemon: &Option<Dockerd>) -> Outcome<Vec<Contender>> {
    let home = format!("ONGGI_ROOT={}", place.path("onggi"));
    let mut contenders = vec![Contender::command("onggi run", &["env", &home, env!("CARGO_BIN_EXE_onggi"), "run", "--rm", "base", "true"])];
    contenders.push(Contender::command(
        "crun (a bundle, for comparison)",
        &["crun", "--root", &place.path("crun"), "run", "--bundle", &place.bundle(), "@"],
    ));
    let archive = place.path("base.tar");
    succeed(&["tar".into(), "-C".into(), place.bundle.join("rootfs").display().to_string(), "-cf".into(), archive.clone(), ".".into()])?;
    let conf = place.path("containers.conf");
    std::fs::write(&conf, "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nevents_logger = \"none\"\n")?;
    let (root, runroot, conf) = (place.path("podman"), place.path("podman-run"), format!("CONTAINERS_CONF={conf}"));
    let podman = ["env", conf.as_str(), "podman", "--root", &root, "--runroot", &runroot, "--cgroup-manager", "cgroupfs"];
    let podman_and = |words: &[&str]| [&podman[..], words].concat().iter().map(|word| word.to_string()).collect::<Vec<_>>();
    match succeed(&podman_and(&["import", &archive, "base"])) {
        Ok(()) => {
            for (name, runtime) in RUNTIMES {
                let words = podman_and(&["--runtime", runtime, "run", "--rm", "--network", "none", "base", "true"]);
                contenders.push(Contender::command(&format!("podman with {name}"), &words.iter().map(String::as_str).collect::<Vec<_>>()));
            }
        }
        Err(why) => println!("  podman: skipped: {why}"),
    }
    if let Some(daemon) = daemon {
        match succeed(&["docker".into(), "-H".into(), daemon.host.clone(), "import".into(), archive, "base".into()]) {
            Ok(()) => contenders.push(Contender::command(
                "docker (its client; dockerd is up)",
                &["docker", "-H", &daemon.host, "run", "--rm", "--network", "none", "base", "true"],
            )),
            Err(why) => println!("  docker: skipped: {why}"),
        }
    }
    Ok(contenders)
}

/// A dockerd of this program's own, with everything below one folder; ended when dropped.
struct Dockerd {
    process: Child,
    host: String,
}

impl Dockerd {
    fn start(place: &Place) -> Option<Dockerd> {
        let host = format!("unix://{}", place.path("docker.sock"));
        let log = std::fs::File::create(place.path("dockerd.log")).ok()?;
        let mut command = Command::new("dockerd");
        command.args(["--data-root", &place.path("docker"), "--exec-root", &place.path("docker-run"), "--pidfile", &place.path("docker.pid")]);
        command.args(["-H", &host, "--bridge=none", "--iptables=false", "--ip6tables=false"]);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().ok()?).stderr(log).spawn();
        let daemon = match process {
            Ok(process) => Dockerd { process, host },
            Err(why) => {
                println!("  docker: skipped: dockerd: {why}");
                return None;
            }
        };
        for _ in 0..150 {
            if succeed(&["docker".into(), "-H".into(), daemon.host.clone(), "version".into()]).is_ok() {
                return Some(daemon);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("  docker: skipped: dockerd did not answer in 15 s");
        None
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// Whether the start of one more container takes longer when many are there.
fn crowd(place: &Place, runs: usize) {
    const MANY: usize = 200;
    table("crowd: run with no other container there", "crun", runs, &mut runtime_contenders(place, "crowd"));
    let mut there = Vec::new();
    for (name, program) in RUNTIMES {
        for number in 0..MANY {
            let words = [program, "--root", &place.path(&format!("crowd-{name}")), "create", "--bundle", &place.bundle(), &format!("many{number}")];
            match succeed(&words.map(String::from)) {
                Ok(()) => there.push((name, program, number)),
                Err(why) => {
                    println!("  {name}: {number} of {MANY} containers made: {why}");
                    break;
                }
            }
        }
    }
    table(&format!("crowd: run with {MANY} created containers of each runtime there"), "crun", runs, &mut runtime_contenders(place, "crowd"));
    for (name, program, number) in there {
        let words = [program, "--root", &place.path(&format!("crowd-{name}")), "delete", "-f", &format!("many{number}")];
        if let Err(why) = succeed(&words.map(String::from)) {
            println!("  {name}: many{number} stays: {why}");
        }
    }
    let home = format!("ONGGI_ROOT={}", place.path("onggi"));
    let run = |remove: &[&str]| [&["env", &home, env!("CARGO_BIN_EXE_onggi"), "run"], remove, &["base", "true"]].concat().join("\n");
    let (once, kept) = (run(&["--rm"]), run(&[]));
    let contender = || vec![Contender::command("onggi run", &once.split('\n').collect::<Vec<_>>())];
    table("crowd: onggi run with no other record there", "onggi run", runs, &mut contender());
    for _ in 0..MANY {
        if let Err(why) = succeed(&kept.split('\n').map(String::from).collect::<Vec<_>>()) {
            println!("  {why}");
        }
    }
    table(&format!("crowd: onggi run with {MANY} containers that have ended there"), "onggi run", runs, &mut contender());
}

fn runtime_contenders(place: &Place, prefix: &str) -> Vec<Contender> {
    let one = |(name, program): (&str, &str)| {
        let root = place.path(&format!("{prefix}-{name}"));
        Contender::command(name, &[program, "--root", &root, "run", "--bundle", &place.bundle(), "@"])
    };
    RUNTIMES.map(one).into()
}
