//! A container's life above the runtime: what to run from which image, and who sits in front of it. It neither parses arguments nor
//! prints.

pub mod foreground;
