//! Random commands on networks in several processes at once, with `kill -9` of commands and monitors thrown in; after each round what the
//! kernel has (links, rules, addresses, ports, namespaces) is compared with what a model of a few lines says it must have.
//!
//! `ONGGI_MODEL_SEED=7 ONGGI_MODEL_ROUNDS=1000 cargo test --test network_model` replays, or goes on for longer.
//!
//! See it: `nft monitor`, `ip monitor link` in the test's namespace. Read: rtnetlink(7), flock(2), signal(7).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::jar::{Jar, Said, until};
use support::peer;

/// xorshift64*: the same seed gives the same commands.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.roll(words.len() as u64) as usize]
    }
}

/// Networks that are there from the beginning; each worker makes and removes one of its own besides.
const SHARED: [&str; 2] = ["red", "blue"];

/// What must be true of one container, which one worker alone touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Is {
    runs: bool,
    /// The networks that it is to be on, whether it runs or not.
    networks: BTreeSet<String>,
    port: Option<u16>,
}

/// Where a command may have stopped: each is a whole state, or no container.
type Model = BTreeMap<String, Vec<Option<Is>>>;

struct Worker<'a> {
    jar: &'a Jar,
    number: u64,
    dice: Dice,
    containers: Model,
    /// Its own network: whether it may be there, or not.
    own: BTreeSet<bool>,
    killing: bool,
    told: Vec<String>,
}

impl Worker<'_> {
    fn step(&mut self) {
        let name = format!("w{}-{}", self.number, self.dice.roll(2));
        let own = format!("own{}", self.number);
        let before = self.containers.get(&name).cloned().unwrap_or(vec![None]);
        let network = self.dice.one_of(&[SHARED[0], SHARED[1], &own]).to_string();
        let port = (7000 + self.number * 10 + self.dice.roll(2)) as u16;
        let publish = format!("{port}:80");
        let words: Vec<&str> = match self.dice.roll(12) {
            0..=3 => vec!["run", "-d", "--name", &name, "--network", &network, "-p", &publish, "base", "sleep", "1000"],
            4 => vec!["rm", "-f", &name],
            5 => vec!["restart", "-t", "0", &name],
            6 => vec!["stop", "-t", "0", &name],
            7 | 8 => vec!["network", "connect", &network, &name],
            9 => vec!["network", "disconnect", &network, &name],
            10 => vec!["network", "create", &own],
            _ => vec!["network", "rm", &own],
        };
        self.told.push(format!("{} ({before:?}, own {:?})", words[..words.len().min(8)].join(" "), self.own));
        match self.dice.roll(6) {
            0 if self.killing => {
                let mut command = self.jar.onggi(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(self.dice.roll(90)));
                let _ = command.kill();
                command.wait().unwrap();
                self.told.push("  killed".into());
                // What it had set going comes to its end.
                std::thread::sleep(Duration::from_millis(300));
                self.note(&words, &name, &network, port, None);
            }
            1 if self.killing && before.iter().flatten().any(|is| is.runs) => {
                self.told.push("  instead: kill -9 of its monitor".into());
                self.kill_monitor(&name);
                let stopped = |is: &Option<Is>| is.clone().map(|is| Is { runs: false, ..is });
                self.containers.insert(name, before.iter().map(stopped).collect());
            }
            _ => {
                let Said { code, err, .. } = self.jar.says(&words);
                self.told.push(format!("  → {code} {}", err.lines().nth(1).unwrap_or("").trim()));
                assert!(code <= 1 || code == 125, "{}: {words:?} → {code}\n{err}", self.story());
                self.note(&words, &name, &network, port, Some(code == 0));
            }
        }
    }

    /// What may be true after a command; `went_well` is None for one that was killed in the middle.
    fn note(&mut self, words: &[&str], name: &str, network: &str, port: u16, went_well: Option<bool>) {
        if words[0] == "network" && matches!(words[1], "create" | "rm") {
            let wanted = words[1] == "create";
            match went_well {
                Some(true) => self.own = [wanted].into(),
                // Nothing has changed: it was there already, or somebody is on it.
                Some(false) => {}
                None => drop(self.own.insert(wanted)),
            }
            return;
        }
        let before = self.containers.get(name).cloned().unwrap_or(vec![None]);
        let begun = |runs| Some(Is { runs, networks: [network.to_string()].into(), port: Some(port) });
        let changed: Vec<Option<Is>> = before
            .iter()
            .map(|is| match (words[0], is.clone()) {
                ("run", None) => begun(true),
                ("rm", _) => None,
                ("restart", Some(is)) => Some(Is { runs: true, ..is }),
                ("stop", Some(is)) => Some(Is { runs: false, ..is }),
                ("network", Some(mut is)) => {
                    match words[1] {
                        "connect" => drop(is.networks.insert(network.to_string())),
                        _ => drop(is.networks.remove(network)),
                    }
                    Some(is)
                }
                (_, is) => is,
            })
            .collect();
        let mut after = match went_well {
            Some(true) => changed,
            _ => [before.clone(), changed].concat(),
        };
        // A start that failed or was killed leaves a container that doesn't run; so does a restart between its two halves.
        if went_well != Some(true) {
            let extra: Vec<_> = match words[0] {
                "run" if before.contains(&None) => vec![begun(false)],
                "restart" | "rm" | "stop" => before.iter().flatten().map(|is| Some(Is { runs: false, ..is.clone() })).collect(),
                _ => Vec::new(),
            };
            after.extend(extra);
        }
        after.dedup();
        self.containers.insert(name.into(), after);
    }

    fn kill_monitor(&self, name: &str) {
        let Some(record) = self.jar.id_of(name).and_then(|id| self.jar.record(&id)) else { return };
        if let Some(pid) = record["state"]["monitor"]["pid"].as_i64() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }

    fn story(&self) -> String {
        let tail = self.told.len().saturating_sub(24);
        format!("worker {}, its last steps:\n{}", self.number, self.told[tail..].join("\n"))
    }
}

