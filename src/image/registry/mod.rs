//! Registries: where images come from and go to, over HTTP.
//!
//! Source: OCI distribution specification 1.1, <https://github.com/opencontainers/distribution-spec>.

pub mod auth;
pub mod cancel;
mod credential_program;
pub mod credentials;
pub mod failure;
pub mod fetch;
pub mod growing;
mod hosts;
pub mod http;
pub mod lists;
mod proxy;
pub mod pull;
pub mod push;
pub mod repository;
pub mod search;
pub mod settings;
mod settings_file;
mod tls;
mod trust;
mod upload;

pub use settings::{Endpoint, Scheme, Settings, Trust};

/// What happens to one layer, told while it happens; from several threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    /// Twelve digits of its digest.
    pub layer: &'a str,
    pub state: State,
}

/// How far a layer is; bytes as transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Preparing,
    Waiting,
    PullingFsLayer,
    Downloading { done: u64, total: u64 },
    Verifying,
    DownloadComplete,
    Extracting { done: u64, total: u64 },
    PullComplete,
    AlreadyExists,
    Retrying { seconds: u64 },
    Pushing { done: u64, total: u64 },
    Pushed,
    LayerAlreadyExists,
    MountedFrom(String),
}

/// Who is told.
pub type Tell<'a> = &'a (dyn Fn(Told) + Sync);
