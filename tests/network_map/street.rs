//! A host in a network namespace of the test's own, with an uplink that leads to nobody: containers stand along it.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::support;
use crate::support::jar::{Jar, ONGGI, Said};

pub struct Street {
    pub jar: Jar,
}

/// What `onggi network trace --json` said.
pub struct Trace {
    pub json: Value,
    code: i32,
}

impl Street {
    /// None, said in one line, where this can't be done.
    pub fn new() -> Option<Street> {
        for program in ["ip", "nsenter", "sysctl"] {
            support::peer(program)?;
        }
        let street = Street { jar: Jar::new()? };
        street.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "beyond"]);
        street.run("ip", &["address", "add", "192.0.2.10/24", "dev", "eth0"]);
        street.run("ip", &["link", "set", "beyond", "up"]);
        street.run("ip", &["link", "set", "eth0", "up"]);
        street.run("ip", &["route", "add", "default", "via", "192.0.2.1"]);
        Some(street)
    }

    pub fn network(&self, name: &str, subnet: &str, options: &[&str]) {
        self.jar.does(&[&["network", "create", "--subnet", subnet], options, &[name]].concat());
    }

    pub fn container(&self, name: &str, options: &[&str]) {
        self.jar.does(&[&["run", "-d", "--name", name, "--stop-timeout", "0"], options, &["base", "sleep", "600"]].concat());
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.jar.init_of(name).unwrap()
    }

    /// A command's output; it must go well.
    #[track_caller]
    pub fn run(&self, program: &str, words: &[&str]) -> String {
        let output = Command::new(program).args(words).env("ONGGI_ROOT", &self.jar.root).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{program} {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same for a line of the shell, in a container's network namespace.
    #[track_caller]
    pub fn within(&self, name: &str, line: &str) -> String {
        let pid = self.pid(name).to_string();
        self.run("nsenter", &["-t", &pid, "-n", "sh", "-c", line])
    }

    /// A program that takes connections in a container's network namespace.
    pub fn listen(&self, name: &str, at: &str) -> TcpListener {
        self.inside(name, || TcpListener::bind(at).unwrap())
    }

    /// A program that sends each datagram back.
    pub fn echo(&self, name: &str, at: &str) {
        let socket = self.inside(name, || UdpSocket::bind(at).unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        });
    }

    fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid(name))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    pub fn map(&self) -> Value {
        serde_json::from_str(&self.jar.does(&["network", "map", "--json"])).unwrap()
    }

    #[track_caller]
    pub fn trace(&self, from: &str, to: &str) -> Trace {
        let Said { code, out, err } = self.jar.says(&["network", "trace", "--json", from, to]);
        let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{from} {to}: {e}: {out}{err}"));
        Trace { json, code }
    }

    /// Does what a trace tells to do, until it tells no more: then the packet arrives.
    #[track_caller]
    pub fn mend(&self, trace: &Trace, from: &str, to: &str) {
        let mut remedy = trace.remedy();
        for _ in 0..3 {
            let line = remedy.split("   (or").next().unwrap().replace("onggi ", &format!("{ONGGI} "));
            self.run("sh", &["-c", &line]);
            let again = self.trace(from, to);
            if again.code == 0 {
                return;
            }
            remedy = again.remedy();
        }
        panic!("{from} {to}: not mended by {remedy:?}: {}", trace.json);
    }
}

impl Trace {
    /// What was predicted, whether it arrived, whether both agree.
    #[track_caller]
    pub fn assert(&self, prediction: &str, arrives: bool, agree: Option<bool>) {
        assert_eq!(self.json["prediction"], prediction, "{:#}", self.json);
        assert_eq!((&self.json["arrives"], &self.json["agree"]), (&Value::Bool(arrives), &serde_json::json!(agree)), "{:#}", self.json);
        assert_eq!(self.code, i32::from(!arrives), "{:#}", self.json);
    }

    #[track_caller]
    pub fn hop(&self, name: &str) -> &Value {
        let hops = self.json["hops"].as_array().unwrap();
        hops.iter().find(|hop| hop["name"] == name).unwrap_or_else(|| panic!("no hop {name}: {:#}", self.json))
    }

    /// It doesn't arrive; the first that stops it is this hop, with this part of a remedy.
    #[track_caller]
    pub fn stops_at(&self, name: &str, remedy: &str) {
        let hops = self.json["hops"].as_array().unwrap();
        let first = hops.iter().find(|hop| hop["answer"] == "stops").unwrap_or_else(|| panic!("nothing stops it: {:#}", self.json));
        assert!(first["name"] == name && first["remedy"].as_str().unwrap().contains(remedy), "{:#}", self.json);
        assert_eq!((&self.json["arrives"], self.code), (&Value::Bool(false), 1), "{:#}", self.json);
    }

    /// The last hop of the way itself stops it, for this reason.
    #[track_caller]
    pub fn also_stops_at(&self, name: &str, why: &str) {
        let last = self.json["hops"].as_array().unwrap().last().unwrap();
        assert!(last["name"] == name && last["answer"] == "stops" && last["seen"].as_str().unwrap().contains(why), "{:#}", self.json);
    }

    fn remedy(&self) -> String {
        let hops = self.json["hops"].as_array().unwrap();
        let first = hops.iter().find(|hop| hop["answer"] == "stops").unwrap_or_else(|| panic!("nothing stops it: {:#}", self.json));
        first["remedy"].as_str().unwrap().to_string()
    }
}
