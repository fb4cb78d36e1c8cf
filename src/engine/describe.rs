//! A container in Docker's words: what `inspect` prints. A field is there when it says something that is true here.
//!
//! See it: `onggi inspect web`, next to `container.json` and `definition.json` in the container's folder.
//! Read: docs.docker.com/reference/api/engine, "Inspect a container".

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::config;
use super::home::Home;
use super::networks;
use super::record::{self, Definition, Probe, Record, Status};
use super::request::{NamedVolume, Namespace, Request, Restart, SeccompChoice, Volume};
use super::volumes;
use crate::error::Result;
use crate::volume;

/// What `inspect` tells of a container, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: State,
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    pub name: String,
    pub restart_count: u32,
    pub driver: &'static str,
    pub platform: &'static str,
    pub host_config: Value,
    pub graph_driver: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    pub mounts: Vec<Value>,
    pub config: Value,
    pub network_settings: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub started_at: String,
    pub finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    pub status: String,
    pub failing_streak: u32,
    pub log: Vec<Value>,
}

/// Go's time for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Describes a container; with its size when that is asked for, since every file must be looked at.
///
/// # Errors
/// NotFound, Invalid when its definition is damaged.
pub fn describe(home: &Home, record: &Record, with_size: bool) -> Result<Description> {
    let definition = record::definition(home, &record.id)?;
    let dir = home.container(&record.id);
    let path = |name: &str| dir.join(name).display().to_string();
    let sizes = with_size.then(|| sizes(home, &record.id));
    Ok(Description {
        id: record.id.clone(),
        created: record.created.clone(),
        path: record.command.first().cloned().unwrap_or_default(),
        args: record.command.iter().skip(1).cloned().collect(),
        state: state(record),
        image: record.image_id.clone(),
        resolv_conf_path: path("resolv.conf"),
        hostname_path: path("hostname"),
        hosts_path: path("hosts"),
        log_path: if definition.request.log.kept { home.log(&record.id).display().to_string() } else { String::new() },
        name: format!("/{}", record.name),
        restart_count: record.state.restarts,
        driver: "overlay2",
        platform: "linux",
        host_config: host_config(record, &definition.request),
        graph_driver: graph_driver(home, record, &definition),
        size_rw: sizes.map(|(written, _)| written),
        size_root_fs: sizes.map(|(_, whole)| whole),
        mounts: record.volumes.iter().map(|volume| mount(volume, &home.volumes(), &definition.request.inherited)).collect(),
        config: own_config(record, &definition),
        network_settings: networks::describe::settings(home, record)?,
    })
}

fn state(record: &Record) -> State {
    let status = record.status();
    let running = matches!(status, Status::Running | Status::Paused | Status::Restarting);
    let runs_now = matches!(status, Status::Running | Status::Paused);
    let state = &record.state;
    State {
        status: status.to_string(),
        running,
        paused: status == Status::Paused,
        restarting: status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: status == Status::Dead,
        pid: state.init.filter(|_| runs_now).map_or(0, |init| init.pid),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started.clone().unwrap_or_else(|| NEVER.into()),
        finished_at: state.finished.clone().unwrap_or_else(|| NEVER.into()),
        health: state.health.as_ref().map(|health| Health {
            status: health.status.clone(),
            failing_streak: health.failing_streak,
            log: health.log.iter().map(probe).collect(),
        }),
    }
}

fn probe(probe: &Probe) -> Value {
    json!({ "Start": probe.start, "End": probe.end, "ExitCode": probe.exit_code, "Output": probe.output })
}

