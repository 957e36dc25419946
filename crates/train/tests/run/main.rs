//! Whole runs on small texts: resuming, refusals, time budgets, SFT.

mod common;
mod contamination;
mod refusals;
mod resume;
mod stages;
