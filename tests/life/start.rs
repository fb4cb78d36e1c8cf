//! `run -d`, `create`, `start`: a container that outlives the terminal from which it came.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;

use super::life_jar::*;
use crate::support::jar::{Jar, ONGGI, until};

#[test]
fn a_container_in_the_background_outlives_the_terminal_that_started_it() {
    let Some(jar) = Jar::new() else { return };
    // Closed on exec: nobody else may hold the window open.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let window = posix_openpt(flags).unwrap();
    grantpt(&window).and_then(|()| unlockpt(&window)).unwrap();
    let place = ptsname_r(&window).unwrap();
    let end = || Stdio::from(fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&place).unwrap());
    // The shell of a window, in which somebody types the command and goes on.
    let line = format!("{ONGGI} run -d --name left base sh -c \"{POLITE}\"; echo told; sleep 1000");
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "sh", "-c", &line]).env("ONGGI_ROOT", &jar.root);
    let mut shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    until("it runs", || jar.id_of("left").is_some_and(|id| logged(&jar, &id).contains("ready")));
    let (init, monitor) = (init(&jar, "left"), monitor(&jar, "left"));
    let stat = monitor.read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[3], monitor.0.to_string(), "the monitor leads a session of its own");
    assert_eq!(fields[4], "0", "and has no terminal");
    for fd in 0..3 {
        assert_eq!(fs::read_link(monitor.path(&format!("fd/{fd}"))).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(fs::read_link(monitor.path("cwd")).unwrap().to_str(), Some("/"));

    // The window is closed: SIGHUP to all that sit at it.
    drop(window);
    shell.wait().unwrap();
    assert!(init.lives() && monitor.lives());
    assert_eq!(jar.does(&["exec", "left", "echo", "still here"]), "still here");
    assert_eq!(jar.does(&["stop", "left"]), "left");
    assert_eq!(state(&jar, "left", "exitCode"), 3);
    assert!(!init.lives());
    until("its monitor has gone", || !monitor.lives());
}

#[test]
fn run_d_prints_the_whole_id_and_nothing_else() {
    let Some(jar) = Jar::new() else { return };
    let said = jar.says(&["run", "-d", "--name", "told", "base", "true"]);
    assert_eq!((said.code, &*said.err), (0, ""));
    assert_eq!(Some(said.out.trim_end()), jar.id_of("told").as_deref());
    until_status(&jar, "told", "exited");
    // A command that isn't there: the container stays as created, and says why.
    let said = fails(&jar, &["run", "-d", "--name", "wrong", "base", "nonsense"], 127, &["\"nonsense\"", "executable file not found in $PATH"]);
    assert_eq!(said.out, "");
    assert_eq!((state(&jar, "wrong", "status"), state(&jar, "wrong", "exitCode")), ("created".into(), 127.into()));
}

#[test]
fn create_makes_it_and_start_a_i_gives_it_what_is_typed() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["create", "-i", "--name", "made", "base", "sh", "-c", "cat; echo end >&2; exit 4"]);
    assert_eq!(state(&jar, "made", "status"), "created");
    assert!(jar.init_of("made").is_none(), "nothing runs yet");
    for (life, input) in ["first\n", "second, without an end of line"].iter().enumerate() {
        let said = fed(&jar, &["start", "-a", "-i", "made"], input.as_bytes());
        assert_eq!((said.code, &*said.out, &*said.err), (4, *input, "end\n"), "life {life}");
    }
    assert_eq!(state(&jar, "made", "exitCode"), 4);
    assert!(logged(&jar, &id).contains("first\n"));
    // Without -i its input is nobody's: -a shows, and that is all.
    jar.does(&["create", "--name", "seen", "base", "sh", "-c", "cat; echo out"]);
    let said = fed(&jar, &["start", "-a", "seen"], b"not read");
    assert_eq!((said.code, &*said.out), (0, "out\n"), "{}", said.err);
}

#[test]
fn start_takes_several_and_one_that_runs_is_fine() {
    let Some(jar) = Jar::new() else { return };
    for name in ["one", "two"] {
        jar.does(&["create", "--name", name, "base", "sh", "-c", POLITE]);
    }
    let said = fails(&jar, &["start", "one", "nobody", "two"], 1, &["No such container: nobody"]);
    assert_eq!(said.out, "one\ntwo\n");
    let before = init(&jar, "one");
    assert!(before.lives() && init(&jar, "two").lives());
    assert_eq!(jar.does(&["start", "one"]), "one");
    assert_eq!(init(&jar, "one"), before, "it was not started again");
    fails(&jar, &["start", "-a", "one", "two"], 1, &["you cannot start and attach multiple containers at once"]);
}

