//! The steps 01 to 06: each does what its chapter says, all that the steps before it do, what the engine does; and is short.
//!
//! See it: `cargo test --test steps`. Read: `steps/`, the chapters of the same names.

#[path = "steps/asks.rs"]
mod asks;
mod support;
#[path = "steps/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use support::jar::{Jar, said, until};
use world::{Place, Step, place, refused};

const BUILT: [(&str, &str); 10] = [
    ("01", env!("CARGO_BIN_EXE_step-01")),
    ("02", env!("CARGO_BIN_EXE_step-02")),
    ("03", env!("CARGO_BIN_EXE_step-03")),
    ("04", env!("CARGO_BIN_EXE_step-04")),
    ("05", env!("CARGO_BIN_EXE_step-05")),
    ("06", env!("CARGO_BIN_EXE_step-06")),
    ("07", env!("CARGO_BIN_EXE_step-07")),
    ("08", env!("CARGO_BIN_EXE_step-08")),
    ("09", env!("CARGO_BIN_EXE_step-09")),
    ("12", env!("CARGO_BIN_EXE_step-12")),
];

/// The files, and what of the engine is their own subject: that they write out themselves.
const FILES: [(&str, &[&str]); 6] = [
    ("01_chroot.rs", &["runtime", "sys", "engine", "image", "workshop"]),
    ("02_namespaces.rs", &["runtime", "sys::namespace", "sys::mount", "engine", "image", "workshop"]),
    ("03_cgroups.rs", &["runtime", "sys::namespace", "sys::mount", "engine", "image", "workshop"]),
    ("04_overlay.rs", &["runtime", "sys::namespace", "sys::mount", "engine", "image"]),
    ("05_image.rs", &["image::manifest", "image::digest", "image::layers", "image::load", "image::archive", "image::unpack", "image::resolve"]),
    (
        "06_container.rs",
        &[
            "engine::run",
            "engine::start",
            "engine::stop",
            "engine::monitor",
            "engine::record",
            "engine::log",
            "engine::background",
            "runtime::state",
            "runtime::lifecycle",
            "runtime::init",
        ],
    ),
];

/// These steps and all later ones: as root, and as a user from 02 on.
fn from(place: &Arc<Place>, first: &str) -> Vec<Step> {
    let steps = BUILT.iter().filter(|(number, _)| *number >= first);
    let both = steps.flat_map(|(number, built)| [false, true].map(|is_user| Step::new(place, number, built, is_user)));
    both.filter(|step| step.number != "01" || !step.is_user).collect()
}

fn step(place: &Arc<Place>, number: &str, is_user: bool) -> Step {
    from(place, number).into_iter().find(|step| step.is_user == is_user).unwrap()
}

#[test]
fn the_root_is_its_own() {
    let Some(place) = place() else { return };
    from(&place, "01").iter().for_each(|step| asks::has_a_root_of_its_own(step, &place));
}

#[test]
fn exit_codes_and_streams_are_the_commands() {
    let Some(place) = place() else { return };
    from(&place, "01").iter().for_each(asks::passes_the_exit_code_on);
    from(&place, "02").iter().for_each(|step| asks::passes_the_streams_on(step, &place));
}

#[test]
fn nothing_is_left_behind() {
    let Some(place) = place() else { return };
    from(&place, "01").iter().for_each(asks::leaves_nothing);
}

#[test]
fn namespaces_are_its_own_as_those_of_the_engine() {
    let (Some(place), Some(jar)) = (place(), Jar::new()) else { return };
    from(&place, "02").iter().for_each(|step| asks::is_isolated(step, &place, &jar));
}

#[test]
fn limits_hold_as_those_of_the_engine() {
    let (Some(place), Some(jar)) = (place(), Jar::new()) else { return };
    from(&place, "03").iter().for_each(|step| asks::is_limited(step, &jar));
    from(&place, "03").iter().for_each(asks::says_what_is_wrong_with_limits);
}

#[test]
fn layers_are_shared_and_what_is_written_is_not() {
    let Some(place) = place() else { return };
    from(&place, "04").iter().for_each(asks::has_layers);
}

#[test]
fn a_user_is_told_why_there_is_no_chroot() {
    let Some(place) = place() else { return };
    let step = Step::new(&place, "01", BUILT[0].1, true);
    refused(&step, &step.run(&["true"]), 125, "CAP_SYS_CHROOT");
}

#[test]
fn what_is_missing_is_told_in_one_line() {
    let Some(place) = place() else { return };
    for step in from(&place, "01") {
        refused(&step, &step.says(&[]), 125, "");
        let verb: &[&str] = if step.number >= "06" { &["run"] } else { &[] };
        refused(&step, &step.says(verb), 125, "");
        refused(&step, &step.says(&[verb, &["nojar", "true"]].concat()), 125, "nojar");
        refused(&step, &step.says(&[verb, &["/etc/passwd", "true"]].concat()), 125, "");
    }
    for step in from(&place, "01").iter().filter(|step| step.number < "05") {
        refused(step, &step.says(&["jar"]), 125, "COMMAND");
    }
}

