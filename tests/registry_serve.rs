//! The classroom's registry is asked as its clients ask it: byte by byte over HTTP, by docker, podman and skopeo, by thirty at once, by those
//! who mean no good, and after it was killed.
//!
//! Each registry has a folder of its own, and listens on the loopback device of the test's own network.
//!
//! See it: `cargo test --test registry_serve`. Source: OCI distribution specification 1.1.

mod support;

#[path = "registry_serve/served.rs"]
mod served;

#[path = "registry_serve/api.rs"]
mod api;
#[path = "registry_serve/door.rs"]
mod door;
#[path = "registry_serve/finding.rs"]
mod finding;
#[path = "registry_serve/hard_times.rs"]
mod hard_times;
#[path = "registry_serve/manifests.rs"]
mod manifests;
#[path = "registry_serve/mirror.rs"]
mod mirror;
#[path = "registry_serve/programs.rs"]
mod programs;
