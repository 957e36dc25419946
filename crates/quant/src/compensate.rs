//! Rounding with compensation: each column of a weight takes over what the errors of the earlier ones did to the output.
//!
//! Minimised for every row is `e^T H e`, `e` the row's rounding error and `H` the second moment of the layer's inputs, instead
//! of the sum over `H`'s diagonal alone. Columns are rounded from first to last as in [`crate::factor`]; the
//! scales of a block are searched when its turn comes, for the values that it would have if it were not rounded (the best
//! answer to all errors so far) under the weights `D` of its columns. Then integers are changed one at a time as long
//! as `e^T H e` falls, with the scales as they are (coordinate descent, as CDQuant, arXiv 2406.17542).
//! The blocks are ordinary ones.

use std::sync::Mutex;

use shakti_kernels::blocks::{self, BlockError, DType, Grid, MAX_BLOCK_LEN};
use shakti_kernels::{Cpu, MatMut, MatRef, Precision};

use crate::factor::Factor;

/// Columns between two products with the errors of all earlier ones; a multiple of every block length.
const PANEL: usize = 256;

/// Rows of one task.
const ROWS_PER_TASK: usize = 16;

/// A weight `[N, K]` and the damped second moment `[K, K]` of its inputs.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) moment: &'a [f32],
    pub(crate) factor: &'a Factor,
    pub(crate) cols: usize,
}

/// Blocks of every row, and the error they leave.
pub(crate) struct Rounded {
    /// Row-major blocks.
    pub(crate) bytes: Vec<u8>,
    /// What they stand for minus the weight, `[N, K]`.
    pub(crate) errors: Vec<f32>,
}

/// What one task works on.
struct Rows<'a> {
    /// `[rows, K]`.
    weight: &'a [f32],
    /// What the columns of the panel should be after the errors so far, `[rows, panel]`.
    targets: &'a mut [f32],
    /// `[rows, K]`.
    errors: &'a mut [f32],
    bytes: &'a mut [u8],
    result: Result<(), BlockError>,
}

/// Rounds a weight to blocks of `dtype`, which must be a format of integers.
pub(crate) fn round(cpu: &Cpu, dtype: DType, layer: Layer<'_>, sweeps: usize) -> Result<Rounded, BlockError> {
    let k = layer.cols;
    let rows = layer.weight.len() / k;
    let row_bytes = dtype.row_bytes(k)?;
    let mut errors = vec![0.0f32; rows * k];
    let mut bytes = vec![0u8; rows * row_bytes];
    for start in (0..k).step_by(PANEL) {
        let end = (start + PANEL).min(k);
        let width = end - start;
        let mut shares = vec![0.0f32; rows * width];
        if start > 0 {
            let earlier = MatRef { data: &errors, rows, cols: start, row_stride: k, col_stride: 1 };
            let upper = MatRef {
                data: &layer.factor.upper[start..],
                rows: start,
                cols: width,
                row_stride: k,
                col_stride: 1,
            };
            cpu.gemm(Precision::F32, false, MatMut::new(&mut shares, rows, width), earlier, upper);
        }
        each_task(cpu, layer, (&mut shares, &mut errors, &mut bytes), |rows| {
            rows.round_panel(dtype, layer, start..end)
        })?;
    }
    if sweeps > 0 {
        let mut gradients = vec![0.0f32; rows * k];
        let (e, h) = (MatRef::new(&errors, rows, k), MatRef::new(layer.moment, k, k));
        cpu.gemm(Precision::F32, false, MatMut::new(&mut gradients, rows, k), e, h);
        each_task(cpu, layer, (&mut gradients, &mut errors, &mut bytes), |rows| {
            rows.descend(dtype, layer, sweeps)
        })?;
    }
    Ok(Rounded { bytes, errors })
}