/// What is true of a container by its record and the kernel.
fn found(jar: &Jar, name: &str) -> Option<Is> {
    let record = jar.id_of(name).and_then(|id| jar.record(&id)).filter(|record| record["name"] == name)?;
    let networks = record["networks"].as_array().into_iter().flatten().map(|a| a["name"].as_str().unwrap().to_string()).collect();
    let runs = record["state"]["status"] == "running" && record["state"]["monitor"]["pid"].as_i64().is_some_and(is_alive);
    let definition = fs::read(jar.root.join("data/containers").join(record["id"].as_str()?).join("definition.json"));
    let definition: Value = definition.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let port = definition["request"]["ports"][0]["first"].as_u64().map(|port| port as u16);
    Some(Is { runs, networks, port })
}

/// At rest: each container is one of what it may be, and the host has what these need and nothing else.
fn compare(jar: &Jar, workers: &mut [Worker]) {
    // Any command clears up behind those who were killed.
    jar.does(&["network", "inspect", "bridge"]);
    let mut all: BTreeMap<String, Is> = BTreeMap::new();
    for worker in workers.iter_mut() {
        let own = format!("own{}", worker.number);
        let there = !jar.does(&["network", "ls", "-q", "--filter", &format!("name={own}")]).is_empty();
        assert!(worker.own.contains(&there), "{own} is there: {there}\n{}", worker.story());
        worker.own = [there].into();
        for (name, may_be) in worker.containers.clone() {
            let end = Instant::now() + Duration::from_secs(5);
            let is = loop {
                let is = found(jar, &name);
                if may_be.contains(&is) {
                    break is;
                }
                assert!(Instant::now() < end, "{name} is {is:?}, and may be {may_be:?}\n{}", worker.story());
                std::thread::sleep(Duration::from_millis(10));
            };
            worker.containers.insert(name.clone(), vec![is.clone()]);
            all.extend(is.map(|is| (name, is)));
        }
    }
    let story = || workers.iter().map(Worker::story).collect::<Vec<_>>().join("\n\n");
    let wanted = wanted(jar, &all);
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let there = there(jar);
        if there == wanted {
            break;
        }
        // A namespace, and its links with it, goes some moments after its last process.
        assert!(Instant::now() < end, "the host has\n{there:#?}\nand should have\n{wanted:#?}\n{}", story());
        std::thread::sleep(Duration::from_millis(20));
        jar.does(&["network", "inspect", "bridge"]);
    }
}

