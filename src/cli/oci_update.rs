//! `update` of the OCI runtime: other limits for a container that is there.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use crate::error::{Doing, Error, Result};
use crate::runtime::change;
use crate::runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};
use crate::runtime::state::Store;

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// File with resources as JSON; - is standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    #[arg(long, value_name = "10..1000")]
    blkio_weight: Option<u16>,
    /// Microseconds
    #[arg(long)]
    cpu_period: Option<u64>,
    /// Microseconds in a period; -1 is unlimited
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    #[arg(long)]
    cpu_burst: Option<u64>,
    #[arg(long)]
    cpu_share: Option<u64>,
    #[arg(long)]
    cpu_rt_period: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    #[arg(long)]
    cpuset_cpus: Option<String>,
    #[arg(long)]
    cpuset_mems: Option<String>,
    #[arg(long)]
    cpu_idle: Option<i64>,
    /// Bytes, or with k, m, g; -1 is unlimited
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Memory and swap together
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    kernel_memory: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    kernel_memory_tcp: Option<i64>,
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The container's ID
    id: String,
}

/// Reads the new limits and applies them.
pub fn update(store: &Store, args: &UpdateArgs) -> Result<()> {
    change::update(store, &args.id, &resources(args)?)
}

fn resources(args: &UpdateArgs) -> Result<Resources> {
    if let Some(file) = &args.resources {
        let mut text = String::new();
        let doing = || format!("read {}", file.display());
        match file.as_os_str() == "-" {
            true => std::io::stdin().read_to_string(&mut text).map(drop).doing(doing)?,
            false => text = std::fs::read_to_string(file).doing(doing)?,
        }
        let mut json = serde_json::Deserializer::from_str(&text);
        return serde_path_to_error::deserialize(&mut json).map_err(|e| Error::invalid(format!("use {}", file.display()), e.to_string()));
    }
    let memory = Memory {
        limit: args.memory,
        reservation: args.memory_reservation,
        swap: args.memory_swap,
        kernel: args.kernel_memory,
        kernel_tcp: args.kernel_memory_tcp,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: args.cpu_share,
        quota: args.cpu_quota,
        burst: args.cpu_burst,
        period: args.cpu_period,
        realtime_runtime: args.cpu_rt_runtime,
        realtime_period: args.cpu_rt_period,
        cpus: args.cpuset_cpus.clone(),
        mems: args.cpuset_mems.clone(),
        idle: args.cpu_idle,
    };
    Ok(Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: args.pids_limit.map(|limit| Pids { limit }),
        block_io: args.blkio_weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}

fn bytes(text: &str) -> std::result::Result<i64, String> {
    super::size::bytes(text)
}
