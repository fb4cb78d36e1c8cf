//! What teaches: the tour, and later the exercises.

pub mod pages;
pub mod tour;
mod tour_network;
mod tour_stops;
