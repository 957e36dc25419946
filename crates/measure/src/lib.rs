//! Speed, energy and memory of a model on this machine, alone and against other programs.
//!
//! [`Speedometer`] times prefill and decode of one cell (prompt, tokens, depth, batch); a [`Meter`] adds CPU time and,
//! where the system has a counter, energy; [`Peer`] runs another program in the same rounds; [`Spread`] is what is said of
//! repeated measurements. [`Load`] is the cost model: by the [`Limits`] of a data sheet ([`Device`]) or by [`LayerTime`]s of this machine. Nothing here prints.

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
pub use limits::{Limits, reading_rate};
pub use machine::{Machine, cpu_seconds, memory_bytes, peak_memory_bytes, processor};
pub use peer::{Peer, PeerRates, find_number, llama_bench_rate, run_for_json};
pub use predict::{LayerTime, Load, Prediction};
pub use speed::{Cell, Meter, Speedometer, Usage, random_ids};
pub use spread::{Spread, geometric_mean, seconds};
