//! Onggi: a container engine to learn from. The map: modules in the order in which the book's chapters need them.
pub mod clock;
pub mod error;
pub mod id;
pub mod locale;
pub mod sys;

pub mod runtime;

pub mod image;

pub mod network;

pub mod volume;

pub mod engine;
pub mod inspect;

pub mod registry;

pub mod cli;

pub mod workshop;
