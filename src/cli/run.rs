//! `onggi run`: Docker's options, in types.
//!
//! Read: docker run(1).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::values::{self, cpus, device, namespace, network, ulimit};
use super::{size, volume};
use crate::engine::home::Home;
use crate::engine::request::{HostDevice, Limits, Namespace, NetworkMode, Request, SeccompChoice, Security};
use crate::engine::run::{self, Notice};
use crate::error::{Doing, Error, Result};
use crate::runtime::spec::Rlimit;

/// Run a command in a new container
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Keep standard input open, even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// A name for the container
    #[arg(long)]
    name: Option<String>,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User name or UID, and group: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// One more group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Host name of the container
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// NIS domain name of the container
    #[arg(long)]
    domainname: Option<String>,
    /// Replace the image's entrypoint; an empty one takes it away
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Make the container's root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Run a small init as PID 1, which passes signals on and reaps orphans
    #[arg(long)]
    init: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// All capabilities, all devices, nothing masked, no filter
    #[arg(long)]
    privileged: bool,
    /// seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Memory limit, such as 512m
    #[arg(short, long, value_name = "BYTES", value_parser = size::bytes)]
    memory: Option<i64>,
    /// Memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = size::bytes, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    memory_reservation: Option<i64>,
    /// How many CPUs, such as 0.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus)]
    cpus: Option<f64>,
    /// CPU weight beside other containers (1024 is the usual)
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// On which CPUs it may run: 0-3, 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// From which NUMA nodes it gets memory
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// How many processes; -1 for unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// A limit of setrlimit(2): nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<Rlimit>,
    /// Whom the kernel ends first when memory runs out: -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// A kernel setting of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// A device of the host: /dev/x[:/dev/y[:rwm]]
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    device: Vec<HostDevice>,
    /// Mount a tmpfs: /place[:size=64m,mode=700]
    #[arg(long, value_name = "PLACE")]
    tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    shm_size: Option<i64>,
    /// Bind a folder or file of the host: /host:/container[:ro]
    #[arg(short, long, value_name = "SOURCE:TARGET")]
    volume: Vec<String>,
    /// A mount in long form: type=bind,source=/host,target=/container,readonly
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// One more line in /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// none (only loopback) or host
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = network, default_value = "none")]
    network: NetworkMode,
    /// Use the host's process IDs: host
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pid: Option<Namespace>,
    /// Use the host's IPC: host, private
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    ipc: Option<Namespace>,
    /// Use the host's name: host
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    uts: Option<Namespace>,
    /// Cgroup below which the container's is made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Write the container's ID into a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Image, such as `base`
    image: String,
    /// Command and its arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the container in the foreground: its exit code.
///
/// # Errors
/// Ours, with Docker's exit codes: 125, 126, 127.
pub fn run(args: RunArgs) -> Result<u8> {
    let request = request(&args)?;
    if request.terminal && request.interactive && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Error::invalid("run with -it", "the input device is not a TTY").hint("leave -t out when standard input is a pipe or a file"));
    }
    if let Some(file) = args.cidfile.as_ref().filter(|file| file.exists()) {
        let why = "the file exists; remove it, or make sure that no other container uses it";
        return Err(Error::new(crate::error::Class::Conflict, format!("write the ID to {}", file.display()), why));
    }
    let home = Home::open()?;
    let mut cidfile = Ok(());
    let exit = run::run(&home, &request, &mut |notice| tell(notice, args.cidfile.as_deref(), &mut cidfile))?;
    cidfile?;
    Ok(exit.code() as u8)
}

fn tell(notice: Notice, cidfile: Option<&Path>, written: &mut Result<()>) {
    match notice {
        Notice::BaseMade(made) => {
            let _ = writeln!(std::io::stderr(), "onggi: made the image base from this machine's own programs: {made}");
        }
        Notice::Warning(words) => {
            let _ = writeln!(std::io::stderr(), "onggi: warning: {words}");
        }
        Notice::Created { id, .. } => {
            if let Some(file) = cidfile {
                *written = std::fs::write(file, id).doing(|| format!("write the ID to {}", file.display()));
            }
        }
    }
}

