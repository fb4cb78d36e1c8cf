//! What teaches: the tour, the book, what the steps share; and later the exercises.

pub mod book;
pub mod pages;
mod reader;
mod shelf;
pub mod steps;
pub mod tour;
mod tour_network;
mod tour_stops;
