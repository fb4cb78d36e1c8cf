//! What this engine is and what it stands on: versions, counts, the kernel.
//!
//! See it: `uname -a`, `cat /etc/os-release`, `nproc`. Read: uname(2), os-release(5), docker-info(1).

use serde::Serialize;

use super::home::Home;
use super::record::{self, Status};
use super::stats;
use crate::error::Result;
use crate::image;
use crate::runtime::cgroups::{self, Layout};
use crate::runtime::spec::OCI_VERSION;

/// The version of Docker's API whose field names we use.
const FIELD_NAMES: &str = "1.41";

/// What `version` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    pub client: Part,
    /// There is no daemon: the same program does the work.
    pub server: Part,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Part {
    pub version: &'static str,
    pub api_version: &'static str,
    pub oci_version: &'static str,
    pub os: &'static str,
    pub arch: &'static str,
    pub kernel_version: String,
}

/// The versions.
pub fn version() -> Version {
    let part = Part {
        version: env!("CARGO_PKG_VERSION"),
        api_version: FIELD_NAMES,
        oci_version: OCI_VERSION,
        os: "linux",
        arch: image::manifest::architecture(),
        kernel_version: uname().0,
    };
    Version { client: part.clone(), server: part }
}

/// What `info` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    pub containers: usize,
    pub containers_running: usize,
    pub containers_paused: usize,
    pub containers_stopped: usize,
    pub images: usize,
    pub server_version: &'static str,
    pub driver: &'static str,
    pub logging_driver: &'static str,
    pub cgroup_driver: &'static str,
    pub cgroup_version: &'static str,
    pub default_runtime: &'static str,
    pub security_options: Vec<&'static str>,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSType")]
    pub os_type: &'static str,
    pub architecture: &'static str,
    #[serde(rename = "NCPU")]
    pub cpus: usize,
    pub mem_total: u64,
    pub name: String,
    /// Docker's name for the folder of everything.
    pub docker_root_dir: String,
    pub run_dir: String,
    pub rootless: bool,
}

/// The counts and facts.
///
/// # Errors
/// EACCES.
pub fn info(home: &Home) -> Result<Info> {
    let statuses: Vec<Status> = record::list(home, true)?.iter().map(record::Record::status).collect();
    let count = |wanted: &[Status]| statuses.iter().filter(|status| wanted.contains(status)).count();
    let store = image::store::Store::open(&home.data)?;
    let (kernel_version, name) = uname();
    let mut security_options = vec!["name=seccomp,profile=default"];
    security_options.extend(home.rootless.then_some("name=rootless"));
    Ok(Info {
        containers: statuses.len(),
        containers_running: count(&[Status::Running, Status::Restarting]),
        containers_paused: count(&[Status::Paused]),
        containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead]),
        images: image::list::all(&store)?.len(),
        server_version: env!("CARGO_PKG_VERSION"),
        driver: "overlay2",
        logging_driver: "json-file",
        cgroup_driver: "cgroupfs",
        cgroup_version: match cgroups::detect()? {
            Layout::Unified(_) => "2",
            Layout::Legacy(_) | Layout::Hybrid { .. } => "1",
        },
        default_runtime: "onggi-runtime",
        security_options,
        kernel_version,
        operating_system: operating_system(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()),
        os_type: "linux",
        architecture: std::env::consts::ARCH,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        mem_total: stats::memory_total(),
        name,
        docker_root_dir: home.data.display().to_string(),
        run_dir: home.run.display().to_string(),
        rootless: home.rootless,
    })
}

/// The kernel's release, and this machine's name.
fn uname() -> (String, String) {
    let said = nix::sys::utsname::uname();
    let word = |word: &std::ffi::OsStr| word.to_string_lossy().into_owned();
    said.map(|said| (word(said.release()), word(said.nodename()))).unwrap_or_default()
}

fn operating_system(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux".into(), |name| name.trim_matches(['"', '\'']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_is_without_its_quotes() {
        assert_eq!(operating_system("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(operating_system(""), "Linux");
    }
}
