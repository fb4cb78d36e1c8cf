//! Images: what a container's file system starts as.
pub mod probe;
