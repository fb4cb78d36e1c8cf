//! `pull` against a registry that answers right, and wrong in each way that registries, proxies and networks have: what is here afterwards,
//! what was said, and what the registry was asked.
//!
//! See it: `onggi pull httpd`. Read: docker pull(1). Source: OCI distribution specification 1.1.

#[path = "../support/faulty/mod.rs"]
mod faulty;
#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod broken;
mod disk;
mod forms;
mod names;
mod tokens;
mod ways;
