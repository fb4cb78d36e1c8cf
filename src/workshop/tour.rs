//! `onggi tour`: a real container is made, and the things that make it one are shown, each as a fact of the kernel: before and after,
//! inside and outside.
//!
//! Inside, the probe says what it sees; outside, `/proc` of its process on the host is read. Nothing is told that wasn't read.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use colored::Colorize;
use serde_json::Value;

use super::tour_network::{self, Town};
use super::tour_stops::{self, Stop};
use crate::engine::create::Notice;
use crate::engine::home::Home;
use crate::engine::monitor::control::Attach;
use crate::engine::request::{Limits, Request};
use crate::engine::run::{self, Running};
use crate::engine::{record, stop};
use crate::error::{Class, Error, Result};
use crate::inspect::process;
use crate::locale;

/// See how a container is made, in less than a minute
#[derive(Debug, Args)]
pub struct TourArgs {
    /// The language: en or ko; from LANG otherwise
    #[arg(long, value_parser = ["en", "ko"])]
    lang: Option<String>,
    /// Go on by itself; otherwise each stop waits for Enter on a terminal
    #[arg(long)]
    no_wait: bool,
}

/// What the stops are told from.
pub struct Scene<'a> {
    /// What the probe said, inside.
    pub inside: Value,
    /// The container's first process on the host.
    pub pid: String,
    /// Its monitor.
    pub monitor: String,
    /// Its cgroup's directories on the host.
    pub cgroups: &'a [PathBuf],
    pub rootless: bool,
    /// Two containers on a network, or why there are none here.
    pub town: Result<Town>,
    /// Namespaces of this program, which stand for the host's: (kind, link).
    pub before: Vec<(&'static str, String)>,
}

impl Scene<'_> {
    /// A fact that the probe told: `capabilities.effective`.
    pub fn inside(&self, path: &str) -> String {
        match path.split('.').fold(&self.inside, |value, key| &value[key]) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// This program's own namespace of a kind.
    pub fn before(&self, kind: &str) -> String {
        self.before.iter().find(|(known, _)| *known == kind).map(|(_, link)| link.clone()).unwrap_or_default()
    }
}

const KINDS: [&str; 6] = ["pid", "mnt", "uts", "net", "ipc", "user"];

struct Teller {
    korean: bool,
    waits: bool,
    out: std::io::Stdout,
}

/// Walks through a container's making.
///
/// # Errors
/// Those of `run`.
pub fn tour(args: &TourArgs) -> Result<u8> {
    let korean = args.lang.as_ref().map_or_else(locale::is_korean, |language| language == "ko");
    let out = std::io::stdout();
    let waits = !args.no_wait && out.is_terminal() && std::io::stdin().is_terminal();
    let mut teller = Teller { korean, waits, out };
    match walk(&mut teller) {
        Err(Ended::Pipe) => Ok(0),
        Err(Ended::Failed(e)) => Err(e),
        Ok(()) => Ok(0),
    }
}

/// `| head` ends the tour without a complaint.
enum Ended {
    Pipe,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(e: Error) -> Ended {
        Ended::Failed(e)
    }
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Ended {
        Ended::Pipe
    }
}

fn walk(teller: &mut Teller) -> std::result::Result<(), Ended> {
    let home = Home::open()?;
    teller.title("A container, made before your eyes", "눈앞에서 만들어지는 컨테이너")?;
    teller.say(
        "There is no container in the kernel. There is a process, and a handful of things that the kernel does for it.",
        "커널에 컨테이너라는 것은 없습니다. 프로세스가 하나 있고, 커널이 그 프로세스에게 해 주는 몇 가지 일이 있을 뿐입니다.",
    )?;
    let before = KINDS.iter().filter_map(|kind| Some((*kind, process::namespace("self", kind).ok()?.value))).collect();
    let mounts_before = process::mounts_below(&home.data);
    let (mut running, made, took) = make(&home)?;
    if let Some(made) = made {
        teller.say(
            &format!("The image `base` was not there, so it was made from this machine's own programs: {made}."),
            &format!("이미지 `base`가 없어서 이 컴퓨터의 프로그램으로 만들었습니다: {made}."),
        )?;
    }
    let inside = probe_says(running.attached.as_mut().and_then(|attached| attached.streams.stdout.take()))?;
    let container = record::load(&home, &running.id)?;
    let pid = container.state.init.map_or(0, |init| init.pid).to_string();
    let cgroups: Vec<PathBuf> = container.state.cgroup.iter().flat_map(|place| place.dirs()).map(PathBuf::from).collect();
    teller.say(
        &format!("A container was made in {took:.1} ms. On this machine its first process is {}.", pid.bold()),
        &format!("컨테이너를 {took:.1} ms 만에 만들었습니다. 이 컴퓨터에서 그 첫 프로세스는 {}번입니다.", pid.bold()),
    )?;
    let monitor = container.state.monitor.map_or(0, |monitor| monitor.pid).to_string();
    let town = tour_network::visit(&home);
    let scene = Scene { inside, pid: pid.clone(), monitor, cgroups: &cgroups, rootless: home.rootless, town, before };
    for (number, stop) in tour_stops::all(&scene).into_iter().enumerate() {
        teller.stop(number + 1, &stop)?;
    }
    farewell(teller, &home, &container, &cgroups, mounts_before)
}

