//! Onggi: a container engine to learn from.
pub mod error;
pub mod image;
pub mod runtime;
pub mod sys;
