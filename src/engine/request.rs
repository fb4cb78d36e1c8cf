//! What `run` was asked for, in types: the command line, the API and Compose all fill in the same.

use std::path::PathBuf;

use crate::runtime::spec::{Rlimit, Seccomp};

/// A container to be.
#[derive(Debug, Default, Clone)]
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
    pub devices: Vec<HostDevice>,
    pub sysctls: Vec<(String, String)>,
    pub hosts: Vec<(String, String)>,
    pub network: NetworkMode,
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup_parent: Option<String>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
}

/// What it may do.
#[derive(Debug, Default, Clone)]
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
#[derive(Debug, Default, Clone)]
pub enum SeccompChoice {
    #[default]
    Default,
    Unconfined,
    Profile(Box<Seccomp>),
}

/// How much it may use. Sizes are bytes.
#[derive(Debug, Default, Clone)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    Bind {
        source: PathBuf,
        target: PathBuf,
        read_only: bool,
        /// `rprivate` …
        propagation: Option<String>,
        /// `-v` makes a folder that is missing, `--mount` refuses.
        make_source: bool,
    },
    Tmpfs {
        target: PathBuf,
        options: Vec<String>,
    },
}

impl Volume {
    pub fn target(&self) -> &PathBuf {
        match self {
            Volume::Bind { target, .. } | Volume::Tmpfs { target, .. } => target,
        }
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    pub source: PathBuf,
    pub target: PathBuf,
    /// Any of `rwm`.
    pub access: String,
}

/// Which network it is on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own namespace with nothing but the loopback device.
    #[default]
    None,
    /// The host's.
    Host,
}

/// Where a namespace comes from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    #[default]
    Own,
    Host,
}
