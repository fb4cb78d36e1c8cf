//! What teaches: the steps, the tour, and later the exercises.

pub mod pages;
pub mod steps;
pub mod tour;
mod tour_network;
mod tour_stops;
