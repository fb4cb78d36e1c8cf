//! `-t`: the container's terminal and the caller's, asked through a real pseudo-terminal in whose middle this test sits.
//!
//! See it: `onggi run --rm -it base sh`, then `stty -a` in another window. Read: pty(7), termios(3), tty_ioctl(4).

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use support::jar::{Jar, said, until};

/// A window of 40 rows and 120 columns, and what runs in it.
struct Window {
    master: File,
    slave: OwnedFd,
    child: Child,
    pieces: Receiver<Vec<u8>>,
    seen: String,
}

impl Window {
    fn open(mut command: Command) -> Window {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // A session of its own, whose terminal this becomes: so that a resize is told by SIGWINCH.
        let program = command.get_program().to_owned();
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(program).args(command.get_args());
        for (name, value) in command.get_envs() {
            value.map(|value| session.env(name, value));
        }
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        command.stdin(Stdio::null());
        let master = File::from(pty.master);
        let (sender, pieces) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut chunk = [0; 65536];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Window { master, slave: pty.slave, child, pieces, seen: String::new() }
    }

    /// Waits until this is on the screen; what came before it is taken away.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            let piece = self.pieces.recv_timeout(Duration::from_millis(200));
            piece.into_iter().for_each(|piece| self.seen.push_str(&String::from_utf8_lossy(&piece)));
            assert!(began.elapsed() < Duration::from_secs(20), "{text:?} is not in {:?}", self.seen);
        }
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn the_first_size_is_the_windows_and_a_new_one_is_followed() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&[
        "run",
        "--rm",
        "-it",
        "base",
        "sh",
        "-c",
        "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done",
    ]));
    assert!(window.sees("ready").contains("40 120\r\n"), "the first size");
    assert!(window.is_raw());
    assert!(
        Command::new("stty").args(["rows", "50", "cols", "99"]).stdin(Stdio::from(window.slave.try_clone().unwrap())).status().unwrap().success()
    );
    window.sees("50 99");
    // Ctrl-C is a byte for the container's terminal, which makes a signal of it for the program.
    window.types("\x03");
    assert_eq!(window.code(), Some(130));
    assert!(!window.is_raw(), "the terminal is as it was");
}

#[test]
fn what_is_typed_comes_back_and_the_terminal_is_as_before() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-it", "base", "sh"]));
    window.types("echo \"<안녕>\" | tr '<>' '[]'\r");
    window.sees("[안녕]");
    window.types("tty; exit 3\r");
    window.sees("/dev/pts/0");
    assert_eq!(window.code(), Some(3));
    assert!(!window.is_raw());
    jar.assert_nothing_left();
}

#[test]
fn after_a_kill_of_the_container_the_terminal_is_as_before() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-it", "--name", "killed", "base", "sh", "-c", "echo ready; exec sleep 1000"]));
    window.sees("ready");
    assert!(window.is_raw());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(jar.init_of("killed").unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(window.code(), Some(137));
    assert!(!window.is_raw());
}

#[test]
fn much_output_before_the_end_is_not_cut() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-it", "base", "sh", "-c", "seq 1 60000; echo the-end"]));
    let all = window.sees("the-end");
    let lines: Vec<_> = all.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[59_999]), (60_001, "1", "60000"));
    assert_eq!(window.code(), Some(0));
}