fn request(args: &RunArgs) -> Result<Request> {
    let mut mounts = Vec::new();
    for text in &args.volume {
        mounts.push(volume::short(text)?);
    }
    for text in &args.mount {
        mounts.push(volume::long(text)?);
    }
    for text in &args.tmpfs {
        mounts.push(volume::tmpfs(text)?);
    }
    if let Some(twice) = mounts.iter().enumerate().find(|(i, m)| mounts[..*i].iter().any(|other| other.target() == m.target())) {
        return Err(Error::invalid("mount volumes", format!("duplicate mount point: {}", twice.1.target().display())));
    }
    Ok(Request {
        image: args.image.clone(),
        command: args.command.clone(),
        entrypoint: args.entrypoint.as_ref().map(|word| if word.is_empty() { Vec::new() } else { vec![word.clone()] }),
        name: args.name.clone(),
        remove: args.rm,
        interactive: args.interactive,
        terminal: args.tty,
        env: values::environment(&args.env_file, &args.env)?,
        labels: args.label.iter().map(|text| values::pair(text)).collect(),
        working_dir: working_dir(args.workdir.as_deref())?,
        user: args.user.clone(),
        groups: args.group_add.clone(),
        hostname: args.hostname.clone(),
        domainname: args.domainname.clone(),
        read_only: args.read_only,
        init: args.init,
        stop_signal: args.stop_signal.as_ref().map(|name| super::oci::signal_number(name).map(|_| name.clone())).transpose()?,
        security: security(args)?,
        limits: limits(args)?,
        mounts,
        devices: args.device.clone(),
        sysctls: args.sysctl.iter().map(|text| values::required_pair("--sysctl", text)).collect::<Result<_>>()?,
        hosts: args.add_host.iter().map(|text| values::host(text)).collect::<Result<_>>()?,
        network: args.network,
        pid: args.pid.unwrap_or_default(),
        ipc: args.ipc.unwrap_or_default(),
        uts: args.uts.unwrap_or_default(),
        cgroup_parent: args.cgroup_parent.clone(),
        shm_size: args.shm_size.map(|size| size as u64),
    })
}

fn working_dir(dir: Option<&Path>) -> Result<Option<PathBuf>> {
    match dir {
        Some(dir) if !dir.is_absolute() => {
            let why = "the working directory is invalid, it needs to be an absolute path";
            Err(Error::invalid(format!("use --workdir {}", dir.display()), why))
        }
        other => Ok(other.map(Path::to_path_buf)),
    }
}

fn limits(args: &RunArgs) -> Result<Limits> {
    const LEAST: i64 = 6 << 20;
    if args.memory.is_some_and(|bytes| bytes < LEAST) {
        return Err(Error::invalid("limit the memory", "minimum memory limit allowed is 6MB"));
    }
    if let (Some(memory), Some(swap)) = (args.memory, args.memory_swap)
        && swap != -1
        && swap < memory
    {
        return Err(Error::invalid("limit the memory", "minimum memoryswap limit should be larger than memory limit"));
    }
    Ok(Limits {
        memory: args.memory,
        memory_swap: args.memory_swap,
        memory_reservation: args.memory_reservation,
        cpus: args.cpus,
        cpu_shares: args.cpu_shares,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        pids: args.pids_limit,
        oom_score_adj: args.oom_score_adj,
        rlimits: args.ulimit.clone(),
    })
}

fn security(args: &RunArgs) -> Result<Security> {
    let mut security =
        Security { privileged: args.privileged, cap_add: args.cap_add.clone(), cap_drop: args.cap_drop.clone(), ..Security::default() };
    for text in &args.security_opt {
        let (key, value) = text.split_once(['=', ':']).map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => security.seccomp = SeccompChoice::Unconfined,
            ("seccomp", Some("builtin")) => security.seccomp = SeccompChoice::Default,
            ("seccomp", Some(file)) => security.seccomp = profile(Path::new(file))?,
            ("apparmor", Some(profile)) => security.apparmor = Some(profile.into()),
            ("systempaths", Some("unconfined")) => security.unmask = true,
            ("label", Some("disable")) => {}
            _ => {
                let known = "seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, systempaths=unconfined, label=disable";
                return Err(Error::invalid(format!("use --security-opt {text}"), format!("it is none of {known}")));
            }
        }
    }
    Ok(security)
}

fn profile(file: &Path) -> Result<SeccompChoice> {
    let text = std::fs::read_to_string(file).doing(|| format!("read the seccomp profile {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let profile: crate::runtime::spec::Seccomp = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| Error::invalid(format!("use the seccomp profile {}", file.display()), e.to_string()))?;
    // Compiled once more when the container is made; here the error can still name the file.
    crate::runtime::seccomp::compile(&profile).map_err(|e| Error::invalid(format!("use the seccomp profile {}", file.display()), e.one_line()))?;
    Ok(SeccompChoice::Profile(Box::new(profile)))
}
