//! Volumes: what containers find in them, who may remove them, and what is left of them after a failure.
//!
//! See it: `onggi volume ls`, `ls -l /var/lib/onggi/volumes/*/_data`. Read: docker-volume(1), docker run(1) `--volume`, `--mount`.

#[path = "../support/mod.rs"]
mod support;

mod beside_docker;
mod fill;
mod life;
mod mounts;
mod noun;
mod pot;
