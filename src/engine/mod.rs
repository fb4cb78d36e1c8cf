//! A container's life above the runtime: what to run from which image, and who sits in front of it. It neither parses arguments nor
//! prints.

pub mod config;
pub mod devices;
pub mod etc_files;
pub mod files;
pub mod foreground;
pub mod home;
pub mod record;
pub mod request;
pub mod rootless;
pub mod run;
pub mod users;
