//! A container's life above the runtime: what to run from which image, and who looks after it. It neither parses arguments nor prints.
//!
//! Read [`run`] first, a straight line; then [`monitor`], which lives as long as the container; [`record`] is what both leave on disk.

pub mod about;
pub mod background;
pub mod boot;
pub mod change;
pub mod config;
pub mod create;
pub mod describe;
pub mod detach_keys;
pub mod devices;
pub mod ends;
pub mod etc_files;
pub mod events;
pub mod exec;
pub mod files;
pub mod foreground;
pub mod home;
pub mod images;
pub mod interrupt;
pub mod log;
pub mod members;
pub mod monitor;
pub mod names;
pub mod networks;
pub mod prepare;
pub mod prune;
pub mod record;
pub mod remove;
pub mod request;
pub mod rootless;
pub mod run;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
pub mod sweep;
pub mod top;
pub mod usage;
pub mod users;
pub mod volume_mounts;
pub mod volumes;
