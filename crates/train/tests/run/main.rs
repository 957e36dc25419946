//! Whole runs on small texts: resuming, refusals, time budgets, SFT.

mod adapters;
mod common;
mod contamination;
mod refusals;
mod resume;
mod stages;