/// Runs `work` on all rows, some at a time; rows are independent, so any number of threads gives the same bytes.
fn each_task(
    cpu: &Cpu,
    layer: Layer<'_>,
    (targets, errors, bytes): (&mut [f32], &mut [f32], &mut [u8]),
    work: impl Fn(&mut Rows<'_>) -> Result<(), BlockError> + Sync,
) -> Result<(), BlockError> {
    let rows = layer.weight.len() / layer.cols;
    let of = |len: usize| ROWS_PER_TASK * (len / rows.max(1)).max(1);
    let (per_target, per_byte, per_value) = (of(targets.len()), of(bytes.len()), ROWS_PER_TASK * layer.cols);
    let parts = layer.weight.chunks(per_value).zip(targets.chunks_mut(per_target));
    let parts = parts.zip(errors.chunks_mut(per_value)).zip(bytes.chunks_mut(per_byte));
    let tasks: Vec<Mutex<Rows<'_>>> = parts
        .map(|(((weight, targets), errors), bytes)| {
            Mutex::new(Rows { weight, targets, errors, bytes, result: Ok(()) })
        })
        .collect();
    cpu.pool.run(tasks.len(), &|index| {
        let mut rows = tasks[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rows.result = work(&mut rows);
    });
    tasks
        .into_iter()
        .try_for_each(|task| task.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).result)
}

impl Rows<'_> {
    /// Rounds the columns of one panel. `targets` come in as the earlier errors' shares.
    fn round_panel(
        &mut self,
        dtype: DType,
        layer: Layer<'_>,
        columns: std::ops::Range<usize>,
    ) -> Result<(), BlockError> {
        let (k, len, width) = (layer.cols, dtype.block_len(), columns.len());
        let mut grid = Grid::default();
        let (mut free, mut q) = ([0.0f32; MAX_BLOCK_LEN], [0u8; MAX_BLOCK_LEN]);
        let row_bytes = dtype.row_bytes(k)?;
        for row in 0..self.weight.len() / k {
            let weight = &self.weight[row * k..][columns.clone()];
            let targets = &mut self.targets[row * width..][..width];
            let errors = &mut self.errors[row * k..][columns.clone()];
            targets.iter_mut().zip(weight).for_each(|(share, weight)| *share = weight - *share);
            for start in (0..width).step_by(len) {
                let block = start..start + len;
                let upper = |j: usize, to: std::ops::Range<usize>| {
                    &layer.factor.upper[(columns.start + j) * k..]
                        [columns.start + to.start..columns.start + to.end]
                };
                // The block as it would be were it not rounded: its own columns' deviations count too.
                free[..len].copy_from_slice(&targets[block.clone()]);
                for j in 0..len {
                    let deviation = free[j] - weight[start + j];
                    subtract(&mut free[j + 1..len], deviation, upper(start + j, start + j + 1..block.end));
                }
                let place = (columns.start + start) / len * dtype.block_bytes();
                let bytes = &mut self.bytes[row * row_bytes + place..][..dtype.block_bytes()];
                let weights = &layer.factor.diagonal[columns.start..][block.clone()];
                blocks::quantize_row_weighted(dtype, &free[..len], weights, bytes)?;
                grid.read(dtype, bytes)?;
                for (j, q) in q[..len].iter_mut().enumerate() {
                    let at = start + j;
                    *q = grid.nearest(j, targets[at]);
                    errors[at] = grid.value(j, *q) - weight[at];
                    subtract(&mut targets[at + 1..], errors[at], upper(at, at + 1..width));
                }
                blocks::replace_integers(dtype, bytes, &q[..len])?;
            }
        }
        Ok(())
    }

    /// Changes integers one at a time while that lowers `e^T H e`. `targets` come in as `e^T H`, half the gradient.
    fn descend(&mut self, dtype: DType, layer: Layer<'_>, sweeps: usize) -> Result<(), BlockError> {
        let (k, len, row_bytes) = (layer.cols, dtype.block_len(), dtype.row_bytes(layer.cols)?);
        let mut grid = Grid::default();
        let mut q = [0u8; MAX_BLOCK_LEN];
        for row in 0..self.weight.len() / k {
            let gradient = &mut self.targets[row * k..][..k];
            let errors = &mut self.errors[row * k..][..k];
            let weight = &self.weight[row * k..][..k];
            let blocks = &mut self.bytes[row * row_bytes..][..row_bytes];
            for _ in 0..sweeps {
                let mut changes = 0;
                for (index, bytes) in blocks.chunks_exact_mut(dtype.block_bytes()).enumerate() {
                    grid.read(dtype, bytes)?;
                    blocks::read_integers(dtype, bytes, &mut q[..len])?;
                    let before = changes;
                    for (j, q) in q[..len].iter_mut().enumerate() {
                        let at = index * len + j;
                        let moment = &layer.moment[at * k..][..k];
                        let value = grid.value(j, *q);
                        let better = grid.nearest(j, value - gradient[at] / moment[at]);
                        if better != *q {
                            *q = better;
                            let moved = grid.value(j, better) - value;
                            errors[at] = grid.value(j, better) - weight[at];
                            subtract(gradient, -moved, moment);
                            changes += 1;
                        }
                    }
                    if changes > before {
                        blocks::replace_integers(dtype, bytes, &q[..len])?;
                    }
                }
                if changes == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// `y -= factor * x`.
#[inline]
fn subtract(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y -= factor * x;
    }
}

#[cfg(test)]
mod tests;
