//! Docker and Onggi on one host: neither disturbs the other's bridges, rules, ports and addresses, and what the course notes type of networks
//! gives the same columns. The host is a network namespace of the test's own, the daemon has a folder of its own.
//!
//! See it: `nft list tables`, `iptables -S DOCKER-USER`. Read: dockerd(8), docker-network(1).

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onggi::sys::namespace;

use support::jar::{Jar, Said, said, until};
use support::peer;
use support::short::{Short, unmount_below};

const WORLD: &str = "203.0.113.2";
const HOST: &str = "203.0.113.1";

/// One host with both engines, and a cable to the world.
struct Both {
    jar: Jar,
    world: File,
    docker: PathBuf,
    dockerd: PathBuf,
    daemon: Option<Child>,
    folder: Jar,
    short: Short,
}

impl Both {
    fn new() -> Option<Both> {
        let (dockerd, docker, busybox) = (peer("dockerd")?, peer("docker")?, peer("busybox")?);
        for program in ["ip", "nft", "iptables", "tar"] {
            peer(program)?;
        }
        let (jar, folder) = (Jar::new()?, Jar::empty());
        let world = std::thread::scope(|scope| {
            let made = || {
                namespace::unshare(namespace::CLONE_NEWNET).unwrap();
                namespace::loopback_up().unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            };
            scope.spawn(made).join().unwrap()
        });
        let mut both = Both { jar, world, docker, dockerd, daemon: None, folder, short: Short::new() };
        let there = format!("/proc/{}/fd/{}", std::process::id(), both.world.as_raw_fd());
        shell(&format!("ip link add up0 type veth peer name up0 netns {there}; ip address add {HOST}/24 dev up0; ip link set up0 up"));
        both.in_world(|| shell(&format!("ip address add {WORLD}/24 dev up0; ip link set up0 up")));
        shell(&format!("ip route add default via {WORLD}"));
        // Docker's firewall drops what it doesn't know only where Docker itself had to switch forwarding on, as after a machine's start.
        shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
        both.start_daemon();
        let archive = busybox_archive(&both.folder.root, &busybox);
        both.docker(&["import", archive.to_str().unwrap(), "bb"]);
        Some(both)
    }

    fn start_daemon(&mut self) {
        let log = File::options().append(true).create(true).open(self.folder.root.join("log")).unwrap();
        let mut command = Command::new(&self.dockerd);
        command.args(self.short.dockerd_place(&self.folder.root)).arg("--storage-driver=vfs");
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("start dockerd"));
        until("dockerd answers", || self.docker_says(&["version"]).code == 0);
    }

    fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }

    fn docker_says(&self, words: &[&str]) -> Said {
        said(Command::new(&self.docker).args(["-H", &self.short.host()]).args(words).stdin(Stdio::null()).output().unwrap())
    }

    #[track_caller]
    fn docker(&self, words: &[&str]) -> String {
        let said = self.docker_says(words);
        assert_eq!(said.code, 0, "docker {words:?}: {}\n{}", said.err, std::fs::read_to_string(self.folder.root.join("log")).unwrap_or_default());
        said.out.trim_end().to_string()
    }

    fn in_world<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(&self.world, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    /// What each of both containers says when it fetches a page from somewhere.
    fn fetches(&self, url: &str) -> (Option<String>, Option<String>) {
        // Debian's static busybox falls over wget -T.
        let words = ["exec", "web", "timeout", "3", "wget", "-qO-", url];
        let out = |said: Said| (said.code == 0).then(|| said.out.trim().to_string());
        (out(self.jar.says(&words)), out(self.docker_says(&words)))
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        for id in self.docker_says(&["ps", "-aq"]).out.split_whitespace() {
            self.docker_says(&["rm", "-f", id]);
        }
        self.stop_daemon();
        unmount_below(&self.folder.root);
    }
}

