//! Exit codes, names, and what is said of a wrong command line.
//!
//! See it: `onggi run --rm base sh -c 'exit 7'; echo $?`. Read: docker run(1), "Exit status".

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::jar::{Jar, said, until};

#[test]
fn exit_codes_are_dockers() {
    let Some(jar) = Jar::new() else { return };
    for (command, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        assert_eq!(jar.run(&["base", "sh", "-c", command]).code, code, "{command}");
    }
    jar.refuses(&["base", "nonsense"], 127, &["\"nonsense\"", "executable file not found in $PATH"]);
    jar.refuses(&["base", "--name", "web"], 127, &["\"--name\"", "options stand before the image"]);
    jar.refuses(&["base", "/no/such"], 127, &["/no/such"]);
    jar.refuses(&["base", "/etc"], 126, &["/etc", "is a directory"]);
    jar.refuses(&["base", "/etc/passwd"], 126, &["/etc/passwd", "permission denied"]);
    jar.refuses(&["no-such-image:1", "true"], 125, &["no-such-image:1", "hint:"]);
    jar.assert_nothing_left();
}

#[test]
fn a_signal_that_ends_the_program_is_128_and_its_number() {
    let Some(jar) = Jar::new() else { return };
    for (signal, code) in [(Signal::SIGKILL, 137), (Signal::SIGTERM, 143), (Signal::SIGSEGV, 139)] {
        let mut onggi = jar.begin("ended", &["base", "sleep", "1000"]);
        let init = jar.init_of("ended").unwrap();
        // PID 1 of a namespace ignores what it has no handler for, but for SIGKILL: so the one below init gets it.
        if signal == Signal::SIGKILL {
            kill(Pid::from_raw(init), signal).unwrap();
            assert_eq!(onggi.wait().unwrap().code(), Some(code));
            continue;
        }
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
        onggi.wait().unwrap();
        let script = format!("sh -c 'kill -{} $$'", signal as i32);
        assert_eq!(jar.run(&["--init", "base", "sh", "-c", &format!("exec {script}")]).code, code, "{signal}");
    }
}

#[test]
fn a_wrong_option_is_refused_with_the_nearest() {
    let Some(jar) = Jar::new() else { return };
    jar.refuses(&["--memoryy", "5m", "base", "true"], 125, &["--memoryy", "'--memory'"]);
    jar.refuses(&["--cap-add", "NET_ADMI", "base", "true"], 125, &["did you mean CAP_NET_ADMIN?"]);
    jar.refuses(&["--security-opt", "nonsense", "base", "true"], 125, &["nonsense", "no-new-privileges"]);
    jar.refuses(&["--stop-signal", "NOPE", "base", "true"], 125, &["NOPE", "signal(7)"]);
    jar.refuses(&["--network", "nowhere", "base", "true"], 125, &["network nowhere not found", "onggi network ls"]);
    jar.refuses(&["--memory", "5m", "base", "true"], 125, &["minimum memory limit allowed is 6MB"]);
    jar.refuses(&["--memory", "64m", "--memory-swap", "32m", "base", "true"], 125, &["should be larger than memory limit"]);
    jar.refuses(&["--ulimit", "nonsense=1", "base", "true"], 125, &["invalid ulimit type: nonsense"]);
    jar.refuses(&["--add-host", "db", "base", "true"], 125, &["NAME:ADDRESS"]);
    jar.refuses(&["--name", "a b", "base", "true"], 125, &["a b"]);
    jar.refuses(&[], 1, &["<IMAGE>"]);
    jar.assert_nothing_left();
}

#[test]
fn an_option_behind_the_image_is_the_commands() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(jar.shows(&["base", "echo", "--rm", "-it", "--explain"]), "--rm -it --explain");
    assert_eq!(jar.shows(&["base", "echo", "--", "--help"]), "-- --help");
}

#[test]
fn without_rm_the_record_and_what_was_written_stay() {
    let Some(jar) = Jar::new() else { return };
    let told = said(jar.onggi(&["run", "--name", "kept", "base", "sh", "-c", "echo here > /written; exit 3"]).output().unwrap());
    assert_eq!(told.code, 3, "{}", told.err);
    let folder = jar.root.join("data/containers").join(jar.id_of("kept").unwrap());
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("container.json")).unwrap()).unwrap();
    assert_eq!((&record["name"], &record["state"]["exitCode"]), (&"kept".into(), &3.into()));
    let found = std::process::Command::new("find").arg(&folder).args(["-name", "written"]).output().unwrap();
    let written = String::from_utf8(found.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(written.trim()).unwrap(), "here\n");

    jar.refuses(&["--name", "kept", "base", "true"], 125, &["the container name \"/kept\" is already in use by container", "reuse the name"]);
}