/// Creates the container, with limits where this user has a cgroup to limit with.
fn make(home: &Home) -> Result<(Running, Option<String>, f64)> {
    let limited = Limits { memory: Some(64 << 20), pids: Some(32), ..Limits::default() };
    let request = |limits| Request {
        image: "base".into(),
        command: vec!["probe".into(), "wait".into()],
        hostname: Some("jar".into()),
        remove: true,
        limits,
        ..Request::default()
    };
    let mut made = None;
    let mut began = Instant::now();
    let mut attempt = |limits| {
        began = Instant::now();
        run::run(home, &request(limits), Some(Attach { stdout: true, ..Attach::default() }), &mut |notice| {
            if let Notice::BaseMade(how) = notice {
                made = Some(how.to_string());
                began = Instant::now();
            }
        })
    };
    let running = match attempt(limited) {
        Err(e) if home.rootless && matches!(e.class, Class::Denied | Class::Unsupported) => attempt(Limits::default())?,
        other => other?,
    };
    Ok((running, made, began.elapsed().as_secs_f64() * 1000.0))
}

/// The first line of the probe: one JSON object.
fn probe_says(output: Option<OwnedFd>) -> Result<Value> {
    let mut line = String::new();
    if let Some(output) = output {
        let _ = BufReader::new(File::from(output)).read_line(&mut line);
    }
    serde_json::from_str(&line).map_err(|e| Error::new(Class::System, "hear the probe in the container", e.to_string()))
}

fn farewell(
    teller: &mut Teller,
    home: &Home,
    container: &record::Record,
    cgroups: &[PathBuf],
    mounts_before: usize,
) -> std::result::Result<(), Ended> {
    let (pid, id) = (container.state.init.map_or(0, |init| init.pid), &container.id);
    stop::stop(home, container, None, None)?;
    let gone = |there: bool| if there { "still there".red() } else { "gone".green() };
    let number = tour_stops::COUNT + 1;
    teller.heading(number, "Afterwards nothing is left", "끝나면 아무것도 남지 않는다")?;
    teller.say(
        "Its first process got SIGTERM and ended. With the last process of a namespace the namespace goes, with its mounts and devices.",
        "첫 프로세스가 SIGTERM을 받고 끝났습니다. 네임스페이스의 마지막 프로세스가 끝나면 네임스페이스도, 그 마운트와 장치도 사라집니다.",
    )?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    teller.fact("process", &format!("{} {}", proc.display(), gone(proc.exists())))?;
    teller.fact("files", &format!("{} {}", home.container(id).display(), gone(home.container(id).exists())))?;
    let dir = cgroups.first().cloned();
    if let Some(dir) = dir {
        teller.fact("cgroup", &format!("{} {}", dir.display(), gone(dir.exists())))?;
    }
    let mounts = process::mounts_below(&home.data);
    teller.fact("mounts", &format!("{mounts} of ours on the host, {mounts_before} before"))?;
    teller.title("Now try it yourself", "이제 직접 해 보세요")?;
    for (command, en, ko) in tour_stops::NEXT {
        let why = if teller.korean { ko } else { en };
        writeln!(teller.out, "  {}  {}", format!("{command:<44}").bold(), why.dimmed())?;
    }
    Ok(())
}

impl Teller {
    fn title(&mut self, en: &str, ko: &str) -> std::io::Result<()> {
        let text = if self.korean { ko } else { en };
        writeln!(self.out, "\n{}\n", text.bold().underline())
    }

    fn say(&mut self, en: &str, ko: &str) -> std::io::Result<()> {
        writeln!(self.out, "{}", if self.korean { ko } else { en })
    }

    fn heading(&mut self, number: usize, en: &str, ko: &str) -> std::io::Result<()> {
        let text = if self.korean { ko } else { en };
        if self.waits {
            write!(self.out, "\n{}", if self.korean { "Enter ⏎ " } else { "press Enter " }.dimmed())?;
            self.out.flush()?;
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        writeln!(self.out, "\n{} {}", format!("{number} ·").cyan().bold(), text.cyan().bold())
    }

    fn fact(&mut self, name: &str, value: &str) -> std::io::Result<()> {
        writeln!(self.out, "    {} {value}", format!("{name:<9}").dimmed())
    }

    fn stop(&mut self, number: usize, stop: &Stop) -> std::io::Result<()> {
        self.heading(number, stop.title.0, stop.title.1)?;
        self.say(stop.story.0, stop.story.1)?;
        for (name, value) in &stop.facts {
            self.fact(name, value)?;
        }
        for line in stop.picture.lines() {
            writeln!(self.out, "    {line}")?;
        }
        self.fact("see it", &stop.see.italic().to_string())
    }
}
