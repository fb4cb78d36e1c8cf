//! `onggi version`, `onggi info`, `onggi system df`: the engine itself.
//!
//! Read: docker-version(1), docker-info(1), docker-system-df(1).

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::table::{self, Column, Listing};
use super::template::Template;
use super::{human, say};
use crate::engine::home::Home;
use crate::engine::usage::{self, Usage};
use crate::engine::{about, sweep};
use crate::error::Result;

#[derive(Debug, Args)]
pub struct AboutArgs {
    /// How to show it: json, or a Go template such as '{{.ServerVersion}}'
    #[arg(short, long, value_name = "FORM")]
    format: Option<String>,
}

/// Prints the versions.
///
/// # Errors
/// Invalid for a template.
pub fn version(args: &AboutArgs) -> Result<u8> {
    let version = about::version();
    if let Some(format) = &args.format {
        return formatted(&version, format);
    }
    let part = version.client;
    say(format_args!(
        "Onggi:\n Version:         {}\n OCI runtime:     {}\n OS/Arch:         {}/{}\n Kernel:          {}\n Daemon:          none (each container has a monitor of its own)",
        part.version, part.oci_version, part.os, part.arch, part.kernel_version
    ))
}

/// Prints counts and facts.
///
/// # Errors
/// Invalid for a template, EACCES.
pub fn info(args: &AboutArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let info = about::info(&home)?;
    if let Some(format) = &args.format {
        return formatted(&info, format);
    }
    let security = info.security_options.iter().map(|option| format!("\n  {}", option.trim_start_matches("name="))).collect::<String>();
    say(format_args!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nVersion: {}\nStorage Driver: {}\nLogging Driver: {}\n\
         Cgroup Driver: {}\nCgroup Version: {}\nRuntime: {}\nSecurity Options:{security}\nKernel Version: {}\nOperating System: {}\nOSType: {}\n\
         Architecture: {}\nCPUs: {}\nTotal Memory: {}\nName: {}\nRoot Dir: {}\nRun Dir: {}\nRootless: {}",
        info.containers,
        info.containers_running,
        info.containers_paused,
        info.containers_stopped,
        info.images,
        info.server_version,
        info.driver,
        info.logging_driver,
        info.cgroup_driver,
        info.cgroup_version,
        info.default_runtime,
        info.kernel_version,
        info.operating_system,
        info.os_type,
        info.architecture,
        info.cpus,
        human::binary_size(info.mem_total),
        info.name,
        info.docker_root_dir,
        info.run_dir,
        info.rootless,
    ))
}

fn formatted(object: &impl Serialize, format: &str) -> Result<u8> {
    match format {
        "json" => say(serde_json::to_string(object).unwrap_or_default()),
        template => say(Template::parse(template)?.execute(&serde_json::to_value(object).unwrap_or_default())?),
    }
}

#[derive(Debug, Args)]
pub struct DfArgs {
    /// How to show it: table, json, 'table TEMPLATE' or a Go template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORM")]
    format: Option<String>,
}

/// Prints how much room images, containers and volumes take.
///
/// # Errors
/// Invalid for a template, EACCES.
pub fn df(args: &DfArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let [images, containers, volumes] = usage::usage(&home)?;
    let columns = [
        Column { header: "TYPE", field: "Type" },
        Column { header: "TOTAL", field: "TotalCount" },
        Column { header: "ACTIVE", field: "Active" },
        Column { header: "SIZE", field: "Size" },
        Column { header: "RECLAIMABLE", field: "Reclaimable" },
    ];
    // Docker's other line: what isn't here takes no room.
    let rows = [("Images", images), ("Containers", containers), ("Local Volumes", volumes), ("Build Cache", Usage::default())];
    let rows = rows.iter().map(|(kind, usage)| row(kind, usage)).collect();
    table::print(&Listing { columns: columns.to_vec(), headers: &[], rows }, args.format.as_deref(), None).map(|()| 0)
}

fn row(kind: &str, usage: &Usage) -> Value {
    let part = (usage.reclaimable * 100).checked_div(usage.size).map(|percent| format!(" ({percent}%)")).unwrap_or_default();
    json!({
        "Type": kind,
        "TotalCount": usage.total.to_string(),
        "Active": usage.active.to_string(),
        "Size": human::size(usage.size),
        "Reclaimable": format!("{}{part}", human::size(usage.reclaimable)),
    })
}
