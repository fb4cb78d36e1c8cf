//! What a container's network is made of. It knows namespaces by their descriptors; it knows no container.

pub mod ports;
pub mod proxy;
