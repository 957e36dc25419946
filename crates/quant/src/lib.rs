//! Quantization: which tensor gets which format, the blocks themselves, and a report of size and error.
//!
//! Formats follow the file types people know from llama.cpp; norms and biases stay float, the embedding (which is
//! the output head when tied) has a type of its own, and a row that is no whole number of blocks falls back to the
//! next larger format, all of it stated per tensor. With a calibration text the scales are searched for the least error
//! of what the layers compute, and under a size the types are chosen tensor by tensor.

mod blocks;
mod budget;
mod calibrated;
mod compensate;
mod error;
mod factor;
mod plan;
mod sensitivity;
mod sequential;
#[cfg(test)]
mod tests;

pub use blocks::{Options, QuantizedModel, TensorReport};
pub use budget::plan_for_size;
pub use error::QuantError;
pub use plan::{FileType, TensorPlan, plan, total_bytes};
pub use sequential::Calibration;
