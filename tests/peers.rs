//! Other engines with `onggi-runtime` below them: dockerd (through containerd and its shim) and podman run real containers with it,
//! and see no difference.
//!
//! Each daemon is our own, below a folder of its own; networks are `none` and `host`, so that no rule of this machine changes.
//!
//! See it: `docker run --runtime onggi …`. Read: runtime.md of the OCI runtime specification, dockerd(8), podman(1) `--runtime`.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::jar::{Jar, RUNTIME, Said, said, until};
use support::peer;
use support::short::{Short, unmount_below};

/// A root file system of busybox alone, as a tar archive.
fn busybox_archive(folder: &Path, busybox: &Path) -> PathBuf {
    let root = folder.join("rootfs");
    for dir in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in ["sh", "echo", "cat", "sleep", "id", "pwd", "stty", "tail", "touch", "ps", "hostname", "true", "ls", "grep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    let archive = folder.join("rootfs.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap().success());
    archive
}

/// An engine with our runtime: the words before its command, and those behind `run`.
struct Engine {
    words: Vec<String>,
    run: Vec<String>,
    daemon: Option<Child>,
    folder: Jar,
    _short: Short,
}

impl Engine {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        match words {
            ["run", rest @ ..] => command.arg("run").args(&self.run).args(rest),
            _ => command.args(words),
        };
        // conmon writes a file named `oom` into the folder that podman was started in.
        command.stdin(Stdio::null()).current_dir(&self.folder.root);
        command
    }

    fn says(&self, words: &[&str]) -> Said {
        said(self.command(words).output().expect("start the engine's command"))
    }

    /// Its standard output; a failure fails the test.
    #[track_caller]
    fn shows(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "{words:?}: {} {}", said.out, said.err);
        said.out.trim_end().to_string()
    }

    /// In a terminal of 33 rows and 111 columns.
    fn in_terminal(&self, words: &[&str]) -> Said {
        let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let command = self.command(words);
        let line: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
        let line = format!("stty rows 33 cols 111; {}", line.join(" "));
        let mut said = said(Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap());
        // At the end of its input script(1) types a NUL, and a terminal echoes it, wherever the output just is.
        said.out = said.out.replace("^@", "");
        said
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let ids = self.says(&["ps", "-aq"]).out;
        for id in ids.split_whitespace() {
            let _ = self.says(&["rm", "-f", id]);
        }
        if let Some(daemon) = &mut self.daemon {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM);
            let _ = daemon.wait();
        }
        // Mounts that the engine keeps (its netns, its shm) would hold the folder.
        unmount_below(&self.folder.root);
    }
}

fn dockerd() -> Option<Engine> {
    let (dockerd, docker, busybox) = (peer("dockerd")?, peer("docker")?, peer("busybox")?);
    let (folder, short) = (root_folder()?, Short::new());
    let host = short.host();
    let log = std::fs::File::create(folder.root.join("log")).unwrap();
    let daemon = Command::new(dockerd)
        .args(short.dockerd(&folder.root))
        .args(["--add-runtime", &format!("onggi={RUNTIME}")])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start dockerd");
    let words = vec![docker.display().to_string(), "-H".into(), host];
    let engine = Engine { words, run: ["--runtime", "onggi"].map(String::from).to_vec(), daemon: Some(daemon), folder, _short: short };
    until("dockerd answers", || engine.says(&["version"]).code == 0);
    let archive = busybox_archive(&engine.folder.root, &busybox);
    engine.shows(&["import", archive.to_str().unwrap(), "bb"]);
    Some(engine)
}

fn podman() -> Option<Engine> {
    let (podman, busybox) = (peer("podman")?, peer("busybox")?);
    let (folder, short) = (root_folder()?, Short::new());
    let mut words = [vec![podman.display().to_string()], short.podman(&folder.root)].concat();
    words.extend(["--runtime", RUNTIME, "--cgroup-manager", "cgroupfs", "--events-backend", "file"].map(String::from));
    let engine = Engine { words, run: Vec::new(), daemon: None, folder, _short: short };
    let archive = busybox_archive(&engine.folder.root, &busybox);
    engine.shows(&["import", archive.to_str().unwrap(), "bb"]);
    Some(engine)
}

fn root_folder() -> Option<Jar> {
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("this engine runs as root, and this is not root");
        return None;
    }
    Some(Jar::empty())
}

