//! The OCI low level: a bundle becomes a process. It knows no images, no networks and no HTTP.
//!
//! Read [`lifecycle`] first, then [`init`], the heart; each other file is one chapter of it.
//! Source: the OCI runtime specification 1.2, <https://github.com/opencontainers/runtime-spec>.

pub mod capabilities;
pub mod seccomp;
pub mod spec;
pub mod state;
pub mod sync;
pub mod sysctl;
pub mod terminal;
pub mod users;
