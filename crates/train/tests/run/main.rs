//! Whole runs on small texts: resuming, refusals, time budgets, SFT.

mod adapters;
mod common;
mod contamination;
mod control;
mod objectives;
mod ranks;
mod refusals;
mod resume;
mod stages;
