//! `exec`: one more process in a container, with the container's own settings and what the caller changes.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::life_jar::*;
use crate::support::jar::{Jar, said, until};

#[test]
fn it_has_the_containers_namespaces_cgroup_and_environment() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &["-e", "A=container", "-e", "B=container", "-w", "/usr", "-u", "1000:1000", "--hostname", "jar"], POLITE);
    let init = init(&jar, "host");
    let mut inside = begun(&jar, &["exec", "-i", "host", "sh", "-c", "echo $A $B $PWD $(id -u):$(id -g) $(hostname); cat"]);
    let mut reader = std::io::BufReader::new(inside.stdout.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut reader, &mut first).unwrap();
    assert_eq!(first, "container container /usr 1000:1000 jar\n");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", inside.id())).unwrap();
    let child = crate::support::kernel::Process(children.split_whitespace().next().unwrap().parse().unwrap());
    for kind in ["pid", "mnt", "net", "uts", "ipc", "cgroup"] {
        assert_eq!(child.namespace(kind), init.namespace(kind));
    }
    assert_eq!(child.read("cgroup"), init.read("cgroup"));
    assert_eq!(child.status("CapBnd"), init.status("CapBnd"));
    drop(inside.stdin.take());
    assert_eq!(inside.wait().unwrap().code(), Some(0));
    let changed =
        jar.does(&["exec", "-e", "B=mine", "-e", "C=new", "-w", "/tmp", "-u", "root", "host", "sh", "-c", "echo $A $B $C $PWD $(id -u) $HOME"]);
    assert_eq!(changed, "container mine new /tmp 0 /root");
    let file = jar.root.join("env");
    fs::write(&file, "# a remark\nD=from file\n").unwrap();
    assert_eq!(jar.does(&["exec", "--env-file", file.to_str().unwrap(), "host", "sh", "-c", "echo $D"]), "from file");
}

#[test]
fn users_are_those_of_the_containers_files() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &[], POLITE);
    assert_eq!(jar.does(&["exec", "-u", "student", "host", "sh", "-c", "id -un; id -g; echo $HOME"]), "student\n1000\n/home/student");
    jar.does(&["exec", "host", "sh", "-c", "echo 'guest:x:77:78::/srv:/bin/sh' >> /etc/passwd; echo 'guests:x:79:guest' >> /etc/group"]);
    assert_eq!(jar.does(&["exec", "-u", "guest", "host", "sh", "-c", "id -u; id -g; id -G"]), "77\n78\n78 79");
    assert_eq!(jar.does(&["exec", "-u", "5:guests", "host", "sh", "-c", "id -u; id -g"]), "5\n79");
    fails(&jar, &["exec", "-u", "nobody-such", "host", "true"], 1, &["nobody-such"]);
}

#[test]
fn exit_codes_are_dockers() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &[], POLITE);
    assert_eq!(jar.says(&["exec", "host", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(jar.says(&["exec", "host", "sh", "-c", "kill -9 $$"]).code, 137);
    fails(&jar, &["exec", "host", "nonsense"], 127, &["\"nonsense\"", "executable file not found in $PATH"]);
    fails(&jar, &["exec", "host", "/etc"], 126, &["/etc"]);
    fails(&jar, &["exec", "host", "/etc/passwd"], 126, &["permission denied"]);
    fails(&jar, &["exec", "-w", "/no/such", "host", "true"], 126, &["/no/such"]);
    fails(&jar, &["exec", "-w", "relative", "host", "true"], 1, &["relative", "absolute"]);
    fails(&jar, &["exec", "nobody", "true"], 1, &["No such container: nobody"]);
    jar.does(&["stop", "-t", "0", "host"]);
    fails(&jar, &["exec", "host", "true"], 1, &["is not running"]);
}

#[test]
fn i_reads_to_the_end_of_its_input_and_without_it_there_is_none() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &[], POLITE);
    let input: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let told = fed(&jar, &["exec", "-i", "host", "sh", "-c", "sha256sum"], &input);
    let sum = |output: &str| output.split(' ').map(str::trim).take(1).collect::<Vec<_>>().join(" ");
    let mut here = std::process::Command::new("sha256sum").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut here.stdin.take().unwrap(), &input).unwrap();
    assert_eq!(sum(&told.out), sum(&said(here.wait_with_output().unwrap()).out));
    assert_eq!(fed(&jar, &["exec", "host", "sh", "-c", "cat; echo nothing"], b"unread").out, "nothing\n");
    let much = jar.says(&["exec", "host", "sh", "-c", "seq 1 100000; echo err >&2"]);
    assert_eq!((much.code, much.out.lines().count(), &*much.err), (0, 100_000, "err\n"));
}

