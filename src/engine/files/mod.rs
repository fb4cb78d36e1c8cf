//! A container's files, whether it runs or not: copied in and out, compared with its image, packed as an archive, made an image of.
//!
//! Nothing of the container is trusted: its names lead nowhere but into its own root, and none of its programs or libraries takes part.

mod land;
pub mod place;
mod tree;
mod unpack;
pub mod view;
