//! From what was asked for and what the image says to the config of an OCI bundle, with Docker's defaults.
//!
//! See it: `config.json` in the container's folder. Read: config.md, docker run(1), moby's `oci/defaults.go` for what Docker takes.

use std::path::{Path, PathBuf};

use super::devices;
use super::request::{Below, Limits, NetworkMode, Request, SeccompChoice, Volume};
use crate::error::{Error, Result};
use crate::image::manifest::{ContainerConfig, Healthcheck};
use crate::runtime::spec::{
    CapabilitySets, Cpu, DeviceRule, Linux, Memory, Mount, Namespace, NamespaceKind, OCI_VERSION, Pids, Process, Resources, Root, Spec, User,
};
use crate::runtime::{capabilities, cgroups, default_spec, seccomp, users};

/// What the image says of its program (OCI image specification, config.md).
#[derive(Debug, Default, Clone)]
pub struct Defaults {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: Option<PathBuf>,
}

impl Defaults {
    /// Those of an image's config.
    pub fn of(settings: &ContainerConfig) -> Defaults {
        Defaults {
            entrypoint: settings.entrypoint.clone(),
            command: settings.cmd.clone(),
            env: settings.env.clone(),
            working_dir: Some(PathBuf::from(&settings.working_dir)).filter(|dir| dir.is_absolute()),
        }
    }
}

/// What is known of the container beside the request.
pub struct Facts<'a> {
    pub id: &'a str,
    pub image: &'a Defaults,
    pub user: User,
    /// None for the host's own name.
    pub hostname: Option<String>,
    /// A network namespace that is there already.
    pub network: Option<PathBuf>,
    pub rootfs: PathBuf,
    /// Files of ours that stand for the image's: /etc/hosts and so on.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The host's file that is `/sbin/docker-init`.
    pub init: Option<PathBuf>,
    pub rootless: bool,
    /// The folder of all volumes.
    pub volumes: &'a Path,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The config.
///
/// # Errors
/// Invalid for options that contradict each other or the image.
pub fn spec(request: &Request, facts: &Facts) -> Result<Spec> {
    let bounding = capabilities::docker_set(request.security.privileged, &request.security.cap_add, &request.security.cap_drop)?;
    let hostname = facts.hostname.clone();
    Ok(Spec {
        oci_version: OCI_VERSION.into(),
        root: Some(Root { path: facts.rootfs.clone(), readonly: request.read_only }),
        mounts: mounts(request, facts),
        process: Some(process(request, facts, &bounding, hostname.as_deref())?),
        hostname,
        domainname: request.domainname.clone(),
        annotations: request.labels.iter().cloned().collect(),
        linux: Some(linux(request, facts, &bounding)?),
        ..Spec::default()
    })
}

/// The command line of the container: the entrypoint, then the command. A new entrypoint makes the image's command meaningless.
///
/// # Errors
/// Invalid when nothing is left to run.
pub fn command_line(request: &Request, image: &Defaults) -> Result<Vec<String>> {
    let entrypoint = request.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command = match (request.command.is_empty(), &request.entrypoint) {
        (false, _) => &request.command[..],
        (true, Some(_)) => &[],
        (true, None) => &image.command[..],
    };
    let line: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    match line.is_empty() {
        true => Err(Error::invalid(format!("run {}", request.image), "no command specified: the image has none, and none was given")),
        false => Ok(line),
    }
}

/// The health check: the image's, with what the request changes. None when there is none.
pub fn health_check(request: &Request, image: &ContainerConfig) -> Option<Healthcheck> {
    let wanted = &request.health;
    if wanted.none {
        return None;
    }
    let mut check = image.healthcheck.clone().unwrap_or_default();
    if let Some(command) = &wanted.command {
        check.test = vec!["CMD-SHELL".into(), command.clone()];
    }
    let nanoseconds = |time: Option<i64>, old: u64| time.and_then(|time| u64::try_from(time).ok()).unwrap_or(old);
    check.interval = nanoseconds(wanted.interval, check.interval);
    check.timeout = nanoseconds(wanted.timeout, check.timeout);
    check.start_period = nanoseconds(wanted.start_period, check.start_period);
    check.start_interval = nanoseconds(wanted.start_interval, check.start_interval);
    check.retries = wanted.retries.map_or(check.retries, u64::from);
    let is_there = check.test.first().is_some_and(|first| first != "NONE") && check.test.len() > 1;
    is_there.then_some(check)
}

