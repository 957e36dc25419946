//! The decoder as a whole: against second implementations, and against itself.

mod adapters;
mod common;
mod equivalences;
mod golden;
