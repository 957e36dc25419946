//! The f32 values of some rows of a weight, for passes that need the matrix itself: the backward pass through blocks.

use super::{PackedMatrix, StoredMatrix};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::ops::elements;
use std::ops::Range;

impl Cpu {
    /// Rows `rows` of `w` into `values [rows, w.cols()]`, the bits of [`PackedMatrix::dequantize_row`].
    ///
    /// # Panics
    /// If `w` has no such rows or `values` another length.
    pub fn dequantize_packed(&self, values: &mut [f32], w: &PackedMatrix, rows: Range<usize>) {
        self.dequantize_rows(values, w.cols(), rows, &|row, out| w.dequantize_row(row, out));
    }

    /// Rows `rows` of `w` into `values [rows, cols]`, the bits of [`StoredMatrix::dequantize_row`].
    ///
    /// # Panics
    /// If `w` has no such rows or `values` another length.
    pub fn dequantize_stored(&self, values: &mut [f32], w: &StoredMatrix<'_>, rows: Range<usize>) {
        self.dequantize_rows(values, w.shape[1], rows, &|row, out| w.dequantize_row(row, out));
    }

    fn dequantize_rows(
        &self,
        values: &mut [f32],
        cols: usize,
        rows: Range<usize>,
        dequantize: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        assert_eq!(values.len(), rows.len() * cols, "length of the values of {} rows of {cols}", rows.len());
        let values = Disjoint::new(values);
        self.for_rows(rows.len(), cols, &|part| {
            // SAFETY: the rows of different tasks do not overlap.
            let out = unsafe { values.part(elements(&part, cols)) };
            for (row, out) in part.zip(out.chunks_exact_mut(cols.max(1))) {
                dequantize(rows.start + row, out);
            }
        });
    }
}