#[test]
fn of_two_with_one_name_one_wins() {
    let Some(jar) = Jar::new() else { return };
    for _ in 0..3 {
        let start = || {
            let mut command = jar.onggi(&["run", "--rm", "-i", "--name", "wanted", "base", "cat"]);
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let (mut one, mut other) = (start(), start());
        // Each waits for the end of its input, so that both want the name at the same time.
        until("one is refused", || one.try_wait().unwrap().is_some() || other.try_wait().unwrap().is_some());
        let (one, other) = (said(one.wait_with_output().unwrap()), said(other.wait_with_output().unwrap()));
        let mut codes = [one.code, other.code];
        codes.sort();
        assert_eq!(codes, [0, 125], "{one:?} {other:?}");
        assert!(format!("{}{}", one.err, other.err).contains("is already in use by container"));
    }
    jar.assert_nothing_left();
}

#[test]
fn twenty_at_once_all_run_and_leave_nothing() {
    let Some(jar) = Jar::new() else { return };
    let start = |n: u32| jar.onggi(&["run", "--rm", "base", "echo", &n.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..20).map(start).collect();
    for (n, one) in all.into_iter().enumerate() {
        let told = said(one.wait_with_output().unwrap());
        assert_eq!((told.code, told.out), (0, format!("{n}\n")), "{}", told.err);
    }
    jar.assert_nothing_left();
}

#[test]
fn signals_reach_the_first_process() {
    let Some(jar) = Jar::new() else { return };
    let script = "for s in INT TERM USR1 HUP USR2 QUIT WINCH; do trap \"echo got $s\" $s; done; trap 'echo bye; exit 9' ALRM; echo ready; while :; do sleep 0.02; done";
    let mut onggi = jar.begin("heard", &["base", "sh", "-c", script]);
    let mut output = std::io::BufReader::new(onggi.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        line.trim_end().to_string()
    };
    assert_eq!(line(), "ready");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGQUIT] {
        kill(Pid::from_raw(onggi.id() as i32), signal).unwrap();
        assert_eq!(line(), format!("got {}", &signal.as_str()[3..]));
    }
    kill(Pid::from_raw(onggi.id() as i32), Signal::SIGALRM).unwrap();
    assert_eq!(line(), "bye");
    let status = onggi.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(9), None));
}

#[test]
fn with_init_the_first_process_passes_signals_on_and_reaps() {
    let Some(jar) = Jar::new() else { return };
    assert!(jar.shows(&["--init", "base", "cat", "/proc/1/cmdline"]).starts_with("/sbin/docker-init\0--\0cat"));
    // An orphan that ended stays a zombie unless PID 1 waits for it.
    let orphan = "(sh -c 'sleep 0.1' & ) ; sleep 0.4; cat /proc/[0-9]*/stat";
    let states = jar.shows(&["--init", "base", "sh", "-c", orphan]);
    assert!(!states.contains(") Z "), "{states}");
    let mut onggi = jar.begin("passed", &["--init", "base", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done"]);
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(onggi.stdout.as_mut().unwrap()), &mut ready).unwrap();
    kill(Pid::from_raw(onggi.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(onggi.wait().unwrap().code(), Some(5));
}

#[test]
fn the_id_is_written_into_the_cidfile_which_must_be_new() {
    let Some(jar) = Jar::new() else { return };
    let file = jar.root.join("cid").display().to_string();
    let id = jar.shows(&["--cidfile", &file, "base", "cat", "/etc/hostname"]);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.len() == 64 && written.starts_with(&id), "{written} {id}");
    jar.refuses(&["--cidfile", &file, "base", "true"], 125, &["container ID file found"]);
}

#[test]
fn what_the_child_says_is_the_reason_also_when_it_ends_while_its_network_is_made() {
    let Some(jar) = Jar::new() else { return };
    for _ in 0..20 {
        jar.refuses(&["-w", "/proc/self/fd/7", "base", "pwd"], 125, &["process.cwd"]);
    }
    jar.assert_nothing_left();
}
