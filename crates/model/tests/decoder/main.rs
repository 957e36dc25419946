//! The decoder as a whole: against second implementations, and against itself.

mod common;
mod equivalences;
mod golden;