/// What a host has because of networks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ground {
    /// Bridges of those networks on which somebody is; others may wait for their first container.
    bridges: BTreeSet<String>,
    /// Links and rules of networks that are not.
    strays: BTreeSet<String>,
    /// Network and address, as the bridge's ports, the containers' own links and the files say it: all three must be the same.
    endpoints: BTreeSet<(String, String)>,
    cables: usize,
    /// Port of the host, where it leads.
    published: BTreeSet<(u16, String)>,
    listening: BTreeSet<u16>,
    namespaces: usize,
}

fn wanted(jar: &Jar, all: &BTreeMap<String, Is>) -> Ground {
    let mut ground = Ground::default();
    let networks = networks(jar);
    let link_of =
        |name: &String| networks.iter().find(|network| network["name"] == **name).map(|network| network["link"].as_str().unwrap().to_string());
    for (name, is) in all.iter().filter(|(_, is)| is.runs) {
        ground.namespaces += 1;
        let addresses: BTreeMap<String, String> = addresses_inside(jar, name);
        let mine: BTreeSet<&String> = is.networks.iter().collect();
        assert_eq!(addresses.keys().collect::<BTreeSet<_>>(), mine, "{name} has links on other networks than its own");
        ground.cables += addresses.len();
        ground.bridges.extend(addresses.keys().filter_map(link_of));
        ground.endpoints.extend(addresses.clone());
        if let (Some(port), Some(first)) = (is.port, is.networks.first()) {
            ground.published.insert((port, addresses[first].clone()));
            ground.listening.insert(port);
        }
    }
    ground
}

fn there(jar: &Jar) -> Ground {
    let links: Value = serde_json::from_str(&run("ip", &["-j", "link"])).unwrap();
    let named = |start: &str| {
        let names = links.as_array().unwrap().iter().filter_map(|link| link["ifname"].as_str());
        names.filter(|name| name.starts_with(start)).map(str::to_string).collect::<BTreeSet<_>>()
    };
    let rules: Value = serde_json::from_str(&run("nft", &["-j", "list", "ruleset"])).unwrap();
    let objects = |kind: &'static str, name: &'static str| {
        rules["nftables"].as_array().unwrap().iter().map(move |object| &object[kind]).filter(move |object| object["name"] == name)
    };
    let known = objects("set", "bridges").filter_map(|set| set["elem"].as_array()).flatten().filter_map(Value::as_str).map(str::to_string);
    let mut strays: BTreeSet<String> = named("og-").into_iter().chain(known).collect();
    let (mut bridges, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    for network in networks(jar) {
        let link = network["link"].as_str().unwrap();
        strays.remove(link);
        let file = jar.root.join("run/networks").join(format!("{}.json", network["id"].as_str().unwrap()));
        let list: Value = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        for endpoint in list.as_array().into_iter().flatten() {
            bridges.extend(named(link));
            let address = endpoint["addresses"][0].as_str().unwrap().split('/').next().unwrap().to_string();
            endpoints.insert((network["name"].as_str().unwrap().to_string(), address));
        }
    }
    let elements: Vec<&Value> = objects("map", "published_any_v4").filter_map(|map| map["elem"].as_array()).flatten().collect();
    let published = elements.iter().map(|pair| {
        let key = if pair[0]["elem"].is_object() { &pair[0]["elem"]["val"]["concat"] } else { &pair[0]["concat"] };
        (key[1].as_u64().unwrap_or_else(|| panic!("{pair}")) as u16, pair[1]["concat"][0].as_str().unwrap().to_string())
    });
    Ground {
        bridges,
        strays,
        endpoints,
        cables: named("veth").len(),
        published: published.collect(),
        listening: listening(),
        namespaces: namespaces(jar),
    }
}

/// The networks' own files.
fn networks(jar: &Jar) -> Vec<Value> {
    let files = fs::read_dir(jar.root.join("data/networks")).into_iter().flatten().flatten().map(|entry| entry.path());
    let all =
        files.filter(|path| path.extension().is_some_and(|end| end == "json")).filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
    // The default bridge is made by who uses it, and nobody does here.
    all.filter(|network: &Value| network["driver"] == "bridge" && network["name"] != "bridge").collect()
}

/// Network → address, by the links that a container has inside.
fn addresses_inside(jar: &Jar, name: &str) -> BTreeMap<String, String> {
    let pid = jar.init_of(name).unwrap_or_else(|| panic!("{name} has no process")).to_string();
    let shown = run("nsenter", &["-t", &pid, "-n", "ip", "-j", "-4", "address"]);
    let links: Value = serde_json::from_str(&shown).unwrap();
    let addresses = links
        .as_array()
        .unwrap()
        .iter()
        .filter(|link| link["ifname"] != "lo")
        .map(|link| link["addr_info"][0]["local"].as_str().unwrap().to_string());
    let networks = networks(jar);
    let network_of = |address: &str| {
        let begins = |network: &&Value| {
            let range: onggi::network::Cidr = network["subnets"][0]["subnet"].as_str().unwrap().parse().unwrap();
            range.contains(address.parse().unwrap())
        };
        networks.iter().find(begins).map_or("none".to_string(), |network| network["name"].as_str().unwrap().to_string())
    };
    addresses.map(|address| (network_of(&address), address)).collect()
}

/// The ports of the test's namespace at which somebody holds a socket, bound and listening, by IPv4.
fn listening() -> BTreeSet<u16> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let lines = table.lines().skip(1).filter(|line| line.split_whitespace().nth(3) == Some("0A"));
    lines.filter_map(|line| u16::from_str_radix(line.split_whitespace().nth(1)?.split(':').nth(1)?, 16).ok()).collect()
}

