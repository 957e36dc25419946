//! Weights repacked for multiplication: panels of 16 output rows, one layout family for every format.

pub(crate) mod activations;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod interleave;
pub(crate) mod kernels;
pub(crate) mod layout;
mod matmul;
pub(crate) mod pack;
pub(crate) mod screen;
#[cfg(test)]
mod tests;

pub(crate) use activations::{Activations, TILE_WORDS};

use crate::blocks::{BlockError, DType};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::kernel_set::KernelSet;
use crate::memory::{HUGE_PAGE, Region};
use layout::LANES;

/// A weight `[rows, cols]` (output, input features) of any format in the layout that the matmul kernels read.
///
/// It holds the integers and scales of the file, so nothing is lost: [`dequantize_row`](Self::dequantize_row) gives the
/// same bits as dequantizing the stored row.
pub struct PackedMatrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
    region: Region,
}

impl PackedMatrix {
    /// Packs `bytes`, the rows as a file stores them (row-major `[rows, cols]`).
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, `bytes` has not the length that the shape needs, or memory is short.
    pub fn pack(dtype: DType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, BlockError> {
        Self::pack_with(&Cpu::new(KernelSet::available()[0], 1), dtype, [rows, cols], bytes)
    }

    /// [`pack`](Self::pack) with a kernel set's instructions and all threads; `shape` is `[rows, cols]`.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_with(cpu: &Cpu, dtype: DType, shape: [usize; 2], bytes: &[u8]) -> Result<Self, BlockError> {
        let [rows, cols] = shape;
        let expected = dtype.matrix_bytes(rows, cols)?;
        if bytes.len() != expected {
            return Err(BlockError::ByteLength { dtype, expected, found: bytes.len() });
        }
        let row_bytes = dtype.row_bytes(cols)?;
        let panel_bytes = layout::panel_bytes(dtype, cols);
        let panels = rows.div_ceil(LANES);
        let len = panels.checked_mul(panel_bytes).ok_or(BlockError::TooLarge { rows, cols })?;
        let region = Region::zeroed(len)?;
        let mut matrix = Self { dtype, rows, cols, panel_bytes, region };
        if row_bytes > 0 {
            let start = matrix.region.bytes().as_ptr().addr();
            let parts = Disjoint::new(matrix.region.bytes_mut());
            let pack = |panel: usize| {
                // SAFETY: each panel is written by the one task that has its number.
                let place = unsafe { parts.part(panel * panel_bytes..(panel + 1) * panel_bytes) };
                let lanes = panel * LANES..((panel + 1) * LANES).min(rows);
                let rows = &bytes[lanes.start * row_bytes..lanes.end * row_bytes];
                // SAFETY: a `KernelSet` can only be obtained after the CPU was found to have its instructions.
                unsafe { (cpu.kernels.packed.pack)(dtype, rows, row_bytes, place) };
            };
            // The panels that start in one huge page are one task: of two threads that touch a fresh page at the same
            // time each clears a page of its own, and one of them is thrown away.
            let first_page = start / HUGE_PAGE;
            let pages = (start + len - 1) / HUGE_PAGE - first_page + 1;
            let first_panel = |page: usize| {
                ((first_page + page) * HUGE_PAGE).saturating_sub(start).div_ceil(panel_bytes).min(panels)
            };
            cpu.pool.run(pages, &|page| (first_panel(page)..first_panel(page + 1)).for_each(pack));
        }
        Ok(matrix)
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Format of the stored values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Memory held, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.region.bytes().len()
    }

    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Bytes of a panel, a multiple of 64.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// The bytes of a panel, aligned to 64.
    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        &self.region.bytes()[index * self.panel_bytes..][..self.panel_bytes]
    }

    /// The values of row `row` into `out`, of `cols` values.
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "length of the row");
        pack::unpack_lane(self.dtype, self.panel(row / LANES), row % LANES, out);
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix({} [{}, {}])", self.dtype, self.rows, self.cols)
    }
}
