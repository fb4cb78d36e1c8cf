//! Ways out through what the runtime has open: its descriptors, its own program, its working directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::jar::{Jar, answer, install};

/// `/proc/self/fd/N` with enough `..` behind it to come to the host's root, for each N that a runtime may have open.
fn ways_out(folder: &str) -> String {
    (3..64).map(|n| format!("/proc/self/fd/{n}/../../../../../../../../..{folder}")).collect::<Vec<_>>().join(":")
}

fn open_files(facts: &Value) -> Vec<String> {
    facts["fds"].as_object().unwrap().keys().filter(|number| number.parse::<u32>().unwrap() > 2).cloned().collect()
}

#[test]
fn no_working_directory_leads_out_through_a_descriptor() {
    // CVE-2024-21626. The probe would show where it is.
    let Some(mut jar) = Jar::new("cwd") else { return };
    jar.link("/proc/self/fd/7", "away");
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/5", "/proc/self/fd/8", "/away", "/proc/self/cwd", "/proc/1/root/.."] {
        jar.config["process"]["cwd"] = json!(cwd);
        let output = jar.run();
        if output.status.success() {
            let facts = answer(&output);
            assert!(facts["cwd"].as_str().unwrap().starts_with('/'), "{cwd} is {}", facts["cwd"]);
        }
    }
    jar.config["process"]["cwd"] = json!("/");
    jar.start_waiting();
    for cwd in (3..20).map(|n| format!("/proc/self/fd/{n}")).chain(["/away".into()]) {
        let output = jar.exec(&["--cwd", &cwd, "--", "/probe"]);
        assert!(!output.status.success(), "{cwd}: {output:?}");
    }
}

#[test]
fn no_program_is_found_outside_through_a_descriptor() {
    // CVE-2024-21626, third attack: descriptors that close at execve are still open while execve looks the program up.
    let Some(mut jar) = Jar::new("program") else { return };
    let path = format!("PATH={}", ways_out(jar.dir.to_str().unwrap()));
    jar.config["process"]["env"] = json!([path]);
    jar.args(&["outside-probe"]);
    let output = jar.run();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout)), (Some(127), "".into()));

    jar.config["process"]["env"] = json!(["PATH=/"]);
    jar.start_waiting();
    let output = jar.exec(&["--env", &path, "--", "outside-probe"]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout)), (Some(127), "".into()));
}

#[test]
fn no_descriptor_of_the_runtime_is_open_in_a_container() {
    let Some(mut jar) = Jar::new("fds") else { return };
    assert_eq!(open_files(&jar.answer()), Vec::<String>::new());
    let pid = jar.start_waiting();
    assert_eq!(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 3);
    assert_eq!(open_files(&answer(&jar.exec(&["/probe"]))), Vec::<String>::new());
}

#[test]
fn the_runtime_s_own_file_cannot_be_written_from_inside() {
    // CVE-2019-5736: a script whose interpreter is the runtime itself.
    let Some(mut jar) = Jar::new("exe") else { return };
    let own = env!("CARGO_BIN_EXE_onggi-runtime");
    let before = (fs::metadata(own).unwrap().len(), fs::metadata(own).unwrap().mtime());
    fs::write(jar.rootfs("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(jar.rootfs("script"), fs::Permissions::from_mode(0o755)).unwrap();
    jar.args(&["/script"]);
    jar.run();
    jar.start_waiting();
    let output = jar.exec(&["/script"]);
    assert!(!output.status.success());
    assert_eq!(before, (fs::metadata(own).unwrap().len(), fs::metadata(own).unwrap().mtime()));
}

#[test]
fn a_waiting_first_process_runs_from_a_read_only_mount() {
    // Between create and start the runtime's program is what `/proc/PID/exe` shows.
    let Some(jar) = Jar::new("waits") else { return };
    fs::write(jar.dir.join("config.json"), jar.config.to_string()).unwrap();
    let pid_file = jar.dir.join("pid");
    let words = ["create", "--pid-file", pid_file.to_str().unwrap(), "--bundle", jar.dir.to_str().unwrap(), &jar.id];
    assert!(jar.command(&words).stdout(std::process::Stdio::null()).status().unwrap().success());
    let pid = fs::read_to_string(pid_file).unwrap();
    let flags = nix::sys::statvfs::statvfs(format!("/proc/{pid}/exe").as_str()).unwrap().flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{flags:?}");
}

#[test]
fn the_host_s_null_device_keeps_its_owner_and_mode() {
    let Some(mut jar) = Jar::new("null") else { return };
    let null = || fs::metadata("/dev/null").map(|m| (m.uid(), m.gid(), m.mode(), m.rdev())).unwrap();
    let before = null();
    jar.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    jar.start_waiting();
    for options in [&["--user", "1000:1000", "--", "/probe"][..], &["--detach", "--user", "1000:1000", "--", "/probe", "exit", "0"]] {
        let mut words = vec!["exec"];
        words.extend(&options[..options.len() - options.iter().rev().position(|word| *word == "--").unwrap() - 1]);
        words.push(&jar.id);
        words.extend(options.iter().skip_while(|word| **word != "--").skip(1));
        let null = std::process::Stdio::null;
        assert!(jar.command(&words).stdin(null()).stdout(null()).stderr(null()).status().unwrap().success());
    }
    assert_eq!(null(), before);
}

#[test]
fn an_exec_ed_process_hides_its_program_and_descriptors_from_the_container() {
    // The container's root may not look at a process that has come in and is not yet its program: it is not dumpable.
    let Some(mut jar) = Jar::new("hides") else { return };
    jar.start_waiting();
    install(&jar.rootfs("tmp/probe"));
    let mut child = jar.command(&["exec", &jar.id, "/tmp/probe", "wait"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let facts: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(open_files(&facts), Vec::<String>::new());
    // It came from outside: its parent is none of the container's.
    assert_eq!(facts["ppid"], 0);
    drop(jar);
    child.wait().unwrap();
}
