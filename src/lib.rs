//! Onggi: a container engine to learn from.
pub mod cli;
pub mod clock;
pub mod engine;
pub mod error;
pub mod image;
pub mod runtime;
pub mod sys;
