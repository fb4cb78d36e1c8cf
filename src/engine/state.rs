//! How it is with a container: the part of its record that changes with each life.
//!
//! See it: `jq .state /var/lib/onggi/containers/*/container.json`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::network::ports::Protocol;
use crate::runtime::cgroups;
use crate::runtime::state::ProcessId;

/// How it is with a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    pub status: Status,
    /// Who looks after it: its monitor, or the command that is about to start it.
    pub monitor: Option<ProcessId>,
    /// The kernel's boot ID when `monitor` was written: after a reboot the same PID and start time mean nothing.
    pub boot: String,
    /// The container's first process.
    pub init: Option<ProcessId>,
    pub cgroup: Option<cgroups::Place>,
    pub exit_code: i32,
    /// Why it could not be started the last time.
    pub error: String,
    /// The kernel ended a process in it for want of memory.
    pub oom_killed: bool,
    /// RFC 3339.
    pub started: Option<String>,
    pub finished: Option<String>,
    /// How often it was started again by its restart policy.
    pub restarts: u32,
    /// Somebody stopped it: its restart policy waits for the next start.
    pub stopped: bool,
    /// It is being restarted by hand: this end doesn't remove it, even with `--rm`.
    pub kept: bool,
    pub health: Option<Health>,
    /// The ports of the host that lead to it now.
    pub ports: Vec<Port>,
}

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub host: SocketAddr,
    pub container: u16,
    pub protocol: Protocol,
}

/// What `ps` calls a container's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    /// Never written down: the kernel knows.
    Paused,
    /// It waits for its next start.
    Restarting,
    Exited,
    /// It could not be removed, or its record is damaged.
    Dead,
}

/// What the health check found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    pub failing_streak: u32,
    /// The last five.
    pub log: Vec<Probe>,
}

/// One run of the health check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub start: String,
    pub end: String,
    pub exit_code: i32,
    pub output: String,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Dead => "dead",
        })
    }
}
