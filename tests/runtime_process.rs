//! `process` of config.json, field by field, asked of the process itself and of `/proc/P` from outside.
//!
//! Read: config.md "Process" of the OCI runtime specification.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::container::{Bench, without_namespace};
use support::kernel::{Process, host};

#[test]
fn arguments_environment_and_working_directory_are_the_configs() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "facts", "two words", "", "한글"]);
        spec["process"]["env"] = json!(["A=1", "B=x=y", "EMPTY=", "HOME=/here"]);
        spec["process"]["cwd"] = json!("/made/when/missing");
    });
    let seen = container.facts();
    assert_eq!(seen["argv"], json!(["/bin/probe", "facts", "two words", "", "한글"]));
    assert_eq!(seen["env"], json!(["A=1", "B=x=y", "EMPTY=", "HOME=/here"]));
    assert_eq!(seen["cwd"], "/made/when/missing");
    assert_eq!((&seen["pid"], &seen["ppid"], &seen["sid"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(seen["exe"], "/bin/probe");
}

#[test]
fn a_program_without_a_slash_is_found_in_the_containers_path() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["probe"]);
        spec["process"]["env"] = json!(["PATH=/nowhere:/bin"]);
    });
    assert_eq!(container.facts()["argv"], json!(["probe"]));
}

#[test]
fn a_working_directory_through_a_descriptor_of_ours_is_refused() {
    let Some(bench) = Bench::new() else { return };
    for number in 3..12 {
        let container = bench.container(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}")));
        container.run().refused();
        let deeper = bench.container(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}/../../..")));
        deeper.run().refused();
    }
}

#[test]
fn home_comes_from_the_images_passwd_when_the_config_has_none() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["process"]["user"] = json!({ "uid": 33, "gid": 33 });
        spec["process"]["env"] = json!([]);
    });
    fs::create_dir_all(container.rootfs().join("etc")).unwrap();
    fs::write(container.rootfs().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/sh\n").unwrap();
    assert_eq!(container.facts()["env"], json!(["HOME=/srv/www"]));
}

#[test]
fn user_group_groups_and_umask_are_the_configs() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["process"]["user"] = json!({ "uid": 1234, "gid": 2345, "additionalGids": [7, 70000], "umask": 0o027 });
    });
    let process = container.process();
    assert_eq!(process.status("Uid"), "1234 1234 1234 1234");
    assert_eq!(process.status("Gid"), "2345 2345 2345 2345");
    assert_eq!(process.status("Groups"), "7 70000");
    assert_eq!(process.status("Umask"), "0027");
}

#[test]
fn our_own_groups_are_not_the_containers() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    let mut command = std::process::Command::new("setpriv");
    command.args(["--groups", "5,6", "--"]).arg(env!("CARGO_BIN_EXE_onggi-runtime")).arg("--root").arg(bench.root());
    let done = bench.finish(command.arg("run").arg("--bundle").arg(&container.bundle).arg(&container.id));
    assert_eq!(done.ok().json()["groups"], json!([]));
}

/// Without CAP_SYS_RESOURCE, as here, a hard limit can only go down.
#[test]
fn limits_are_set_or_cut_with_a_warning() {
    let Some(bench) = Bench::new() else { return };
    let hard: u64 =
        host().read("limits").lines().find(|l| l.starts_with("Max open files")).unwrap().split_whitespace().nth(4).unwrap().parse().unwrap();
    let container = bench.container(|spec| {
        spec["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": hard + 1000 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_STACK", "soft": 1000000, "hard": 2000000 },
        ]);
    });
    let done = container.run().ok();
    let limits = done.json()["rlimits"].clone();
    assert_eq!(limits["STACK"], json!({ "soft": 1000000, "hard": 2000000 }));
    assert_eq!(limits["CORE"], json!({ "soft": 0, "hard": 0 }));
    let raises = u64::from_str_radix(&host().status("CapEff"), 16).unwrap() >> 24 & 1 == 1;
    assert_eq!(limits["NOFILE"], json!({ "soft": 100, "hard": if raises { hard + 1000 } else { hard } }));
    assert_eq!(done.err.contains("RLIMIT_NOFILE is 100:"), !raises, "{}", done.err);
}

