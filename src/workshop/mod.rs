//! What teaches: the tour and the book, and later the exercises.

pub mod book;
pub mod pages;
mod reader;
mod shelf;
pub mod tour;
mod tour_network;
mod tour_stops;