#[test]
fn the_first_layer_is_the_topmost() {
    let Some(place) = place() else { return };
    for name in ["top", "odd:,\\ 층"] {
        fs::create_dir_all(place.dir.join(name).join("etc")).unwrap();
        fs::write(place.dir.join(name).join("etc/os-release"), name).unwrap();
    }
    for is_user in [false, true] {
        let step = step(&place, "04", is_user);
        assert_eq!(step.says(&["top:jar", "cat", "/etc/os-release"]).out, "top");
        assert!(step.says(&["jar:top", "cat", "/etc/os-release"]).out.contains("Onggi base"));
        refused(&step, &step.says(&["jar:nojar", "true"]), 125, "nojar");
        refused(&step, &step.says(&["jar:jar", "true"]), 125, "stack jar:jar");
        // These letters mean something in overlay's options; with `:` a folder can only be named from within.
        let mut command = step.words(&["../top:.:../jar", "cat", "/etc/os-release"]);
        command.current_dir(place.dir.join("odd:,\\ 층"));
        assert_eq!(said(command.output().unwrap()).out, "top");
    }
}

/// An image with a layer that deletes, replaces and makes anew, in the engine's store and as a folder.
fn layered(jar: &Jar, place: &Place, name: &str) -> std::path::PathBuf {
    let script = "rm /etc/shells; rm -r /usr/share; mkdir /usr/share; echo new > /usr/share/new; ln -sf /etc/group /etc/passwd2; mkdir -p /opt/a/b; chmod 1777 /opt/a";
    jar.does(&["run", "--name", name, "--network", "none", "base", "sh", "-c", script]);
    jar.does(&["commit", "--change", "CMD [\"cat\", \"/usr/share/new\"]", "--change", "WORKDIR /opt/a", "--change", "ENV WHO=jar", name, name]);
    let archive = place.dir.join(format!("{name}.tar"));
    jar.does(&["save", name, "-o", &archive.display().to_string()]);
    let folder = place.dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    assert!(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&folder).status().unwrap().success());
    folder
}