#[test]
fn score_priorities_and_personality_are_the_configs() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["process"]["oomScoreAdj"] = json!(321);
        spec["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
        spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
        spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
    });
    let seen = container.seen();
    assert_eq!(container.process().read("oom_score_adj").trim(), "321");
    assert_eq!(seen["scheduler"], json!({ "policy": 3, "nice": 7, "priority": 0 }));
    assert_eq!(seen["ioprio"], json!({ "class": 2, "level": 6 }));
    assert_eq!(u64::from_str_radix(container.process().read("personality").trim(), 16).unwrap(), 8);
    assert_eq!(seen["machine"], "i686", "uname(2) of a 32-bit machine");
}

#[test]
fn nothing_of_the_callers_attributes_is_changed_when_the_config_is_silent() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["process"]["rlimits"] = json!([]);
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    let process = container.process();
    assert_eq!(process.read("limits"), host().read("limits"));
    assert_eq!(process.read("oom_score_adj"), host().read("oom_score_adj"));
    assert_eq!(process.read("personality"), host().read("personality"));
    assert_eq!(process.status("NoNewPrivs"), "0");
}

#[test]
fn no_new_privileges_is_told_to_the_kernel() {
    let Some(bench) = Bench::new() else { return };
    assert_eq!(bench.waiting(|spec| spec["process"]["noNewPrivileges"] = json!(true)).process().status("NoNewPrivs"), "1");
}

/// A shell in the background ignores SIGINT, and a caller may block what it likes: PID 1 starts with a clean slate.
#[test]
fn signals_are_default_and_not_blocked_whatever_the_caller_had() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| spec["process"]["args"] = json!(["/bin/probe", "wait"]));
    // A caller that ignores one signal and blocks others, as some supervisors do (env(1) of coreutils sets both and goes on as it).
    let mut command =
        started_by(&["env", "--ignore-signal=INT", "--block-signal=USR1", "--block-signal=TERM"], &container.command("run", &["--detach"]));
    bench.finish(command.stdout(fs::File::create(container.bundle.join("stdout")).unwrap())).ok();
    let process = container.process();
    assert_eq!(process.status("SigIgn"), "0000000000000000");
    let seen = bench.run(&["exec", &container.id, "/bin/probe"]).ok().json();
    assert_eq!(seen["signals"]["ignored"], "0000000000000000");
    assert_eq!(seen["signals"]["blocked"], "0000000000000000");
}

#[test]
fn no_descriptor_of_ours_is_open_in_the_container() {
    let Some(bench) = Bench::new() else { return };
    let open = fs::File::open("/etc/hostname").unwrap();
    onggi::sys::fd::set_cloexec(std::os::fd::AsFd::as_fd(&open), false).unwrap();
    let container = bench.waiting(|_| {});
    let fds = |process: Process| {
        let mut names: Vec<String> =
            fs::read_dir(process.path("fd")).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(fds(container.process()), ["0", "1", "2"]);
    let seen = container.exec(&[], &["/bin/probe"]).ok().json();
    assert_eq!(seen["fds"].as_object().unwrap().keys().collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[test]
fn a_created_container_holds_nothing_by_which_it_could_be_entered() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    container.create();
    // It still has the runtime's program, which can't be opened by anybody inside; from outside its file is read-only.
    let exe = container.process().path("exe");
    let error = fs::OpenOptions::new().write(true).open(exe).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY | libc::EPERM)), "{error}");
}

#[test]
fn preserved_descriptors_go_on_and_others_do_not() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|_| {});
    let run = |options: &[&str], listen: bool| {
        let mut command = container.command("run", options);
        if listen {
            command.env("LISTEN_FDS", "1");
        }
        let mut command = started_by(&["sh", "-c", "exec \"$@\" 3</etc/hostname 4</etc/hostname", "sh"], &command);
        bench.finish(&mut command).ok().json()
    };
    let keys = |seen: &serde_json::Value| seen["fds"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&run(&[], false)), "0 1 2");
    assert_eq!(keys(&run(&["--preserve-fds", "1"], false)), "0 1 2 3");
    let seen = run(&["--preserve-fds", "2"], true);
    assert_eq!(keys(&seen), "0 1 2 3 4");
    let env: Vec<&str> = seen["env"].as_array().unwrap().iter().filter_map(|pair| pair.as_str()).collect();
    assert!(env.contains(&"LISTEN_FDS=1") && env.contains(&"LISTEN_PID=1"), "{env:?}");
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    let Some(bench) = Bench::new() else { return };
    let one = bench.container(|_| {});
    let (first, second) = (one.facts(), bench.container(|_| {}).facts());
    assert_ne!(first["keyring"]["serial"], second["keyring"]["serial"]);
    assert!(first["keyring"]["description"].as_str().unwrap().ends_with(&format!("_ses.{}", one.id)), "{}", first["keyring"]);
    let kept = bench.finish(&mut bench.container(|_| {}).command("run", &["--no-new-keyring"])).ok().json();
    assert!(!kept["keyring"]["description"].as_str().unwrap_or_default().contains(&bench.name), "{}", kept["keyring"]);
}

