//! What `run` was asked for, in types: the command line, the API and Compose all fill in the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::ports::{Binding, Protocol};
use crate::runtime::spec::{Rlimit, Seccomp};

/// A container to be.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    pub image: String,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// Some(empty) takes the image's entrypoint away.
    pub entrypoint: Option<Vec<String>>,
    pub name: Option<String>,
    pub remove: bool,
    pub interactive: bool,
    pub terminal: bool,
    pub env: Vec<String>,
    pub labels: Vec<(String, String)>,
    pub working_dir: Option<PathBuf>,
    /// `user`, `user:group`, by name or number.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub read_only: bool,
    pub init: bool,
    pub stop_signal: Option<String>,
    pub security: Security,
    pub limits: Limits,
    pub mounts: Vec<Volume>,
    /// Containers whose volumes it has too: name, `ro` or `rw`.
    #[serde(default)]
    pub volumes_from: Vec<(String, String)>,
    /// The targets of those mounts that come from there.
    #[serde(default)]
    pub inherited: Vec<PathBuf>,
    pub devices: Vec<HostDevice>,
    pub sysctls: Vec<(String, String)>,
    pub hosts: Vec<(String, String)>,
    pub network: NetworkMode,
    /// The networks it is on, when its mode says that it is on some; by name or ID.
    pub attachments: Vec<Attachment>,
    /// Ports of the host that lead to it.
    pub ports: Vec<Binding>,
    /// Every port that its image exposes gets one of the host.
    pub publish_all: bool,
    /// What it offers, beside what the image says.
    pub expose: Vec<(u16, Protocol)>,
    pub dns: Dns,
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup_parent: Option<String>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    pub restart: Restart,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: Option<u64>,
    pub health: Health,
    pub log: Log,
    /// Its standard input closes with the first who is attached to it (`run -i` without `-d`).
    pub stdin_once: bool,
}

/// When it is started again after its end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    #[default]
    No,
    Always,
    /// Like `Always`, but a container that was stopped stays so over a reboot.
    UnlessStopped,
    /// When its exit code is not 0; at most so many times, 0 being without end.
    OnFailure(u32),
}

/// What changes the image's health check.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Takes the image's away.
    pub none: bool,
    /// A command for the shell inside.
    pub command: Option<String>,
    /// Nanoseconds.
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
    pub retries: Option<u32>,
}

/// Where what it writes is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// False: nowhere (`--log-driver none`).
    pub kept: bool,
    /// Bytes of one file; None is without end.
    pub max_size: Option<u64>,
    pub max_file: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { kept: true, max_size: None, max_file: 1 }
    }
}

/// What it may do.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Security {
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub no_new_privileges: bool,
    pub seccomp: SeccompChoice,
    pub apparmor: Option<String>,
    /// `systempaths=unconfined`: nothing of /proc and /sys is masked.
    pub unmask: bool,
}

/// Which filter of system calls.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub enum SeccompChoice {
    #[default]
    Default,
    Unconfined,
    Profile(Box<Seccomp>),
}

/// How much it may use. Sizes are bytes.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Limits {
    pub memory: Option<i64>,
    pub memory_swap: Option<i64>,
    pub memory_reservation: Option<i64>,
    /// CPUs, such as 0.5.
    pub cpus: Option<f64>,
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub pids: Option<i64>,
    pub oom_score_adj: Option<i32>,
    pub rlimits: Vec<Rlimit>,
}

/// Something mounted into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Volume {
    Bind {
        source: PathBuf,
        target: PathBuf,
        read_only: bool,
        /// `rprivate` …
        propagation: Option<String>,
        /// `-v` makes a folder that is missing, `--mount` refuses.
        make_source: bool,
        #[serde(default)]
        below: Below,
    },
    /// A folder of the engine's own, which outlives the container.
    Named(NamedVolume),
    Tmpfs {
        target: PathBuf,
        options: Vec<String>,
    },
}

impl Volume {
    pub fn target(&self) -> &PathBuf {
        match self {
            Volume::Bind { target, .. } | Volume::Tmpfs { target, .. } => target,
            Volume::Named(volume) => &volume.target,
        }
    }
}

/// A volume, as one container has it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedVolume {
    /// Empty in a request for an anonymous one, which is named when the container is made.
    pub name: String,
    pub target: PathBuf,
    pub read_only: bool,
    /// `rm -v` and `--rm` remove it with its last container.
    pub anonymous: bool,
    /// It is not filled from the image's folder.
    pub no_copy: bool,
    /// A folder or file in it, instead of all of it.
    pub subpath: Option<PathBuf>,
    /// Those of the volume, should it have to be made.
    pub labels: Vec<(String, String)>,
    pub options: Vec<(String, String)>,
    /// As it was typed: `ro`, `nocopy` …
    pub mode: String,
}

/// What becomes of the mounts below a bound folder.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Below {
    /// They are there, and read-only with the folder.
    #[default]
    Enabled,
    /// They are not there.
    Disabled,
    /// They stay writable.
    Writable,
    /// They are read-only, or the kernel can't and it is a failure.
    Readonly,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    pub source: PathBuf,
    pub target: PathBuf,
    /// Any of `rwm`.
    pub access: String,
}

/// Which network namespace it lives in.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Its own, with nothing but the loopback device.
    #[default]
    None,
    /// The host's.
    Host,
    /// Its own, on the networks that its attachments name.
    Own,
    /// Another container's: its ID.
    Container(String),
}

/// A container on a network, or to be on it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Its ID; in a request its name will do.
    pub network: String,
    pub name: String,
    /// More names for the container there.
    pub aliases: Vec<String>,
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    /// `02:42:ac:11:00:02`
    pub mac: Option<String>,
    /// What this container calls another: name, and that one's ID; in a request its name will do.
    pub links: Vec<(String, String)>,
    /// The highest has the way out.
    pub priority: i32,
}

/// Whom it asks for names (resolv.conf(5)); empty is as the host does.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// Where a namespace comes from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    #[default]
    Own,
    Host,
}