/// None for the host's own name.
pub fn hostname(request: &Request, id: &str) -> Option<String> {
    match (&request.hostname, request.uts) {
        (Some(name), _) => Some(name.clone()),
        (None, super::request::Namespace::Host) => None,
        (None, super::request::Namespace::Own) if request.network == NetworkMode::Host => {
            nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
        }
        _ => Some(crate::id::short(id).into()),
    }
}

fn process(request: &Request, facts: &Facts, bounding: &[String], hostname: Option<&str>) -> Result<Process> {
    let mut args = command_line(request, facts.image)?;
    if facts.init.is_some() {
        args.splice(0..0, ["/sbin/docker-init".to_string(), "--".to_string()]);
    }
    Ok(Process {
        terminal: request.terminal,
        user: facts.user.clone(),
        args,
        env: environment(request, facts.image, hostname),
        cwd: request.working_dir.clone().or_else(|| facts.image.working_dir.clone()).unwrap_or_else(|| "/".into()),
        capabilities: Some(capability_sets(bounding, facts.user.uid)),
        rlimits: request.limits.rlimits.clone(),
        no_new_privileges: request.security.no_new_privileges,
        apparmor_profile: request.security.apparmor.clone(),
        oom_score_adj: request.limits.oom_score_adj,
        ..Process::default()
    })
}

/// Only root's program has its capabilities in hand; for others they stay in the bounding set, for setuid programs to gain.
pub fn capability_sets(bounding: &[String], uid: u32) -> CapabilitySets {
    let held = if uid == 0 { bounding.to_vec() } else { Vec::new() };
    CapabilitySets { bounding: bounding.to_vec(), effective: held.clone(), permitted: held, ..CapabilitySets::default() }
}

/// Sets `NAME=VALUE`, in the place of an older value: getenv(3) would find the first.
pub fn set_variable(env: &mut Vec<String>, pair: &str) {
    let name = pair.split('=').next().unwrap_or_default();
    env.retain(|old| old.split('=').next() != Some(name));
    env.push(pair.to_string());
}

/// PATH and HOSTNAME, then the image's, then the request's: a later one of the same name wins.
fn environment(request: &Request, image: &Defaults, hostname: Option<&str>) -> Vec<String> {
    let mut env = vec![PATH.to_string()];
    env.extend(hostname.map(|name| format!("HOSTNAME={name}")));
    if request.terminal {
        env.push("TERM=xterm".into());
    }
    image.env.iter().chain(&request.env).for_each(|pair| set_variable(&mut env, pair));
    env
}

fn mounts(request: &Request, facts: &Facts) -> Vec<Mount> {
    let one_group = facts.rootless && default_spec::one_group_only();
    // sysfs belongs to the network namespace's owner: a user namespace on the host's network may only bind it.
    let bind_sys = facts.rootless && request.network == NetworkMode::Host;
    let mut mounts = default_spec::mounts(one_group, bind_sys);
    if request.security.privileged {
        mounts.iter_mut().for_each(|mount| mount.options.retain(|option| option != "ro"));
    }
    if let (Some(size), Some(shm)) = (request.shm_size, mounts.iter_mut().find(|m| m.destination.as_os_str() == "/dev/shm")) {
        shm.options.retain(|option| !option.starts_with("size="));
        shm.options.push(format!("size={size}"));
    }
    if request.ipc == super::request::Namespace::Host {
        mounts.retain(|m| m.destination.as_os_str() != "/dev/shm" && m.destination.as_os_str() != "/dev/mqueue");
        mounts.push(bind("/dev/shm".into(), "/dev/shm".into(), &["rbind", "rprivate"]));
        // Not every host mounts its message queues; without them there is nothing to share.
        if std::path::Path::new("/dev/mqueue").is_dir() {
            mounts.push(bind("/dev/mqueue".into(), "/dev/mqueue".into(), &["rbind", "rprivate"]));
        }
    }
    if request.pid == super::request::Namespace::Host && facts.rootless {
        // The host's PID namespace is not ours: a fresh proc would be refused.
        mounts
            .iter_mut()
            .filter(|m| m.destination.as_os_str() == "/proc")
            .for_each(|m| *m = bind("/proc".into(), "/proc".into(), &["rbind", "nosuid", "noexec", "nodev"]));
    }
    for (source, target) in &facts.files {
        mounts.push(bind(source.clone(), target.clone(), if request.read_only { &["rbind", "rprivate", "ro"] } else { &["rbind", "rprivate"] }));
    }
    if facts.rootless {
        // Who may not make a node binds the host's.
        mounts.extend(request.devices.iter().map(|device| bind(device.source.clone(), device.target.clone(), &["rbind", "rprivate"])));
    }
    if let Some(init) = &facts.init {
        mounts.push(bind(init.clone(), "/sbin/docker-init".into(), &["bind", "ro"]));
    }
    // What is mounted over another's place comes after it: sorted by depth, as they would otherwise cover each other.
    let mut volumes: Vec<&Volume> = request.mounts.iter().collect();
    volumes.sort_by_key(|volume| volume.target().components().count());
    for volume in volumes {
        // A mount of the user's own replaces ours of the same place (`--tmpfs /dev/shm`).
        mounts.retain(|mount| mount.destination != *volume.target());
        mounts.push(volume_mount(volume, facts.volumes));
    }
    mounts
}

