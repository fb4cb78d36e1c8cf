//! The OCI low level: a bundle becomes a process. It knows no images, no networks and no HTTP.
//!
//! Read: the OCI runtime specification 1.2, <https://github.com/opencontainers/runtime-spec>.

pub mod spec;