#[test]
fn d_goes_on_after_the_command_that_began_it() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "host", &[], POLITE);
    let null = fs::metadata("/dev/null").unwrap();
    let said = jar.says(&["exec", "-d", "-u", "1000", "host", "sh", "-c", "sleep 0.3; echo done > /tmp/done; exec sleep 1000"]);
    assert_eq!((said.code, &*said.out, &*said.err), (0, "", ""));
    let file = jar.root.join("data/containers").join(&id).join("upper/tmp/done");
    until("it is done", || fs::read_to_string(&file).is_ok_and(|text| text == "done\n"));
    let listed = jar.does(&["exec", "host", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
    assert!(listed.contains("sleep 1000"), "{listed}");
    fails(&jar, &["exec", "-d", "host", "nonsense"], 127, &["nonsense"]);
    use std::os::unix::fs::MetadataExt;
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((null.uid(), null.gid(), null.mode()), (after.uid(), after.gid(), after.mode()), "the host's /dev/null is as it was");
    jar.does(&["stop", "-t", "1", "host"]);
    assert!(crate::support::kernel::cgroups_named(&id).is_empty(), "it ended with its container");
}

#[test]
fn privileged_has_every_capability_that_there_is_to_give() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &["--cap-drop", "ALL"], POLITE);
    let caps = |options: &[&str]| {
        let words = [&["exec"], options, &["host", "grep", "CapEff", "/proc/self/status"]].concat();
        u64::from_str_radix(jar.does(&words).split('\t').nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(caps(&[]), 0);
    let ours = crate::support::kernel::host().status("CapBnd");
    assert_eq!(caps(&["--privileged"]), u64::from_str_radix(&ours, 16).unwrap());
}

#[test]
fn a_signal_to_the_command_reaches_the_process_and_not_the_container() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &[], POLITE);
    let mut inside = begun(&jar, &["exec", "host", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done"]);
    let mut ready = [0; 6];
    std::io::Read::read_exact(inside.stdout.as_mut().unwrap(), &mut ready).unwrap();
    kill(Pid::from_raw(inside.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(inside.wait().unwrap().code(), Some(9));
    assert!(init(&jar, "host").lives());
}

#[test]
fn in_a_container_that_ends_meanwhile_it_ends_too() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "host", &[], POLITE);
    let inside: Vec<_> = (0..3).map(|_| begun(&jar, &["exec", "host", "sh", "-c", "echo in; exec sleep 1000"])).collect();
    let mut inside: Vec<_> = inside
        .into_iter()
        .map(|mut child| {
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
            child
        })
        .collect();
    jar.does(&["kill", "host"]);
    for child in &mut inside {
        assert_eq!(child.wait().unwrap().code(), Some(137));
    }
}

#[test]
fn into_a_dying_container_it_gets_in_or_says_why_not() {
    let Some(jar) = Jar::new() else { return };
    for delay in [0, 5, 10, 15, 20, 30, 40] {
        background(&jar, "host", &[], POLITE);
        let all: Vec<_> = (0..3).map(|_| begun(&jar, &["exec", "host", "true"])).collect();
        std::thread::sleep(Duration::from_millis(delay));
        jar.does(&["kill", "host"]);
        for child in all {
            let told = said(child.wait_with_output().unwrap());
            let refused = told.code == 1 && told.err.contains("is not running");
            assert!(matches!(told.code, 0 | 137) || refused, "{delay} ms: {told:?}");
        }
        jar.does(&["rm", "host"]);
    }
    jar.assert_nothing_left();
}
