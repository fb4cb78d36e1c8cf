//! `process.terminal` and `--console-socket`: the container's pseudo-terminal, its first size, and whose it is.
//!
//! Read: pty(7), config.md "terminal" and "consoleSize", runc's docs/terminals.md.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use support::container::{Bench, wait_for};

/// Whoever sits in front of a container: a socket at which its terminal's master arrives.
struct Console {
    path: PathBuf,
    master: JoinHandle<(Vec<u8>, OwnedFd)>,
}

fn console(bench: &Bench, name: &str) -> Console {
    let path = bench.dir.join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let master = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let (name, fds) = onggi::sys::fd::receive(stream.as_fd()).unwrap();
        (name, fds.into_iter().next().expect("a descriptor came"))
    });
    Console { path, master }
}

/// What comes out of a terminal up to the end of its first line.
fn line(master: &mut File) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.last() != Some(&b'\n') {
        master.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn the_terminal_has_its_size_from_the_first_moment() {
    let Some(bench) = Bench::new() else { return };
    let console = console(&bench, "console.sock");
    let container = bench.container(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({ "height": 40, "width": 120 });
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        spec["process"]["user"] = json!({ "uid": 33, "gid": 34 });
    });
    container.create_with(&["--console-socket", console.path.to_str().unwrap()]).ok();
    let (name, master) = console.master.join().unwrap();
    assert_eq!(name, b"/dev/ptmx");
    container.start();
    let mut master = File::from(master);
    let seen: Value = serde_json::from_str(&line(&mut master)).unwrap();
    for number in 0..3 {
        assert_eq!((&seen["tty"][number]["rows"], &seen["tty"][number]["columns"]), (&json!(40), &json!(120)));
    }
    // The terminal controls it: it is the session's, and its foreground group.
    assert_eq!((&seen["tty"][0]["foreground"], &seen["sid"]), (&json!(1), &json!(1)));
    assert_eq!(seen["fds"], json!({ "0": "/dev/pts/0", "1": "/dev/pts/0", "2": "/dev/pts/0" }));
    let process = container.process();
    assert_eq!(process.mount("/dev/console").fstype, "devpts");
    assert_eq!(std::fs::metadata(process.file("/dev/pts/0")).unwrap().uid(), 33, "its user may open it");
    // A key goes in; Ctrl-C is the line discipline's to turn into a signal.
    master.write_all(b"\x03").unwrap();
    assert!(wait_for("the signal", || {
        let text = line(&mut master);
        text.contains("\"signal\":2").then_some(true)
    }));
}

#[test]
fn a_terminal_without_anybody_to_take_it_is_refused_and_so_is_the_contrary() {
    let Some(bench) = Bench::new() else { return };
    let alone = bench.container(|spec| spec["process"]["terminal"] = json!(true));
    assert!(alone.create_with(&[]).refused().contains("console socket"));
    let listener = UnixListener::bind(bench.dir.join("unused.sock")).unwrap();
    let plain = bench.container(|_| {});
    assert!(
        plain.create_with(&["--console-socket", bench.dir.join("unused.sock").to_str().unwrap()]).refused().contains("process.terminal is false")
    );
    let nobody = bench.container(|spec| spec["process"]["terminal"] = json!(true));
    assert!(nobody.create_with(&["--console-socket", "/no/such/socket"]).refused().contains("console socket"));
    drop(listener);
    bench.is_clean();
}

#[test]
fn a_container_without_devpts_says_what_is_missing() {
    let Some(bench) = Bench::new() else { return };
    let console = console(&bench, "console.sock");
    let container = bench.container(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    });
    let error = container.create_with(&["--console-socket", console.path.to_str().unwrap()]).refused();
    assert!(error.contains("devpts"), "{error}");
    bench.is_clean();
    drop(console.master);
}

#[test]
fn exec_with_a_terminal_has_one_of_its_own() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|_| {});
    let console = console(&bench, "console.sock");
    let socket = console.path.to_str().unwrap();
    container.exec(&["--tty", "--detach", "--console-socket", socket], &["/bin/probe"]).ok();
    let mut master = File::from(console.master.join().unwrap().1);
    let seen: Value = serde_json::from_str(&line(&mut master)).unwrap();
    assert_eq!(seen["fds"]["0"], "/dev/pts/0");
    assert_eq!(seen["tty"][0]["foreground"], seen["pid"]);
}

/// From a terminal of 31 rows and 97 columns, as `script` makes one: the runtime hands the size on before the program starts.
#[test]
fn run_and_exec_in_the_foreground_have_the_callers_size_first() {
    let Some(bench) = Bench::new() else { return };
    if support::peer("script").is_none() || support::peer("stty").is_none() {
        return;
    }
    let typed = |words: String| {
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("stty rows 31 cols 97; {words}"), "/dev/null"]);
        let out = bench.finish(command.env("ONGGI_BENCH", &bench.name).stdin(std::process::Stdio::null())).out;
        // At the end of its input script(1) types a NUL, and a terminal echoes it, wherever the output just is.
        let out = out.replace("^@", "");
        // script(1) puts its own words before it.
        let json = out.find("{\"pid\"").and_then(|at| out[at..].lines().next()).unwrap_or_else(|| panic!("{out}"));
        serde_json::from_str::<Value>(json).unwrap_or_else(|e| panic!("{e}: {json}"))["tty"][0].clone()
    };
    let runtime = format!("{} --root {}", env!("CARGO_BIN_EXE_onggi-runtime"), bench.root().display());
    let container = bench.container(|spec| spec["process"]["terminal"] = json!(true));
    let tty = typed(format!("{runtime} run --bundle {} {}", container.bundle.display(), container.id));
    assert_eq!((&tty["rows"], &tty["columns"]), (&json!(31), &json!(97)), "run");
    let waiting = bench.waiting(|_| {});
    for round in 0..5 {
        let tty = typed(format!("{runtime} exec --tty {} /bin/probe", waiting.id));
        assert_eq!((&tty["rows"], &tty["columns"]), (&json!(31), &json!(97)), "exec, round {round}");
    }
}

/// A peer once gave the host's /dev/null away with `exec -d -u 1000 … </dev/null`.
#[test]
fn the_hosts_dev_null_keeps_its_owner_and_mode() {
    let Some(bench) = Bench::new() else { return };
    let look = || std::fs::metadata("/dev/null").map(|stat| (stat.uid(), stat.gid(), stat.mode())).unwrap();
    let before = look();
    let container = bench.waiting(|spec| spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    container.exec(&["--detach", "--user", "1000:1000"], &["/bin/probe"]).ok();
    let console = console(&bench, "console.sock");
    container.exec(&["--tty", "--detach", "--user", "1000:1000", "--console-socket", console.path.to_str().unwrap()], &["/bin/probe"]).ok();
    drop(console.master.join().unwrap());
    assert_eq!(look(), before);
}
