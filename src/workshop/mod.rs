//! What teaches: the tour, and later the exercises.

pub mod tour;
mod tour_network;
mod tour_stops;
