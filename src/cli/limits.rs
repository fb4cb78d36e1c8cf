//! How much a container may use: the options that `run`, `create` and `update` share.
//!
//! See it: `cat /sys/fs/cgroup/onggi/*/{memory.max,cpu.max,pids.max}`. Read: docker-update(1), cgroups(7).

use clap::Args;

use super::size;
use super::values::cpus;
use crate::engine::request::Limits;
use crate::error::{Error, Result};

/// Limits
#[derive(Debug, Args)]
pub struct LimitArgs {
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
}

impl LimitArgs {
    /// The limits that were asked for.
    ///
    /// # Errors
    /// Invalid for what is too small, or contradicts itself.
    pub fn limits(&self) -> Result<Limits> {
        const LEAST: i64 = 6 << 20;
        if self.memory.is_some_and(|bytes| bytes < LEAST) {
            return Err(Error::invalid("limit the memory", "minimum memory limit allowed is 6MB"));
        }
        if let (Some(memory), Some(swap)) = (self.memory, self.memory_swap)
            && swap != -1
            && swap < memory
        {
            return Err(Error::invalid("limit the memory", "minimum memoryswap limit should be larger than memory limit"));
        }
        Ok(Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            ..Limits::default()
        })
    }
}