fn host_config(record: &Record, request: &Request) -> Value {
    let limits = &request.limits;
    let binds: Vec<String> = record.volumes.iter().filter(|volume| !request.inherited.contains(volume.target())).filter_map(bind).collect();
    let tmpfs: BTreeMap<String, String> = record
        .volumes
        .iter()
        .filter_map(|volume| match volume {
            Volume::Tmpfs { target, options } => Some((target.display().to_string(), options.join(","))),
            Volume::Bind { .. } | Volume::Named(_) => None,
        })
        .collect();
    let (policy, retries) = match record.restart {
        Restart::No => ("no", 0),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
        Restart::OnFailure(retries) => ("on-failure", retries),
    };
    let security = &request.security;
    let mut options = Vec::new();
    options.extend(security.no_new_privileges.then(|| "no-new-privileges".to_string()));
    options.extend(matches!(security.seccomp, SeccompChoice::Unconfined).then(|| "seccomp=unconfined".to_string()));
    options.extend(security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    options.extend(security.unmask.then(|| "systempaths=unconfined".to_string()));
    let devices = request
        .devices
        .iter()
        .map(|device| json!({ "PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": device.access }));
    let ulimits = limits
        .rlimits
        .iter()
        .map(|limit| json!({ "Name": limit.kind.trim_start_matches("RLIMIT_").to_lowercase(), "Soft": limit.soft, "Hard": limit.hard }));
    let mut log = Map::new();
    log.extend(request.log.max_size.map(|size| ("max-size".to_string(), size.to_string().into())));
    log.extend((request.log.max_file > 1).then(|| ("max-file".to_string(), request.log.max_file.to_string().into())));
    json!({
        "AutoRemove": record.remove,
        "Binds": if binds.is_empty() { Value::Null } else { binds.into() },
        "CapAdd": listed(&security.cap_add),
        "CapDrop": listed(&security.cap_drop),
        "CgroupParent": request.cgroup_parent.clone().unwrap_or_default(),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices.collect::<Vec<_>>(),
        "Dns": request.dns.servers,
        "DnsOptions": request.dns.options,
        "DnsSearch": request.dns.search,
        "ExtraHosts": request.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect::<Vec<_>>(),
        "GroupAdd": request.groups,
        "Init": request.init,
        "IpcMode": if request.ipc == Namespace::Host { "host" } else { "private" },
        "LogConfig": { "Type": if request.log.kept { "json-file" } else { "none" }, "Config": log },
        "Memory": limits.memory.unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "NanoCpus": limits.cpus.map_or(0, |cpus| (cpus * 1e9).round() as i64),
        "NetworkMode": networks::describe::mode(record),
        "OomScoreAdj": limits.oom_score_adj.unwrap_or(0),
        "PidMode": if request.pid == Namespace::Host { "host" } else { "" },
        "PidsLimit": limits.pids,
        "PortBindings": networks::describe::bindings(request),
        "PublishAllPorts": request.publish_all,
        "Privileged": security.privileged,
        "ReadonlyRootfs": request.read_only,
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": retries },
        "SecurityOpt": if options.is_empty() { Value::Null } else { options.into() },
        "ShmSize": request.shm_size.unwrap_or(64 << 20),
        "Sysctls": request.sysctls.iter().cloned().collect::<BTreeMap<_, _>>(),
        "Tmpfs": tmpfs,
        "UTSMode": if request.uts == Namespace::Host { "host" } else { "" },
        "VolumesFrom": listed(&request.volumes_from.iter().map(|(name, mode)| if mode.is_empty() { name.clone() } else { format!("{name}:{mode}") }).collect::<Vec<_>>()),
        "Ulimits": ulimits.collect::<Vec<_>>(),
    })
}

/// None at all is `null` in Docker's answer.
fn listed(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { words.to_vec().into() }
}

fn bind(volume: &Volume) -> Option<String> {
    match volume {
        Volume::Bind { source, target, read_only, .. } => {
            Some(format!("{}:{}{}", source.display(), target.display(), if *read_only { ":ro" } else { "" }))
        }
        Volume::Named(named) if !named.anonymous => {
            let mode = if named.mode.is_empty() { String::new() } else { format!(":{}", named.mode) };
            Some(format!("{}:{}{mode}", named.name, named.target.display()))
        }
        _ => None,
    }
}

fn mount(volume: &Volume, volumes: &Path, inherited: &[PathBuf]) -> Value {
    let is_inherited = inherited.contains(volume.target());
    match volume {
        Volume::Named(named) => json!({
            "Type": "volume",
            "Name": named.name,
            "Source": volume::data(volumes, &named.name),
            "Destination": named.target,
            "Driver": "local",
            // Docker's "z" stands for "shared", where there are SELinux labels and where there are none.
            "Mode": match named.mode.as_str() {
                _ if is_inherited => "",
                "" if !named.anonymous => "z",
                mode => mode,
            },
            "RW": !named.read_only,
            "Propagation": "",
        }),
        Volume::Bind { source, target, read_only, propagation, .. } => json!({
            "Type": "bind",
            "Source": source,
            "Destination": target,
            "Mode": if *read_only && !is_inherited { "ro" } else { "" },
            "RW": !read_only,
            "Propagation": propagation.as_deref().unwrap_or("rprivate"),
        }),
        Volume::Tmpfs { target, options } => json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": target,
            "Mode": options.join(","),
            "RW": !options.iter().any(|option| option == "ro"),
            "Propagation": "",
        }),
    }
}