fn volume_mount(volume: &Volume, volumes: &Path) -> Mount {
    match volume {
        Volume::Bind { source, target, read_only, propagation, below, .. } => {
            let mut options = vec![if *below == Below::Disabled { "bind" } else { "rbind" }, propagation.as_deref().unwrap_or("rprivate")];
            options.push(match (read_only, below) {
                (false, _) => "rw",
                (true, Below::Writable) => "ro",
                // `ro` means all of it: a mount below the source would stay writable otherwise (Docker does so since 25).
                (true, _) => "rro",
            });
            bind(source.clone(), target.clone(), &options)
        }
        // The source is for people: what is bound is the tree that was opened for it.
        Volume::Named(named) => {
            let source = volumes.join(&named.name).join("_data").join(named.subpath.as_deref().unwrap_or(Path::new("")));
            bind(source, named.target.clone(), &["rbind", "rprivate", if named.read_only { "rro" } else { "rw" }])
        }
        Volume::Tmpfs { target, options } => {
            let mut all = vec!["noexec".to_string(), "nosuid".into(), "nodev".into()];
            all.extend(options.iter().cloned());
            Mount { destination: target.clone(), kind: Some("tmpfs".into()), source: Some("tmpfs".into()), options: all, ..Mount::default() }
        }
    }
}

fn bind(source: PathBuf, target: PathBuf, options: &[&str]) -> Mount {
    Mount {
        destination: target,
        kind: Some("bind".into()),
        source: Some(source.to_string_lossy().into_owned()),
        options: options.iter().map(|o| o.to_string()).collect(),
        ..Mount::default()
    }
}

fn linux(request: &Request, facts: &Facts, bounding: &[String]) -> Result<Linux> {
    use super::request::Namespace::Own;
    let security = &request.security;
    let masked = !security.privileged && !security.unmask;
    let mut kinds = vec![NamespaceKind::Mount, NamespaceKind::Cgroup];
    kinds.extend((request.pid == Own).then_some(NamespaceKind::Pid));
    kinds.extend((request.ipc == Own).then_some(NamespaceKind::Ipc));
    kinds.extend((request.uts == Own).then_some(NamespaceKind::Uts));
    kinds.extend((request.network != NetworkMode::Host).then_some(NamespaceKind::Network));
    let devices = devices::of(request, facts.rootless)?;
    let path = |kind| facts.network.clone().filter(|_| kind == NamespaceKind::Network);
    let filter = match &security.seccomp {
        _ if security.privileged => None,
        SeccompChoice::Unconfined => None,
        SeccompChoice::Default => Some(seccomp::default_profile(bounding)),
        SeccompChoice::Profile(profile) => Some((**profile).clone()),
    };
    Ok(Linux {
        namespaces: kinds.into_iter().map(|kind| Namespace { kind, path: path(kind) }).collect(),
        sysctl: sysctls(request),
        resources: Some(resources(request, devices.iter().map(|device| device.rule.clone()).collect())),
        cgroups_path: request.cgroup_parent.as_ref().map(|parent| format!("{}/{}", parent.trim_end_matches('/'), facts.id)),
        devices: devices.into_iter().filter(|_| !facts.rootless).map(|device| device.node).collect(),
        seccomp: filter,
        masked_paths: if masked { default_spec::MASKED.iter().map(Into::into).collect() } else { Vec::new() },
        readonly_paths: if masked { default_spec::READ_ONLY.iter().map(Into::into).collect() } else { Vec::new() },
        rootfs_propagation: shared_volumes(request),
        ..Linux::default()
    })
}

