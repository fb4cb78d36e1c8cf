//! The OCI low level: a bundle becomes a process. It knows no images, no networks and no HTTP.
//!
//! Read [`lifecycle`] first, then [`init`], the heart; each other file is one chapter of it.
//! Source: the OCI runtime specification 1.2, <https://github.com/opencontainers/runtime-spec>.

pub mod affinity;
pub mod attributes;
pub mod bundle;
pub mod capabilities;
pub mod cgroup_mounts;
pub mod cgroups;
pub mod change;
pub mod copy;
pub mod default_spec;
pub mod devices;
pub mod exec;
pub mod explain;
pub mod features;
pub mod hooks;
pub mod init;
pub mod kernel_files;
pub mod labels;
pub mod lifecycle;
pub mod mount_options;
pub mod mounts;
pub mod namespaces;
pub mod own_folder;
pub mod own_program;
pub mod pid_file;
pub mod program;
pub mod rdt;
pub mod rootfs;
pub mod seccomp;
pub mod signal;
pub mod spec;
pub mod state;
pub mod sync;
pub mod sysctl;
pub mod terminal;
pub mod users;
