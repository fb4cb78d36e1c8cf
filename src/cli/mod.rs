//! The command line: one file a noun; arguments and output only.

pub mod doctor;
pub mod filter;
pub mod human;
pub mod oci;
pub mod oci_events;
pub mod oci_exec;
pub mod oci_update;
pub mod run;
pub mod size;
pub mod table;
pub mod template;
pub mod values;
pub mod volume;