/// How many network namespaces, other than this thread's, the processes of this jar's containers are in.
fn namespaces(jar: &Jar) -> usize {
    let ids = jar.ids();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if ids.iter().any(|id| group.contains(id.as_str())) {
            found.extend(fs::read_link(entry.path().join("ns/net")).ok());
        }
    }
    found.remove(&fs::read_link("/proc/thread-self/ns/net").unwrap_or_else(|_| PathBuf::new()));
    found.len()
}

fn is_alive(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), None | Some('Z' | 'X')))
}

#[track_caller]
fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn rounds_agree_with_the_model(killing: bool, rounds: u64) {
    for program in ["ip", "nft", "nsenter"] {
        if peer(program).is_none() {
            return;
        }
    }
    let Some(jar) = Jar::new() else { return };
    let rounds = number("ONGGI_MODEL_ROUNDS", rounds);
    let seed = number("ONGGI_MODEL_SEED", 1);
    support::say(&format!("network_model: ONGGI_MODEL_SEED={seed} ONGGI_MODEL_ROUNDS={rounds}, killing: {killing}"));
    for network in SHARED {
        jar.does(&["network", "create", network]);
    }
    let new = |number| {
        let dice = Dice(seed.wrapping_mul(3).wrapping_add(number).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Worker { jar: &jar, number, dice, containers: Model::new(), own: [false].into(), killing, told: Vec::new() }
    };
    let mut workers: Vec<Worker> = (0..3).map(new).collect();
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(move || (0..4).for_each(|_| worker.step()));
            }
        });
        compare(&jar, &mut workers);
    }
    for id in jar.ids() {
        jar.does(&["rm", "-f", &id]);
    }
    jar.does(&["network", "prune", "-f"]);
    until("all is as before", || there(&jar) == Ground::default());
}

#[test]
fn the_kernel_has_what_the_commands_said() {
    rounds_agree_with_the_model(false, 8);
}

#[test]
fn whoever_is_killed_when_links_rules_and_ports_are_what_they_must_be() {
    rounds_agree_with_the_model(true, 10);
}