#[test]
fn an_image_is_what_the_engine_makes_of_it() {
    let (Some(place), Some(jar)) = (place(), Jar::new()) else { return };
    layered(&jar, &place, "layered");
    // Without the kernel's own folders, and with what differs between runs left out.
    let tree = "find / -xdev -path /dev -prune -o -path /proc -prune -o -path /sys -prune -o -path /run -prune -o -path '/etc/host*' -prune \
        -o -path /etc/resolv.conf -prune -o -path /etc/mtab -prune -o -mindepth 1 -printf '%P %y %m %l\\n' | sort";
    let engine = jar.shows(&["--network", "none", "layered", "sh", "-c", tree]);
    for step in from(&place, "05") {
        let verb: &[&str] = if step.number == "05" { &[] } else { &["run", "--rm"] };
        for source in ["layered", "layered.tar"] {
            let words = |command: &[&str]| step.says(&[verb, &[source], command].concat());
            assert_eq!(words(&["sh", "-c", tree]).out.trim_end(), engine, "{}", step.name());
            assert_eq!(words(&[]).out, "new\n", "{}: the image's own command", step.name());
            assert_eq!(words(&["sh", "-c", "echo $WHO; pwd"]).out, "jar\n/opt/a\n", "{}", step.name());
        }
    }
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused_and_not_kept() {
    let (Some(place), Some(jar)) = (place(), Jar::new()) else { return };
    let folder = layered(&jar, &place, "damaged");
    let index = fs::read_to_string(folder.join("index.json")).unwrap();
    let blobs: Vec<_> = fs::read_dir(folder.join("blobs/sha256")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(blobs.len() >= 4, "{blobs:?}");
    for is_user in [false, true] {
        let step = step(&place, "05", is_user);
        for blob in &blobs {
            let _ = fs::remove_dir_all(step.state());
            let whole = fs::read(blob).unwrap();
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 1;
            fs::write(blob, &damaged).unwrap();
            refused(&step, &step.says(&["damaged", "true"]), 125, &blob.file_name().unwrap().to_string_lossy());
            fs::write(blob, &whole).unwrap();
            for kept in fs::read_dir(step.state().join("layers")).into_iter().flatten().flatten() {
                let name = kept.file_name().to_string_lossy().into_owned();
                assert!(name.len() == 64 && !blob.ends_with(&name), "{} keeps {name}", step.name());
            }
        }
        // A digest is the name of a file, so it must be one.
        fs::write(folder.join("index.json"), index.replace("sha256:", "sha256:../../")).unwrap();
        refused(&step, &step.says(&["damaged", "true"]), 125, "is no digest");
        fs::write(folder.join("index.json"), &index).unwrap();
        assert_eq!(step.says(&["damaged", "true"]).code, 0);
    }
}

#[test]
fn a_container_lives_on_in_the_background_until_it_is_stopped_and_removed() {
    let Some(place) = place() else { return };
    for step in from(&place, "06") {
        let name = step.name();
        let before = step.traces_at_rest();
        let script = "echo ready; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
        let run = |name: &str, command: &[&str]| step.says(&[&["run", "-d", "--name", name, "base.tar"], command].concat());
        assert_eq!(run("web", &["sh", "-c", script]).out, "web\n", "{name}");
        refused(&step, &run("web", &["true"]), 125, "web");
        refused(&step, &step.says(&["rm", "web"]), 125, "stop web");
        until("it is ready", || step.says(&["logs", "web"]).out == "ready\n");
        assert!(step.says(&["ps"]).out.lines().any(|line| line.starts_with("web ") && line.contains(" Up ")), "{name}");
        assert_eq!(step.says(&["stop", "web"]).out, "web\n", "{name}");
        assert!(step.says(&["ps"]).out.contains("Exited (3)"), "{name}");
        assert_eq!(step.says(&["logs", "web"]).out, "ready\nbye\n", "{name}");
        assert_eq!(step.says(&["stop", "web"]).code, 0, "{name}");
        assert_eq!(step.says(&["rm", "web"]).out, "web\n", "{name}");
        refused(&step, &step.says(&["logs", "web"]), 125, "web");
        for verb in ["logs", "stop", "rm"] {
            refused(&step, &step.says(&[verb, "../web"]), 125, "../web");
        }
        // Deaf ones are killed after the time, and not before.
        let deaf = run("deaf", &["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"]);
        assert_eq!(deaf.code, 0, "{name}: {deaf:?}");
        until("it is deaf", || step.says(&["logs", "deaf"]).out == "deaf\n");
        let began = std::time::Instant::now();
        step.says(&["stop", "-t", "1", "deaf"]);
        assert!((900..5000).contains(&began.elapsed().as_millis()), "{name}");
        assert!(step.says(&["ps"]).out.contains("Exited (137)"), "{name}");
        step.says(&["rm", "deaf"]);
        // The command isn't there: the container ran, and its exit code says so.
        assert_eq!(run("lost", &["nosuch"]).code, 0, "{name}");
        until("it has ended", || step.says(&["ps"]).out.contains("Exited (127)"));
        step.says(&["rm", "lost"]);
        step.leaves_only(&before, "three containers");
    }
}

#[test]
fn pid_1_takes_in_orphans_and_passes_signals_on() {
    let Some(place) = place() else { return };
    for step in from(&place, "06") {
        let orphans = "for i in 1 2 3; do (sleep 0.1 &) ; done; sleep 0.4; cat /proc/[0-9]*/stat | grep -c ') Z '";
        assert_eq!(step.run(&["sh", "-c", orphans]).out, "0\n", "{}", step.name());
        assert!(step.shows(&["cat", "/proc/1/comm"]).contains("init"), "{}", step.name());
        for (signal, name) in [(nix::sys::signal::SIGUSR1, "USR1"), (nix::sys::signal::SIGHUP, "HUP"), (nix::sys::signal::SIGINT, "INT")] {
            let script = format!("trap 'exit 9' {name}; while :; do sleep 0.05; done");
            let (child, _) = step.begin_with(&[], &["sh", "-c", &script], "sleep");
            assert_eq!(world::end(child, signal), 9, "{}, {name}", step.name());
        }
    }
}

#[test]
fn a_monitor_that_is_killed_takes_its_container_along() {
    let Some(place) = place() else { return };
    for step in from(&place, "06") {
        let before = step.traces_at_rest();
        assert_eq!(step.says(&["run", "-d", "--name", "web", "base.tar", "sleep", "1000"]).code, 0);
        let state: serde_json::Value = serde_json::from_slice(&fs::read(step.state().join("containers/web/state.json")).unwrap()).unwrap();
        let init = support::kernel::Process(state["pid"].as_i64().unwrap() as i32);
        let monitor: i32 = init.status("PPid").parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::SIGKILL).unwrap();
        until("the container has ended", || !init.lives());
        assert!(step.says(&["ps"]).out.contains("Dead"), "{}", step.name());
        assert_eq!(step.says(&["stop", "web"]).code, 0);
        assert_eq!(step.says(&["rm", "web"]).code, 0);
        step.leaves_only(&before, "a monitor that was killed");
    }
}

#[test]
fn each_step_is_short_and_begins_with_three_lines_and_writes_its_own_subject_out() {
    for (file, own) in FILES {
        let text = world::source(file);
        let lines = text.lines().count();
        assert!(lines <= 240, "{file} has {lines} lines");
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let last = &head[head.len() - 3..];
        for (line, word) in last.iter().zip(["//! Try it: ", "//! See it: ", "//! Read: "]) {
            assert!(line.starts_with(word), "{file}: {line}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 150), "{file} has a line over 150 letters");
        for import in world::imports(&text) {
            let room = own.iter().find(|room| import == **room || import.starts_with(&format!("{room}::")));
            let excepted = ["sys::process", "sys::path", "sys::xattr"].iter().any(|call| import.starts_with(call)) && file != "01_chroot.rs";
            assert!(room.is_none() || excepted, "{file} imports its own subject: {import}");
        }
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("steps").join(file).exists());
    }
}
