//! The operations as methods of `Cpu`: shapes are checked and the work is split here, the arithmetic is in the kernels.

pub(crate) mod activation;
pub(crate) mod attention;
mod columns;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gemm;
pub(crate) mod loss;
pub(crate) mod moments8;
pub(crate) mod norm;
pub(crate) mod optimizer;
pub(crate) mod rope;

use crate::cpu::Cpu;
use std::ops::Range;

/// Elements that one task works on, about: long enough to outweigh handing it out (about a microsecond), short
/// enough to share evenly. The number of threads plays no part, so that sums are split the same way for any.
const TASK_ELEMENTS: usize = 16 * 1024;

impl Cpu {
    /// Calls `task` with ranges that cover `0..rows`, each of about [`TASK_ELEMENTS`] elements.
    pub(crate) fn for_rows(&self, rows: usize, row_len: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
        let step = TASK_ELEMENTS.div_ceil(row_len.max(1));
        self.for_ranges(rows, step, &|_, range| task(range));
    }

    /// Calls `task(index, range)` for the ranges of length `step` (the last may be shorter) that cover `0..len`.
    pub(crate) fn for_ranges(&self, len: usize, step: usize, task: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.pool.run(len.div_ceil(step), &|index| {
            task(index, index * step..len.min((index + 1) * step));
        });
    }
}

/// `range` of rows as a range of elements.
pub(crate) fn elements(range: &Range<usize>, row_len: usize) -> Range<usize> {
    range.start * row_len..range.end * row_len
}

/// # Panics
/// If the slice called `what` has not the length that its shape asks for.
pub(crate) fn check_len(what: &str, slice: &[f32], len: usize) {
    assert!(slice.len() == len, "{what} has {} elements, its shape asks for {len}", slice.len());
}
