//! Networks on a host as a student has it: cgroup v2 alone, forwarding off, a firewall that drops, a resolver on loopback, modules that are
//! missing. The tests in `guest` run in a VM.
//!
//! See it: `cargo test --test network_vm`. Read: Documentation/networking/ip-sysctl.rst, nft(8).

mod support;

use support::guest::guest_tests_pass;
use support::vm::Variant;
use support::{find_program, peer};

#[test]
fn networks_on_a_host_of_its_own() {
    if ["ip", "nft"].iter().any(|program| peer(program).is_none()) {
        return;
    }
    let programs: Vec<_> = ["ip", "nft"].iter().filter_map(|program| find_program(program)).collect();
    guest_tests_pass("guest", Variant::TmpfsRoot, &programs);
}

mod guest {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::process::Command;
    use std::time::Duration;

    use nix::sched::{CloneFlags, setns};
    use onggi::sys::namespace;

    use super::support::jar::{ONGGI, Said, said};
    use super::support::{find_program, vm};

    fn says(words: &[&str]) -> Said {
        said(Command::new(ONGGI).args(words).output().unwrap())
    }

    #[track_caller]
    fn does(words: &[&str]) -> String {
        let said = says(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.out.trim_end().to_string()
    }

    #[track_caller]
    fn shell(script: &str) -> String {
        // busybox's sh would take its own ip, which knows less.
        let script = format!("ip() {{ {} \"$@\"; }}; {script}", find_program("ip").unwrap().display());
        let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// The network namespace at the other end of a new cable from the host: 203.0.113.2.
    fn world() -> File {
        let made = || {
            namespace::unshare(namespace::CLONE_NEWNET).unwrap();
            namespace::loopback_up().unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let world = std::thread::scope(|scope| scope.spawn(made).join().unwrap());
        let there = format!("/proc/{}/fd/{}", std::process::id(), world.as_raw_fd());
        shell(&format!("ip link add up0 type veth peer name up0 netns {there}; ip address add 203.0.113.1/24 dev up0; ip link set up0 up"));
        inside(&world, || shell("ip address add 203.0.113.2/24 dev up0; ip link set up0 up"));
        shell("ip route add default via 203.0.113.2");
        world
    }

    fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    fn reaches(container: &str, target: &str) -> bool {
        says(&["exec", container, "ping", "-c", "1", "-W", "2", target]).code == 0
    }

    fn fetch(to: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(3)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().last().map(str::to_string)
    }

    /// One after the other, on one machine: the first finds it as it is after its start.
    #[test]
    fn from_the_first_container_to_the_last_rule() {
        if !vm::inside() {
            return;
        }
        what_is_missing_is_named();
        let world = world();
        forwarding_is_switched_on(&world);
        what_a_firewall_drops_is_said(&world);
        names_come_from_a_resolver_on_loopback();
        does(&["rm", "-f", "web"]);
        does(&["network", "prune", "-f"]);
        assert!(!shell("ip -o link").contains("veth"));
    }

    /// A module that can't be loaded is named, and with it all is well.
    fn what_is_missing_is_named() {
        for (module, gone) in [
            ("veth", &["veth"][..]),
            ("nft_fib_inet", &["nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib"]),
            ("nft_chain_nat", &["nft_redir", "nft_masq", "nft_nat", "nft_chain_nat"]),
        ] {
            for name in gone {
                // What is built in stays, and what another one needs.
                let _ = Command::new("rmmod").arg(name).output();
            }
            if std::path::Path::new("/sys/module").join(module).exists() {
                println!("{module} can't be taken away");
                continue;
            }
            let refused = says(&["run", "--rm", "base", "true"]);
            println!("without {module}: {}", refused.err);
            assert!(refused.code == 125 && refused.err.contains(&format!("modprobe {module}")), "{module}: {refused:?}");
            for name in gone.iter().rev() {
                shell(&format!("insmod /vm/modules.d/{name}.ko"));
            }
            shell("nft flush ruleset; for link in $(ip -o link | cut -d: -f2 | grep -e onggi -e og-); do ip link delete $link; done");
        }
        does(&["run", "--rm", "base", "true"]);
    }

    fn forwarding_is_switched_on(world: &File) {
        shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
        let script = "mkdir -p /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w";
        does(&["run", "-d", "--name", "web", "-p", "8080:80", "base", "sh", "-c", script]);
        assert_eq!(shell("cat /proc/sys/net/ipv4/ip_forward"), "1");
        assert!(reaches("web", "203.0.113.2"), "the world, with the host's address");
        let from_world = || inside(world, || fetch("203.0.113.1:8080"));
        assert_eq!(from_world().as_deref(), Some("hello"));
        assert_eq!(fetch("127.0.0.1:8080").as_deref(), Some("hello"));
        // Its first network has the short name of the machine's own.
        assert!(shell("ip -o link").contains("onggi0") && shell("nft list tables") == "table inet onggi");
    }

    fn what_a_firewall_drops_is_said(world: &File) {
        shell("nft add table inet fw; nft 'add chain inet fw forward { type filter hook forward priority 0; policy drop; }'");
        assert!(!reaches("web", "203.0.113.2"));
        assert_eq!(fetch("127.0.0.1:8080").as_deref(), Some("hello"), "the host itself forwards nothing to reach it");
        does(&["network", "create", "front"]);
        for network in ["bridge", "front"] {
            let told = says(&["run", "-d", "--name", "late", "--network", network, "base", "sleep", "1000"]);
            let remedy = told.err.lines().find_map(|line| line.split_once("to let it pass: ")).unwrap_or_else(|| panic!("{told:?}")).1;
            assert!(told.err.contains("inet fw forward") && !reaches("late", "203.0.113.2"), "{told:?}");
            shell(remedy);
            assert!(reaches("late", "203.0.113.2"), "{remedy}");
            does(&["rm", "-f", "late"]);
            let quiet = says(&["run", "--rm", "--network", network, "base", "true"]);
            assert!(quiet.code == 0 && !quiet.err.contains("to let it pass"), "{quiet:?}");
        }
        assert_eq!(inside(world, || fetch("203.0.113.1:8080")).as_deref(), Some("hello"));
    }

    /// The VM's own /etc/resolv.conf says 127.0.0.1.
    fn names_come_from_a_resolver_on_loopback() {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        let _stream = TcpListener::bind("127.0.0.1:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 1500];
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                    let is_a = bytes[length - 3] == 1;
                    let mut reply = [&bytes[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], &bytes[12..length]].concat();
                    if is_a {
                        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                    }
                    let _ = socket.send_to(&reply, from);
                }
            });
            let found: Vec<String> = ["bridge", "front"]
                .map(|network| says(&["run", "--rm", "--network", network, "base", "nslookup", "somewhere.test"]))
                .iter()
                .map(|said| format!("{}{}", said.out, said.err))
                .collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(found.iter().all(|text| text.contains("192.0.2.7")), "{found:?}");
        });
    }
}
