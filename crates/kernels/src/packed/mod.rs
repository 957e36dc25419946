//! Weights repacked for multiplication: panels of 16 output rows, one layout family for every format.

pub(crate) mod activations;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod interleave;
pub(crate) mod kernels;
pub(crate) mod layout;
mod matmul;
pub(crate) mod pack;
pub(crate) mod screen;
mod stored;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use activations::{Activations, TILE_WORDS};

use crate::blocks::{BlockError, DType};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::kernel_set::KernelSet;
use crate::memory::{HUGE_PAGE, Region};
use layout::LANES;
use std::ops::Range;

/// A weight `[rows, cols]` as a file stores it, row by row.
#[derive(Clone, Copy, Debug)]
pub struct StoredMatrix<'a> {
    /// Its format.
    pub dtype: DType,
    /// `[rows, cols]`.
    pub shape: [usize; 2],
    /// Its rows.
    pub bytes: &'a [u8],
    /// Rows of a head, where the two halves of each head's rows lie interleaved: the first row of the first half, the
    /// first of the second, the second of the first, and so on.
    pub head_rows: Option<usize>,
}

/// Panels of one matrix that start in one huge page of memory.
struct Part {
    page: usize,
    matrix: usize,
    panels: Range<usize>,
}

/// The huge pages, counted from address 0, that bytes touch.
fn pages(bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr().addr();
    start / HUGE_PAGE..(start + bytes.len()).div_ceil(HUGE_PAGE)
}

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
        let mut packed = Self::pack_all(cpu, &[StoredMatrix { dtype, shape, bytes, head_rows: None }])
            .map_err(|(_, error)| error)?;
        Ok(packed.pop().expect("one for one"))
    }

    /// [`pack_with`](Self::pack_with) of several, all threads at work on all of them.
    ///
    /// # Errors
    /// As [`pack`](Self::pack), with the place in the list of the one that cannot be packed.
    pub fn pack_all(cpu: &Cpu, stored: &[StoredMatrix<'_>]) -> Result<Vec<Self>, (usize, BlockError)> {
        let room = |(index, one)| Self::zeroed(one).map_err(|error| (index, error));
        let mut matrices = stored.iter().enumerate().map(room).collect::<Result<Vec<Self>, _>>()?;
        let mut parts: Vec<Part> = Vec::new();
        for (matrix, packed) in matrices.iter().enumerate() {
            let pages = pages(packed.region.bytes());
            parts.extend(packed.panels_by(&pages).map(|(page, panels)| Part { page, matrix, panels }));
        }
        // The panels that start in one huge page are one task: of two threads that touch a fresh page at the same time each
        // clears a page of its own, and one of them is thrown away.
        parts.sort_by_key(|part| part.page);
        let tasks: Vec<&[Part]> = parts.chunk_by(|a, b| a.page == b.page).collect();
        let strides: Vec<usize> = matrices.iter().map(|matrix| matrix.panel_bytes).collect();
        let places: Vec<Disjoint<'_, u8>> =
            matrices.iter_mut().map(|matrix| Disjoint::new(matrix.region.bytes_mut())).collect();
        cpu.pool.run(tasks.len(), &|task| {
            for Part { matrix, panels, .. } in tasks[task] {
                let (stored, stride) = (&stored[*matrix], strides[*matrix]);
                for panel in panels.clone() {
                    // SAFETY: each panel is written by the one task that holds its number.
                    let place = unsafe { places[*matrix].part(panel * stride..(panel + 1) * stride) };
                    stored.pack_panel(cpu, panel, place);
                }
            }
        });
        drop(places);
        Ok(matrices)
    }

    /// Room for the panels of a matrix, whose length is checked.
    fn zeroed(stored: &StoredMatrix<'_>) -> Result<Self, BlockError> {
        stored.check()?;
        let (dtype, [rows, cols]) = (stored.dtype, stored.shape);
        let panel_bytes = layout::panel_bytes(dtype, cols);
        let panels = rows.div_ceil(LANES);
        let len = panels.checked_mul(panel_bytes).ok_or(BlockError::TooLarge { rows, cols })?;
        Ok(Self { dtype, rows, cols, panel_bytes, region: Region::zeroed(len)? })
    }

    /// The panels that start in each of the pages that the matrix touches; none where nothing is stored.
    fn panels_by(&self, pages: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (start, stride) = (self.region.bytes().as_ptr().addr(), self.panel_bytes);
        let panels = if stride == 0 { 0 } else { self.panels() };
        let first =
            move |page: usize| (page * HUGE_PAGE).saturating_sub(start).div_ceil(stride.max(1)).min(panels);
        let of_page = move |page| (page, first(page)..first(page + 1));
        pages.clone().map(of_page).filter(|(_, panels)| !panels.is_empty())
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

    /// All panels.
    pub(crate) fn all(&self) -> Panels<'_> {
        let (dtype, rows, cols, panel_bytes) = (self.dtype, self.rows, self.cols, self.panel_bytes);
        Panels { dtype, rows, cols, panel_bytes, first: 0, bytes: self.region.bytes() }
    }

    /// The values of row `row` into `out`, of `cols` values.
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "length of the row");
        pack::unpack_lane(self.dtype, self.all().panel(row / LANES), row % LANES, out);
    }
}

/// Some panels of a packed weight `[rows, cols]`, as the matmul kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
    /// The number of the first panel in `bytes`.
    first: usize,
    bytes: &'a [u8],
}

impl<'a> Panels<'a> {
    /// Output features of the weight.
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

    /// Bytes of a panel, a multiple of 64.
    #[cfg(target_arch = "x86_64")]
    pub fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// The bytes of panel `index` of the weight, aligned to 64.
    pub fn panel(&self, index: usize) -> &'a [u8] {
        &self.bytes[(index - self.first) * self.panel_bytes..][..self.panel_bytes]
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix({} [{}, {}])", self.dtype, self.rows, self.cols)
    }
}
