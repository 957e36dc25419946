//! Speed, energy and memory of a model on this machine, alone and against other programs.
//!
//! [`Speedometer`] times prefill and decode of one cell (prompt, tokens, depth, batch); a [`Meter`] adds CPU time and,
//! where the system has a counter, energy; [`Peer`] runs another program in the same rounds; [`Spread`] is what is said of
//! repeated measurements. Nothing here prints.

mod energy;
mod error;
mod machine;
mod peer;
mod speed;
mod spread;

pub use energy::{EnergyCounter, POWERCAP};
pub use error::MeasureError;
pub use machine::{Machine, cpu_seconds, peak_memory_bytes, processor};
pub use peer::{Peer, PeerRates, find_number, run_for_json};
pub use speed::{Cell, Meter, Speedometer, Usage, random_ids};
pub use spread::{Spread, seconds};
