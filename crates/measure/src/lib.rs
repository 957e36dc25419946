//! Speed, energy and memory of a model on this machine, alone and against other programs.
//!
//! [`Speedometer`] times prefill and decode of one cell (prompt, tokens, depth, batch); a [`Meter`] adds CPU time and,
//! where the system has a counter, energy; [`Peer`] runs another program in the same rounds; [`Spread`] is what is said of
//! repeated measurements. [`Load::predict`] is the cost model, for the [`Limits`] of this machine or of a [`Device`]. Nothing here prints.

mod devices;
mod energy;
mod error;
mod limits;
mod machine;
mod peer;
mod predict;
mod speed;
mod spread;

pub use devices::Device;
pub use energy::{EnergyCounter, POWERCAP};
pub use error::MeasureError;
pub use limits::Limits;
pub use machine::{Machine, cpu_seconds, memory_bytes, peak_memory_bytes, processor};
pub use peer::{Peer, PeerRates, find_number, run_for_json};
pub use predict::{Load, Prediction};
pub use speed::{Cell, Meter, Speedometer, Usage, random_ids};
pub use spread::{Spread, seconds};
