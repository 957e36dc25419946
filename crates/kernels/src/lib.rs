//! Block formats, every operation forward and backward on slices, and the thread pool.
//!
//! [`Cpu`] is the handle: a [`KernelSet`] chosen once at run time and a [`ThreadPool`]; every operation is a method of
//! it. `scalar/` holds the definition of each operation as plain loops; the other instruction sets are compared with
//! it by tests that go through [`KernelSet::available`] by name.

pub mod blocks;

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod aligned;
mod buffers;
mod clock;
mod cpu;
mod disjoint;
mod error;
mod floats;
mod kernel_set;
mod matrix;
mod memory;
mod ops;
mod packed;
mod pool;
mod scalar;
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use aligned::Aligned;
pub use buffers::{Buffer, Buffers};
pub use clock::{Clock, Counting, Work};
pub use cpu::{Cpu, offered_threads};
pub use error::Error;
pub use kernel_set::{KERNELS_VARIABLE, KernelSet};
pub use matrix::{MatMut, MatRef, Precision};
pub use ops::attention::{
    AttentionGrads, AttentionPlan, AttentionSaved, AttentionTile, KEY_BLOCK, KeyBlock, KvBlocks, KvType,
    KvView, KvViews,
};
pub use ops::moments8::{MOMENT_BLOCK, Moment8};
pub use ops::norm::{LayerNormGrads, LayerNormOutput};
pub use ops::optimizer::AdamWStep;
pub use ops::rope::{RopeAngles, RopeFrequencies};
pub use packed::screen::{NOT_AMONG_TOP, Screen};
pub use packed::{PackedMatrix, StoredMatrix};
pub use pool::ThreadPool;