/// What every engine's user does in the first hour.
fn the_usual_works(engine: &Engine) {
    let none = ["run", "--rm", "--network", "none"];
    let run = |words: &[&str]| engine.says(&[&none[..], words].concat());
    assert_eq!(run(&["bb", "echo", "한글"]).out, "한글\n");
    assert_eq!(run(&["bb", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(run(&["bb", "nonsense"]).code, 127);
    assert_eq!(run(&["bb", "/etc"]).code, 126);
    assert_eq!(run(&["--read-only", "bb", "touch", "/x"]).code, 1);
    assert_eq!(run(&["-m", "16m", "bb", "tail", "-n1", "/dev/zero"]).code, 137);
    assert_eq!(run(&["-u", "5:6", "-w", "/bin", "-e", "A=1", "bb", "sh", "-c", "echo $(id -u):$(id -g) $(pwd) $A"]).out, "5:6 /bin 1\n");
    let host = engine.says(&["run", "--rm", "--network", "host", "bb", "ls", "/proc/self/ns/net"]);
    assert_eq!(host.code, 0, "{host:?}");

    // The first size comes a little after the start, from these engines' commands. Podman may lose what is written in the last moment.
    let sized = engine.in_terminal(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-it",
        "bb",
        "sh",
        "-c",
        "until stty size 2>/dev/null | grep '33 111'; do :; done; sleep 0.5",
    ]);
    assert!(sized.out.contains("33 111"), "{sized:?}");
}

/// A container in the background, from start to removal.
fn a_life_works(engine: &Engine) {
    let program = "trap 'exit 3' TERM; echo started; while :; do sleep 0.05; done";
    engine.shows(&["run", "-d", "--name", "life", "--network", "none", "-m", "64m", "bb", "sh", "-c", program]);
    assert_eq!(engine.shows(&["exec", "life", "echo", "in"]), "in");
    assert_eq!(engine.shows(&["exec", "-u", "5", "-w", "/bin", "-e", "X=1", "life", "sh", "-c", "echo $(id -u) $(pwd) $X"]), "5 /bin 1");
    assert_eq!(engine.says(&["exec", "life", "sh", "-c", "exit 5"]).code, 5);
    assert!(matches!(engine.says(&["exec", "life", "nonsense"]).code, 126 | 127));
    let sized = engine.in_terminal(&["exec", "-it", "life", "sh", "-c", "until stty size 2>/dev/null | grep '33 111'; do :; done; sleep 0.5"]);
    assert!(sized.out.contains("33 111"), "{sized:?}");

    assert!(engine.shows(&["top", "life"]).contains("sleep"));
    let stats = engine.shows(&["stats", "--no-stream", "life"]);
    assert!(stats.contains("64MiB") || stats.contains("67.11MB"), "{stats}");
    engine.shows(&["pause", "life"]);
    assert_eq!(engine.shows(&["inspect", "-f", "{{.State.Status}}", "life"]), "paused");
    engine.shows(&["unpause", "life"]);

    engine.shows(&["restart", "life"]);
    until("it runs again", || engine.shows(&["inspect", "-f", "{{.State.Status}}", "life"]) == "running");
    engine.shows(&["kill", "-s", "KILL", "life"]);
    assert_eq!(engine.shows(&["wait", "life"]), "137");
    engine.shows(&["start", "life"]);
    // The trap must be set before the signal comes.
    until("it says so for the third time", || engine.shows(&["logs", "life"]).matches("started").count() == 3);
    engine.shows(&["stop", "life"]);
    assert_eq!(engine.shows(&["inspect", "-f", "{{.State.ExitCode}}", "life"]), "3");
    engine.shows(&["rm", "life"]);
}

#[test]
fn dockerd_runs_containers_with_this_runtime() {
    let Some(engine) = dockerd() else { return };
    the_usual_works(&engine);
    a_life_works(&engine);

    let run = |words: &[&str]| engine.shows(&[&["run", "--rm", "--network", "none"][..], words].concat());
    assert!(run(&["--init", "bb", "ps"]).contains("1 root     /sbin/docker-init -- ps"));
    let all = run(&[
        "--tmpfs",
        "/t:size=1m",
        "--ulimit",
        "nofile=100:100",
        "--device",
        "/dev/null:/dev/n",
        "bb",
        "sh",
        "-c",
        "ulimit -n; ls /dev/n; grep -c ' /t tmpfs' /proc/mounts",
    ]);
    assert_eq!(all, "100\n/dev/n\n1");
    engine.says(&["run", "--name", "greedy", "--network", "none", "-m", "16m", "bb", "tail", "-n1", "/dev/zero"]);
    assert_eq!(engine.shows(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "greedy"]), "true 137");
    engine.shows(&["run", "-d", "--name", "grows", "--network", "none", "-m", "32m", "bb", "sleep", "100"]);
    engine.shows(&["update", "-m", "64m", "--memory-swap", "128m", "grows"]);
    assert_eq!(engine.shows(&["exec", "grows", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]), (64 << 20).to_string());
}

#[test]
fn podman_runs_containers_with_this_runtime() {
    let Some(engine) = podman() else { return };
    the_usual_works(&engine);
    a_life_works(&engine);
    let run = |words: &[&str]| engine.shows(&[&["run", "--rm", "--network", "none"][..], words].concat());
    assert_eq!(run(&["--hostname", "jar", "bb", "hostname"]), "jar");
}