fn graph_driver(home: &Home, record: &Record, definition: &Definition) -> Value {
    let dir = home.container(&record.id);
    // The kernel wants the highest first.
    let lower: Vec<String> = record::layer_dirs(home, definition).iter().rev().map(|dir| dir.display().to_string()).collect();
    json!({
        "Name": "overlay2",
        "Data": { "LowerDir": lower.join(":"), "MergedDir": dir.join("merged"), "UpperDir": dir.join("upper"), "WorkDir": dir.join("work") },
    })
}

fn own_config(record: &Record, definition: &Definition) -> Value {
    let (request, image) = (&definition.request, &definition.image);
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_string();
    let mut env = request.env.clone();
    env.extend(image.env.iter().filter(|pair| !request.env.iter().any(|own| name(own) == name(pair))).cloned());
    let command = match (request.command.is_empty(), &request.entrypoint) {
        (false, _) => &request.command,
        (true, Some(_)) => &Vec::new(),
        (true, None) => &image.cmd,
    };
    let hostname = request.hostname.clone().unwrap_or_else(|| crate::id::short(&record.id).into());
    let mut places: Map<String, Value> = image.volumes.clone().into_iter().collect();
    // Those of `-v /place`; `--mount` is told elsewhere.
    let own = |named: &&NamedVolume| named.anonymous && named.mode.is_empty() && !request.inherited.contains(&named.target);
    for named in volumes::named(&record.volumes).filter(own) {
        places.entry(named.target.to_string_lossy()).or_insert(json!({}));
    }
    let mut config = json!({
        "Hostname": hostname,
        "Domainname": request.domainname.clone().unwrap_or_default(),
        "User": request.user.clone().unwrap_or_else(|| image.user.clone()),
        "Tty": request.terminal,
        "OpenStdin": request.interactive,
        "StdinOnce": request.stdin_once,
        "Env": env,
        "Cmd": listed(command),
        "Image": record.image,
        "Volumes": if places.is_empty() { Value::Null } else { places.into() },
        "WorkingDir": request.working_dir.as_ref().map_or_else(|| image.working_dir.clone(), |dir| dir.display().to_string()),
        "Entrypoint": listed(request.entrypoint.as_ref().unwrap_or(&image.entrypoint)),
        "Labels": record.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
    });
    let mut add = |key: &str, value: Option<Value>| value.map(|value| config[key] = value).unwrap_or_default();
    let exposed: BTreeMap<String, Map<String, Value>> =
        record.exposed.iter().map(|(port, protocol)| (format!("{port}/{protocol}"), Map::new())).collect();
    add("ExposedPorts", (!exposed.is_empty()).then(|| json!(exposed)));
    add("StopSignal", record.stop_signal.as_ref().map(|signal| json!(signal)));
    add("StopTimeout", record.stop_timeout.map(|seconds| json!(seconds)));
    add("Healthcheck", config::health_check(request, image).map(|check| json!(check)));
    config
}

/// A command as one line: words with spaces in quotes.
pub fn one_line(command: &[String]) -> String {
    let word = |(at, word): (usize, &String)| if at > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() };
    command.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// The bytes that a container has written, and those of its whole root. What can't be looked at counts for nothing.
pub fn sizes(home: &Home, id: &str) -> (u64, u64) {
    let written = tree_size(&home.container(id).join("upper"));
    let layers = record::definition(home, id).map(|definition| record::layer_dirs(home, &definition)).unwrap_or_default();
    (written, written + layers.iter().map(|dir| tree_size(dir)).sum::<u64>())
}

/// The bytes of the files in a folder, a file with several names counted once.
pub fn tree_size(dir: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut open = vec![dir.to_path_buf()];
    let mut size = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_dir() {
                open.push(entry.path());
            } else if facts.nlink() == 1 || seen.insert((facts.dev(), facts.ino())) {
                size += facts.len();
            }
        }
    }
    size
}