#[test]
fn exit_codes_are_the_programs_or_say_why_there_is_none() {
    let Some(bench) = Bench::new() else { return };
    let code = |args: serde_json::Value| {
        let container = bench.container(|spec| spec["process"]["args"] = args);
        fs::write(container.rootfs().join("bin/data"), "not a program").unwrap();
        fs::set_permissions(container.rootfs().join("bin/data"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(container.rootfs().join("bin/script"), "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(container.rootfs().join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(container.rootfs().join("bin/plain"), "").unwrap();
        container.run().code
    };
    assert_eq!(code(json!(["/bin/probe", "exit", "0"])), 0);
    assert_eq!(code(json!(["/bin/probe", "exit", "42"])), 42);
    assert_eq!(code(json!(["/bin/probe", "exit", "255"])), 255);
    // PID 1 is spared the signals that it has no handler for, but not a fault of its own; SIGKILL comes from outside.
    assert_eq!(code(json!(["/bin/probe", "init", "--", "/bin/probe", "signal", "11"])), 139);
    assert_eq!(code(json!(["/bin/missing"])), 127);
    assert_eq!(code(json!(["missing"])), 127);
    assert_eq!(code(json!(["/bin/script"])), 127);
    assert_eq!(code(json!(["/bin/plain"])), 126);
    assert_eq!(code(json!(["/bin"])), 126);
    assert_eq!(code(json!(["/bin/data"])), 126);
}

#[test]
fn a_foreground_container_that_is_killed_ends_with_128_and_the_signal() {
    let Some(bench) = Bench::new() else { return };
    for (signal, code) in [("KILL", 137), ("TERM", 0)] {
        let container = bench.container(|spec| spec["process"]["args"] = json!(["/bin/probe", "wait"]));
        let mut run = container.command("run", &[]).stdout(fs::File::create(container.bundle.join("stdout")).unwrap()).spawn().unwrap();
        container.seen();
        bench.run(&["kill", &container.id, signal]).ok();
        assert_eq!(support::container::end_of(&mut run), code);
    }
}

/// The runtime in the foreground passes signals on; `probe wait` prints one line for each.
#[test]
fn signals_to_the_foreground_command_reach_the_first_process() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| spec["process"]["args"] = json!(["/bin/probe", "wait"]));
    let output = container.bundle.join("stdout");
    let mut run = container.command("run", &[]).stdout(fs::File::create(&output).unwrap()).spawn().unwrap();
    container.seen();
    for (index, signal) in [libc::SIGHUP, libc::SIGUSR1, libc::SIGWINCH, libc::SIGTERM].into_iter().enumerate() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.id() as i32), nix::sys::signal::Signal::try_from(signal).unwrap()).unwrap();
        if signal == libc::SIGWINCH {
            continue;
        }
        support::container::wait_for("the signal's line", || {
            let text = fs::read_to_string(&output).unwrap();
            // A line that is still being written has no end yet.
            let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines.nth(index.min(2) + 1).map(|line| assert!(line.contains(&format!("\"signal\":{signal}")), "{line}"))
        });
    }
    assert_eq!(support::container::end_of(&mut run), 0);
}

#[test]
fn a_container_without_a_mount_namespace_or_any_other_still_has_its_root() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        for kind in ["pid", "ipc", "uts", "mount", "cgroup", "network"] {
            without_namespace(spec, kind);
        }
        spec["hostname"].take();
        spec["mounts"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    let seen = container.facts();
    assert_eq!((&seen["cwd"], &seen["mounts"]), (&json!("/"), &json!(null)));
    assert_ne!(seen["pid"], 1);
}

/// The same command, begun by another program that goes on as it.
fn started_by(starter: &[&str], command: &std::process::Command) -> std::process::Command {
    let mut whole = std::process::Command::new(starter[0]);
    whole.args(&starter[1..]).arg(command.get_program()).args(command.get_args());
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    whole
}