#[test]
fn t_without_i_has_a_terminal_and_reads_nothing() {
    let Some(jar) = Jar::new() else { return };
    let told = jar.run(&["-t", "base", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && tty"]);
    assert_eq!((told.code, &*told.out), (0, "/dev/pts/0\r\n"), "{told:?}");
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-t", "base", "sh", "-c", "stty size; echo $TERM; exit 4"]));
    // Nothing is typed, so the window stays as it is and adds a carriage return of its own, as with Docker.
    window.sees("40 120");
    window.sees("xterm");
    assert_eq!(window.code(), Some(4));
}

#[test]
fn it_without_a_terminal_is_refused_as_docker_does() {
    let Some(jar) = Jar::new() else { return };
    jar.refuses(&["-it", "base", "true"], 1, &["the input device is not a TTY"]);
    let told = said(jar.onggi(&["run", "--rm", "-ti", "base", "cat"]).stdin(File::open("/etc/passwd").unwrap()).output().unwrap());
    assert!(told.code == 1 && told.err.contains("the input device is not a TTY"), "{told:?}");
    jar.assert_nothing_left();
}

/// A container in the background that says its terminal's size, at its start and at each change.
const SIZES: &str = "trap 'stty size' WINCH; trap 'exit 3' TERM; stty size; echo ready; while :; do sleep 0.02; done";

fn resize(window: &Window, rows: u32, columns: u32) {
    let slave = Stdio::from(window.slave.try_clone().unwrap());
    let words = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(String::from);
    assert!(Command::new("stty").args(words).stdin(slave).status().unwrap().success());
}

fn background(jar: &Jar, name: &str, script: &str) {
    jar.does(&["run", "-dit", "--name", name, "base", "sh", "-c", script]);
    let log = jar.root.join("data/containers").join(jar.id_of(name).unwrap());
    let log = log.join(format!("{}-json.log", jar.id_of(name).unwrap()));
    until("it is ready", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")));
}

#[test]
fn exec_it_has_the_windows_size_from_the_first_and_follows_it() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["run", "-d", "--name", "host", "base", "sleep", "1000"]);
    let mut window = Window::open(jar.onggi(&["exec", "-it", "host", "sh", "-c", &format!("tty; {SIZES}")]));
    let said = window.sees("ready");
    assert!(said.contains("/dev/pts/0") && said.contains("40 120\r\n"), "{said}");
    assert!(window.is_raw());
    resize(&window, 51, 98);
    window.sees("51 98");
    window.types("\x03");
    assert_eq!(window.code(), Some(130));
    assert!(!window.is_raw());
    // What ends with the container gives the window back, too.
    let mut window = Window::open(jar.onggi(&["exec", "-it", "host", "sh", "-c", "echo ready; exec sleep 1000"]));
    window.sees("ready");
    jar.does(&["kill", "host"]);
    assert_eq!(window.code(), Some(137));
    assert!(!window.is_raw());
}

#[test]
fn attach_gives_the_containers_terminal_the_windows_size() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "shell", SIZES);
    let mut window = Window::open(jar.onggi(&["attach", "shell"]));
    window.sees("40 120");
    assert!(window.is_raw());
    resize(&window, 52, 97);
    window.sees("52 97");
    jar.does(&["stop", "shell"]);
    assert_eq!(window.code(), Some(3));
    assert!(!window.is_raw());
}

#[test]
fn ctrl_p_ctrl_q_leaves_it_running_and_attach_comes_back() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&["run", "-it", "--name", "shell", "base", "sh"]));
    window.types("X=kept; echo be''gun\r");
    window.sees("begun");
    // Ctrl-P alone is the shell's own key.
    window.types("\x10");
    window.types("\x11");
    assert_eq!(window.code(), Some(0));
    assert!(!window.is_raw(), "the window is as it was");
    let mut window = Window::open(jar.onggi(&["attach", "shell"]));
    window.types("echo \"<$X>\" | tr '<>' '[]'\r");
    window.sees("[kept]");
    window.types("\x10\x11");
    assert_eq!(window.code(), Some(0));
    // The same by `start -ai`, which is `attach` for one that runs.
    let mut window = Window::open(jar.onggi(&["start", "-ai", "shell"]));
    window.types("echo \"<$X>\" | tr '<>' '[]'; exit 6\r");
    window.sees("[kept]");
    assert_eq!(window.code(), Some(6));
    let mut window = Window::open(jar.onggi(&["start", "-ai", "shell"]));
    window.types("echo \"<$X>\" | tr '<>' '[]'; exit 7\r");
    window.sees("[]");
    assert_eq!(window.code(), Some(7));
    assert!(!window.is_raw());
}

#[test]
fn other_keys_may_leave_it_and_wrong_ones_are_refused() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "shell", "echo ready; exec cat");
    let mut window = Window::open(jar.onggi(&["attach", "--detach-keys", "ctrl-x,d", "shell"]));
    until("it is attached", || window.is_raw());
    // The usual keys mean nothing now: they reach the program.
    window.types("\x10\x11typed\r");
    window.sees("typed");
    window.types("\x18d");
    assert_eq!(window.code(), Some(0));
    let mut window = Window::open(jar.onggi(&["exec", "-it", "--detach-keys", "a", "shell", "sh"]));
    window.sees("#");
    window.types("a");
    assert_eq!(window.code(), Some(0));
    assert!(!window.is_raw());
    let told = jar.says(&["attach", "--detach-keys", "ctrl-nonsense", "shell"]);
    assert!(told.code != 0 && told.err.contains("ctrl-nonsense"), "{told:?}");
}

#[test]
fn after_a_kill_of_the_monitor_the_terminal_is_as_before() {
    let Some(jar) = Jar::new() else { return };
    let mut window = Window::open(jar.onggi(&["run", "-it", "--name", "shell", "base", "sh", "-c", "echo ready; exec sleep 1000"]));
    window.sees("ready");
    assert!(window.is_raw());
    let record = jar.record(&jar.id_of("shell").unwrap()).unwrap();
    let monitor = record["state"]["monitor"]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(window.code(), Some(137));
    assert!(!window.is_raw());
}

