//! What teaches: the steps' shared part, the tour, the book; and later the exercises.

pub mod book;
pub mod pages;
mod reader;
mod shelf;
pub mod steps;
pub mod tour;
mod tour_network;
mod tour_stops;