/// A volume whose mounts shall travel needs a root whose mounts may.
fn shared_volumes(request: &Request) -> Option<String> {
    let wants = |word: &str| request.mounts.iter().any(|v| matches!(v, Volume::Bind { propagation: Some(p), .. } if p.ends_with(word)));
    if wants("shared") { Some("shared".into()) } else { wants("slave").then(|| "slave".into()) }
}

/// In a network namespace of its own even port 80 belongs to nobody but the container, and so does ping.
fn sysctls(request: &Request) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    if matches!(request.network, NetworkMode::None | NetworkMode::Own) && !request.security.privileged {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_string(), "0".to_string());
        if !users::in_user_namespace() {
            all.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
        }
    }
    all.extend(request.sysctls.iter().cloned());
    all
}

/// `--cpus 0.5` in the kernel's words: 50 000 of every 100 000 microseconds.
const PERIOD: u64 = 100_000;

fn resources(request: &Request, mut rules: Vec<DeviceRule>) -> Resources {
    rules.insert(0, DeviceRule { allow: request.security.privileged, access: Some("rwm".into()), ..DeviceRule::default() });
    Resources { devices: rules, ..changed_resources(&request.limits) }
}

/// Limits alone, in the kernel's words: those that are set.
pub fn changed_resources(limits: &Limits) -> Resources {
    let swap = limits.memory_swap.or(match limits.memory {
        // Docker's default: as much swap as memory, where swap is counted.
        Some(memory) if memory > 0 && cgroups::counts_swap() => Some(memory.saturating_mul(2)),
        _ => None,
    });
    let memory = Memory { limit: limits.memory, swap, reservation: limits.memory_reservation, ..Memory::default() };
    let quota = limits.cpus.map(|cpus| (cpus * PERIOD as f64).round() as i64);
    let cpu = Cpu {
        shares: limits.cpu_shares,
        quota: quota.or(limits.cpu_quota),
        period: quota.map(|_| PERIOD).or(limits.cpu_period),
        cpus: limits.cpuset_cpus.clone(),
        mems: limits.cpuset_mems.clone(),
        ..Cpu::default()
    };
    Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: limits.pids.map(|limit| Pids { limit }),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Defaults {
        Defaults { entrypoint: vec!["entry".into()], command: vec!["default".into()], env: vec!["A=1".into(), "PATH=/x".into()], working_dir: None }
    }

    #[test]
    fn a_new_entrypoint_takes_the_images_command_away() {
        let mut request = Request::default();
        assert_eq!(command_line(&request, &image()).unwrap(), ["entry", "default"]);
        request.command = vec!["mine".into()];
        assert_eq!(command_line(&request, &image()).unwrap(), ["entry", "mine"]);
        request.entrypoint = Some(vec!["other".into()]);
        request.command.clear();
        assert_eq!(command_line(&request, &image()).unwrap(), ["other"]);
        request.entrypoint = Some(Vec::new());
        assert!(command_line(&request, &image()).is_err());
    }

    #[test]
    fn a_later_variable_of_the_same_name_wins() {
        let request = Request { env: vec!["A=2".into()], ..Request::default() };
        assert_eq!(environment(&request, &image(), Some("web")), ["HOSTNAME=web", "PATH=/x", "A=2"]);
    }

    #[test]
    fn half_a_cpu_is_half_of_the_period() {
        let request = Request { limits: super::super::request::Limits { cpus: Some(0.5), ..Default::default() }, ..Request::default() };
        let cpu = resources(&request, Vec::new()).cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
    }
}
