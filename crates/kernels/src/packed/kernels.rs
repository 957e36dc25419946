//! What an instruction set provides for packed matrices.

use super::{Activations, Panels};
use crate::blocks::DType;
use std::ops::Range;

/// The functions of one instruction set.
///
/// They are `unsafe fn` because their code may use instructions that not every CPU has; a `KernelSet` exists only where
/// its instructions do.
#[derive(Clone, Copy)]
pub(crate) struct PackedKernels {
    /// Most rows of a tile.
    pub tile_rows: usize,
    /// Packs up to 16 stored rows, each of `row_bytes` bytes, into a zeroed panel.
    pub pack: unsafe fn(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]),
    /// Quantizes the first blocks of some rows into words of a tile: as many blocks as `tile` has room for.
    /// `rows_stride` is the number of rows and how many floats apart they start in `x`.
    pub quantize: unsafe fn(x: &[f32], rows_stride: [usize; 2], tile: &mut [u32]),
    /// Computes a part of the outputs.
    ///
    /// # Safety
    /// Besides the instructions: what [`Task::y`] says.
    pub matmul: unsafe fn(&Task<'_>),
}

/// A part of `y [M, N] = x [M, K] w [N, K]^T`: some panels of 16 columns of `y` for some tiles of its rows.
pub(crate) struct Task<'a> {
    /// The weight.
    pub w: Panels<'a>,
    /// All activations, with `cols` = K.
    pub x: &'a Activations,
    /// Panels to compute.
    pub panels: Range<usize>,
    /// Tiles to compute.
    pub tiles: Range<usize>,
    /// The start of `y`, of `M * N` floats; nobody else reads or writes the columns of `panels` in the rows of `tiles`.
    pub y: *mut f32,
}

/// Runs a task by what its weight is stored as: `run_floats::<T>(task)` or `run_blocks::<Format, Dots>(task)`, with the format's
/// and the float's types in scope where it stands.
macro_rules! run_stored_type {
    ($task:expr, $dots:ident) => {
        match $task.w.dtype() {
            DType::F32 => run_floats::<F32>($task),
            DType::F16 => run_floats::<F16>($task),
            DType::BF16 => run_floats::<Bf16>($task),
            DType::Q8_0 => run_blocks::<Q8_0, $dots>($task),
            DType::Q5_0 => run_blocks::<Q5_0, $dots>($task),
            DType::Q5_1 => run_blocks::<Q5_1, $dots>($task),
            DType::Q4_0 => run_blocks::<Q4_0, $dots>($task),
            DType::Q4_1 => run_blocks::<Q4_1, $dots>($task),
            DType::Q6_K => run_blocks::<Q6_K, $dots>($task),
            DType::Q5_K => run_blocks::<Q5_K, $dots>($task),
            DType::Q4_K => run_blocks::<Q4_K, $dots>($task),
        }
    };
}
pub(crate) use run_stored_type;
