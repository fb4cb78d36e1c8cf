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
use support::jar::{Jar, said};

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
    jar.refuses(&["-it", "base", "true"], 125, &["the input device is not a TTY"]);
    let told = said(jar.onggi(&["run", "--rm", "-ti", "base", "cat"]).stdin(File::open("/etc/passwd").unwrap()).output().unwrap());
    assert!(told.code == 125 && told.err.contains("the input device is not a TTY"), "{told:?}");
    jar.assert_nothing_left();
}