#[test]
fn ctrl_c_without_a_terminal_of_its_own_is_a_signal_for_the_container() {
    let Some(jar) = Jar::new() else { return };
    let script = "trap 'echo heard; exit 8' INT; echo ready; while :; do sleep 0.02; done";
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-i", "base", "sh", "-c", script]));
    window.sees("ready");
    assert!(!window.is_raw(), "the keys stay the window's");
    window.types("\x03");
    window.sees("heard");
    assert_eq!(window.code(), Some(8));
}

#[test]
fn the_end_of_what_is_typed_reaches_the_program() {
    let Some(jar) = Jar::new() else { return };
    // Without -t: Ctrl-D is the window's, and the pipe closes.
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-i", "base", "sh", "-c", "cat; echo over; exit 4"]));
    window.types("typed\r");
    window.sees("typed");
    window.types("\x04");
    window.sees("over");
    assert_eq!(window.code(), Some(4));
    // With -t: it is the container's terminal that makes an end of it.
    let mut window = Window::open(jar.onggi(&["run", "--rm", "-it", "base", "sh", "-c", "cat; echo over; exit 5"]));
    until("it is attached", || window.is_raw());
    window.types("typed\r\x04");
    window.sees("over");
    assert_eq!(window.code(), Some(5));
    jar.assert_nothing_left();
}

/// A tmux of our own.
struct Tmux<'a> {
    jar: &'a Jar,
    socket: std::path::PathBuf,
}

impl Tmux<'_> {
    fn does(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-f/dev/null").arg("-S").arg(&self.socket).args(words).env("ONGGI_ROOT", &self.jar.root).env("LC_ALL", "C.UTF-8");
        said(command.output().unwrap()).out
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        until(&format!("{text:?} is on the screen"), || self.does(&["capture-pane", "-p"]).contains(text));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.does(&["kill-server"]);
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[test]
fn in_tmux_sizes_are_followed_and_a_closed_window_ends_its_own_shell() {
    let Some(jar) = Jar::new() else { return };
    if support::peer("tmux").is_none() {
        return;
    }
    let tmux = Tmux { jar: &jar, socket: std::env::temp_dir().join(format!("onggi-tmux-{}", std::process::id())) };
    // Without its status line, which may take a row or not, depending on who looks.
    tmux.does(&["new-session", "-d", "-x", "100", "-y", "30", "env", "PS1=shell> ", "sh", ";", "set", "-g", "status", "off"]);
    tmux.does(&["send-keys", &format!("{} run -it --name shell -e PS1='jar> ' base sh", support::jar::ONGGI), "Enter"]);
    tmux.shows("jar>");
    tmux.does(&["send-keys", "stty size", "Enter"]);
    let size = || tmux.does(&["display-message", "-p", "#{pane_height} #{pane_width}"]).trim().to_string();
    assert!(size().ends_with(" 100"), "{}", size());
    tmux.shows(&size());
    tmux.does(&["resize-window", "-x", "77", "-y", "21"]);
    until("the new size is there", || {
        tmux.does(&["send-keys", "clear; stty size", "Enter"]);
        std::thread::sleep(Duration::from_millis(100));
        size().ends_with(" 77") && tmux.does(&["capture-pane", "-p"]).contains(&size())
    });
    // An arrow key goes through untouched, and what a program draws comes back where it drew it.
    tmux.does(&["send-keys", "clear; printf '\\033[5;10Hhere'; sleep 1000", "Enter"]);
    until("it is drawn in its place", || tmux.does(&["capture-pane", "-p"]).lines().nth(4).is_some_and(|line| line.starts_with("         here")));
    tmux.does(&["send-keys", "C-c"]);
    tmux.does(&["send-keys", "C-p", "C-q"]);
    tmux.shows("shell>");
    tmux.does(&["send-keys", &format!("clear; {} attach shell", support::jar::ONGGI), "Enter"]);
    tmux.does(&["send-keys", "Enter"]);
    tmux.shows("jar>");
    // Who only looked takes nothing with him; the window in which it was begun is its own.
    tmux.does(&["kill-pane"]);
    assert_eq!(jar.does(&["exec", "shell", "echo", "still here"]), "still here");
    jar.does(&["kill", "shell"]);
    tmux.does(&["new-session", "-d", "-x", "100", "-y", "30", "env", "PS1=shell> ", "sh"]);
    tmux.does(&["send-keys", &format!("{} run -it --name other -e PS1='jar> ' base sh", support::jar::ONGGI), "Enter"]);
    until("it runs", || jar.init_of("other").is_some());
    tmux.does(&["send-keys", "clear; echo be''gun", "Enter"]);
    tmux.shows("begun");
    let init = jar.init_of("other").unwrap();
    tmux.does(&["kill-pane"]);
    until("the shell has learnt it", || !std::path::Path::new(&format!("/proc/{init}")).exists());
}