/// A root file system of busybox alone, as a tar archive.
fn busybox_archive(folder: &Path, busybox: &Path) -> PathBuf {
    let root = folder.join("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in ["sh", "echo", "cat", "sleep", "wget", "httpd", "mkdir", "ls", "ip", "ping", "nslookup", "timeout"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let archive = folder.join("rootfs.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap().success());
    archive
}

#[track_caller]
fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A page that says who it is.
const SERVER: &str = "mkdir -p /w; echo $0 >/w/index.html; exec httpd -f -p 80 -h /w";

fn fetch(at: &str) -> Option<String> {
    let at: SocketAddr = at.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_millis(1500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().last().map(str::to_string)
}

/// Serves one page in the world until dropped.
struct Page(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Page {
    fn of(both: &Both) -> Page {
        let listener = both.in_world(|| TcpListener::bind("0.0.0.0:80").unwrap());
        listener.set_nonblocking(true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, from)) => {
                        stream.set_nonblocking(false).unwrap();
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}\n", from.ip());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Page(over, Some(thread))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// Our own table as it is, without the counts of packets.
fn our_table() -> String {
    let rules = shell("nft list ruleset");
    let ours: Vec<&str> = rules.lines().skip_while(|line| !line.starts_with("table inet onggi")).take_while(|line| *line != "}").collect();
    ours.iter().map(|line| line.split(" counter packets").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn both_engines_work_side_by_side() {
    let Some(mut both) = Both::new() else { return };
    let _page = Page::of(&both);
    both.docker(&["run", "-d", "--name", "web", "-p", "8081:80", "bb", "sh", "-c", SERVER, "docker"]);
    let begun = both.jar.says(&["run", "-d", "--name", "web", "-p", "8080:80", "base", "sh", "-c", SERVER, "onggi"]);
    assert_eq!(begun.code, 0, "{}", begun.err);
    // Docker's firewall drops what it doesn't know; that is said, with what to type, and that is then enough.
    let remedy = begun.err.lines().find_map(|line| line.split_once("to let it pass: ")).unwrap_or_else(|| panic!("nothing said: {}", begun.err)).1;
    assert!(remedy.contains("iptables -I DOCKER-USER"), "{remedy}");
    shell(remedy);
    let [ours, dockers] = [
        both.jar.does(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]),
        both.docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web"]),
    ];
    assert_ne!(ours.rsplit_once('.').unwrap().0, dockers.rsplit_once('.').unwrap().0, "they have ranges of their own");

    let all_is_well = |both: &Both, when: &str| {
        let seen = both.fetches(&format!("http://{WORLD}:80/"));
        assert_eq!(seen, (Some(HOST.into()), Some(HOST.into())), "both reach the world {when}");
        for (port, name) in [(8080, "onggi"), (8081, "docker")] {
            for place in ["127.0.0.1", HOST] {
                assert_eq!(fetch(&format!("{place}:{port}")).as_deref(), Some(name), "{place}:{port} {when}");
            }
            assert_eq!(both.in_world(|| fetch(&format!("{HOST}:{port}"))).as_deref(), Some(name), "from the world {when}");
            let (a, b) = both.fetches(&format!("http://{HOST}:{port}/"));
            assert_eq!((a.as_deref(), b.as_deref()), (Some(name), Some(name)), "from each container, {port} {when}");
        }
    };
    all_is_well(&both, "at first");
    let table = our_table();
    assert!(table.contains("8080"), "{table}");

    // A port of one is taken for the other, and whose it is is said.
    let taken = both.jar.says(&["run", "--rm", "-p", "8081:80", "base", "true"]);
    assert!(taken.code == 125 && taken.err.contains("8081") && taken.err.contains("docker"), "{}", taken.err);
    assert_ne!(both.docker_says(&["run", "--rm", "-p", "8080:80", "bb", "sh"]).code, 0);

    both.stop_daemon();
    assert_eq!(our_table(), table, "Docker went and left our table as it is");
    assert_eq!(both.in_world(|| fetch(&format!("{HOST}:8080"))).as_deref(), Some("onggi"));
    both.start_daemon();
    assert_eq!(our_table(), table, "Docker came and left our table as it is");
    both.docker(&["start", "web"]);
    all_is_well(&both, "after Docker's restart");

    let rules_of_docker = shell("iptables-save -t nat | grep -c DOCKER");
    both.jar.does(&["rm", "-f", "web"]);
    both.jar.does(&["network", "create", "front"]);
    both.jar.does(&["network", "rm", "front"]);
    assert_eq!(shell("iptables-save -t nat | grep -c DOCKER"), rules_of_docker);
    assert_eq!(fetch(&format!("{HOST}:8081")).as_deref(), Some("docker"));

    what_the_notes_type_gives_the_same(&both);
}

/// Without the IDs and times, which are each engine's own.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = |line: &str| line.split_whitespace().map(|word| if is_id(word) { "ID" } else { word }).collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

fn what_the_notes_type_gives_the_same(both: &Both) {
    both.docker(&["rm", "-f", "web"]);
    let script: &[&[&'static str]] = &[
        &["network", "ls"],
        &["network", "create", "--driver", "bridge", "my-bridge"],
        &["network", "ls"],
        &["network", "ls", "--filter", "driver=bridge", "--format", "{{.Name}}: {{.Driver}}"],
        &["run", "-d", "--name", "web1", "IMAGE", "sleep", "1000"],
        &["run", "-d", "--name", "my-web1", "--network", "my-bridge", "IMAGE", "sleep", "1000"],
        &["network", "connect", "my-bridge", "web1"],
        &["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "my-bridge"],
        &["inspect", "-f", "{{range $name, $all := .NetworkSettings.Networks}}{{$name}} {{end}}", "web1"],
        &["inspect", "-f", "{{.HostConfig.NetworkMode}}", "my-web1"],
        &["network", "rm", "my-bridge"],
        &["network", "connect", "my-bridge", "web1"],
        &["network", "disconnect", "my-bridge", "web1"],
        &["network", "disconnect", "my-bridge", "web1"],
        &["run", "-d", "--name", "ports", "-p", "9090-9091:90-91", "-p", "9092:9092/udp", "-p", "127.0.0.1:9093:93", "IMAGE", "sleep", "1000"],
        &["port", "ports"],
        &["port", "ports", "90"],
        &["ps", "--filter", "network=my-bridge", "--format", "{{.Names}}"],
        &["ps", "-a", "--format", "{{.Names}}\t{{.Ports}}\t{{.Networks}}"],
        &["rm", "-f", "ports", "my-web1", "web1"],
        &["network", "rm", "my-bridge"],
        &["network", "rm", "my-bridge"],
        &["network", "create", "bridge"],
        &["network", "rm", "host"],
        &["network", "prune", "-f"],
    ];
    let with = |words: &[&'static str], image: &'static str| -> Vec<&'static str> {
        words.iter().map(|word| if *word == "IMAGE" { image } else { *word }).collect()
    };
    // One after the other: they want the same ports.
    let ours: Vec<Said> = script.iter().map(|words| both.jar.says(&with(words, "base"))).collect();
    let dockers: Vec<Said> = script.iter().map(|words| both.docker_says(&with(words, "bb"))).collect();
    for ((words, ours), dockers) in script.iter().zip(ours).zip(dockers) {
        assert_eq!(ours.code, dockers.code, "{words:?}: {} {}", ours.err, dockers.err);
        assert_eq!(sorted(&without_ids(&ours.out)), sorted(&without_ids(&dockers.out)), "{words:?}");
    }
}

/// The words of the answer in an order of their own where Docker has none: the members of a network are a map.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    if let [only] = &mut lines[..] {
        let mut words: Vec<&str> = only.split(' ').collect();
        words.sort_unstable();
        *only = words.join(" ");
    }
    lines
}
