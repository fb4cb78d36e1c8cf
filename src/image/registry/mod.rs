//! Registries: servers that images come from and go to.
//!
//! Source: the OCI distribution specification 1.1, <https://github.com/opencontainers/distribution-spec>.

mod credential_program;
pub mod credentials;
mod hosts;
pub mod settings;
mod settings_file;
mod trust;

pub use settings::{Endpoint, Scheme, Settings, Trust};