#[test]
fn a_paused_container_is_not_started() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "cold", &[], POLITE);
    jar.does(&["pause", "cold"]);
    fails(&jar, &["start", "cold"], 1, &["cannot start a paused container, try unpause instead"]);
    jar.does(&["unpause", "cold"]);
}

#[test]
fn what_it_wrote_is_there_after_the_next_start_and_not_in_its_siblings() {
    let Some(jar) = Jar::new() else { return };
    let script = "cat /count 2>/dev/null; echo again >> /count";
    jar.does(&["run", "--name", "writes", "base", "sh", "-c", script]);
    assert_eq!(jar.does(&["start", "-a", "writes"]), "again");
    assert_eq!(jar.does(&["start", "-a", "writes"]), "again\nagain");
    assert_eq!(jar.does(&["run", "--rm", "base", "sh", "-c", script]), "");
}

#[test]
fn the_cidfile_is_written_by_create_and_by_run_d() {
    let Some(jar) = Jar::new() else { return };
    for verb in [&["create"][..], &["run", "-d"]] {
        let file = jar.root.join(format!("cid-{}", verb.len())).display().to_string();
        let id = jar.does(&[verb, &["--cidfile", &file, "base", "true"]].concat());
        assert_eq!(fs::read_to_string(&file).unwrap(), id);
        let said = jar.says(&[verb, &["--cidfile", &file, "base", "true"]].concat());
        assert!(said.code != 0 && said.err.contains("container ID file found"), "{said:?}");
    }
    // A container that could not be made leaves no file that looks as if there were one.
    let file = jar.root.join("cid-none").display().to_string();
    assert_eq!(jar.says(&["create", "--cidfile", &file, "no-such-image:1", "true"]).code, 1);
    assert!(!fs::exists(&file).unwrap());
}

#[test]
fn with_init_a_program_that_knows_no_signals_stops_at_once() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["run", "-d", "--init", "--name", "helped", "base", "sleep", "1000"]);
    until("its program runs", || fs::read_to_string(format!("/proc/{0}/task/{0}/children", init(&jar, "helped").0)).is_ok_and(|c| !c.is_empty()));
    assert!(init(&jar, "helped").read("cmdline").starts_with("/sbin/docker-init\0--\0sleep\x001000"));
    // Without init, SIGTERM means nothing to PID 1, and this would end with SIGKILL.
    jar.does(&["stop", "-t", "20", "helped"]);
    assert_eq!(state(&jar, "helped", "exitCode"), 143);
}

#[test]
fn a_container_that_ends_at_once_is_not_lost() {
    let Some(jar) = Jar::new() else { return };
    for n in 0..10 {
        let said = jar.says(&["run", "--name", &format!("short{n}"), "base", "sh", "-c", "echo out; echo err >&2; exit 9"]);
        assert_eq!((said.code, &*said.out, &*said.err), (9, "out\n", "err\n"));
    }
    let id = jar.does(&["run", "-d", "--name", "shorter", "base", "echo", "here"]);
    assert_eq!(jar.does(&["wait", "shorter"]), "0");
    assert_eq!(logged(&jar, &id), "here\n");
}

#[test]
fn rm_takes_a_background_container_away_when_it_ends() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "brief", &["--rm"], POLITE);
    send(init(&jar, "brief"), Signal::SIGTERM);
    until("nothing is left", || jar.left().is_empty());
    let said = jar.says(&["run", "--rm", "--restart", "always", "base", "true"]);
    assert!(said.code == 125 && said.err.contains("cannot specify both --restart and --rm"), "{said:?}");
}

#[test]
fn a_container_with_a_terminal_in_the_background_has_one() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["run", "-dit", "--name", "shell", "base", "sh", "-c", "tty; stty size; echo ready; exec cat"]);
    until_logged(&jar, &id, "ready", 1);
    assert!(logged(&jar, &id).starts_with("/dev/pts/0\r\n"), "{}", logged(&jar, &id));
    assert!(jar.does(&["exec", "shell", "cat", "/proc/1/comm"]).contains("cat"), "its input is open: it waits");
    assert!(File::open(init(&jar, "shell").path("fd/0")).is_ok());
}
