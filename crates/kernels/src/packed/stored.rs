//! `y = x w^T` with a weight as a file stores it: each panel is packed into scratch memory, multiplied while it is in
//! the cache, and forgotten. For weights that are used once, which a whole packed copy would cost more than it saves.

use super::layout::{self, LANES};
use super::matmul::SCRATCH;
use super::{Activations, Panels, StoredMatrix};
use crate::blocks::{BlockError, dequantize_row};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::memory::Region;
use crate::packed::kernels::Task;
use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;
use std::ops::Range;

/// Stored bytes that are worth a task: the system maps a file's pages some at a time.
const TASK_BYTES: usize = 1 << 18;

thread_local! {
    /// The panel of the calling thread, kept from call to call.
    static PANEL: RefCell<Option<Region>> = const { RefCell::new(None) };
    /// The stored rows of a panel, put in order.
    static ROWS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl StoredMatrix<'_> {
    /// Whether the bytes are those of the shape.
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or there are more or fewer bytes.
    ///
    /// # Panics
    /// If the rows are not whole heads of an even number of rows.
    pub fn check(&self) -> Result<(), BlockError> {
        let (dtype, [rows, cols]) = (self.dtype, self.shape);
        let (expected, found) = (dtype.matrix_bytes(rows, cols)?, self.bytes.len());
        if found != expected {
            return Err(BlockError::ByteLength { dtype, expected, found });
        }
        let whole = |head: usize| head > 0 && head.is_multiple_of(2) && rows.is_multiple_of(head);
        assert!(self.head_rows.is_none_or(whole), "{rows} rows in heads of {:?}", self.head_rows);
        Ok(())
    }

    /// Bytes of the matrix when it is packed.
    pub fn packed_bytes(&self) -> usize {
        self.panels().saturating_mul(layout::panel_bytes(self.dtype, self.shape[1]))
    }

    /// The values of row `row` into `out`.
    ///
    /// # Panics
    /// If there is no such row or `out` has not as many values as there are columns.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        if let Err(error) = dequantize_row(self.dtype, self.row(row), out) {
            panic!("row {row}: {error}");
        }
    }

    fn panels(&self) -> usize {
        self.shape[0].div_ceil(LANES)
    }

    /// Parts of the product: some for each thread, since the system is not as fast with every page.
    fn tasks(&self, threads: usize) -> usize {
        (self.bytes.len() / TASK_BYTES).next_multiple_of(threads).max(4 * threads).min(self.panels())
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.shape[0].max(1)
    }

    /// The bytes of a row.
    fn row(&self, row: usize) -> &[u8] {
        let at = match self.head_rows {
            None => row,
            Some(head) => {
                let (start, row) = (row / head * head, row % head);
                start + if row < head / 2 { 2 * row } else { 2 * row - head + 1 }
            }
        };
        &self.bytes[at * self.row_bytes()..(at + 1) * self.row_bytes()]
    }

    /// Packs a panel into `place`; bytes that mean nothing stay as they are.
    pub(super) fn pack_panel(&self, cpu: &Cpu, panel: usize, place: &mut [u8]) {
        let rows = panel * LANES..((panel + 1) * LANES).min(self.shape[0]);
        let row_bytes = self.row_bytes();
        // SAFETY: a `KernelSet` can only be obtained after the CPU was found to have its instructions.
        let pack =
            |rows: &[u8], place| unsafe { (cpu.kernels.packed.pack)(self.dtype, rows, row_bytes, place) };
        if self.head_rows.is_none() {
            return pack(&self.bytes[rows.start * row_bytes..rows.end * row_bytes], place);
        }
        let mut in_order = ROWS.take();
        in_order.clear();
        rows.for_each(|row| in_order.extend_from_slice(self.row(row)));
        pack(&in_order, place);
        ROWS.set(in_order);
    }
}

impl Cpu {
    /// [`matmul_packed_many`](Self::matmul_packed_many) of weights that are not packed; the same bits.
    ///
    /// # Panics
    /// As there, and if the bytes of a weight are not those of its shape ([`StoredMatrix::check`]).
    pub fn matmul_stored_many(&self, outputs: &mut [(&mut [f32], StoredMatrix<'_>)], x: &[f32]) {
        let Some(cols) = outputs.first().map(|(_, w)| w.shape[1]) else { return };
        if x.is_empty() {
            return outputs.iter_mut().for_each(|(y, _)| y.fill(0.0));
        }
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} values in rows of {cols}", x.len());
        for (y, w) in outputs.iter() {
            assert!(w.check().is_ok() && w.shape[1] == cols, "{} bytes of {:?}", w.bytes.len(), w.shape);
            assert_eq!(y.len(), x.len() / cols * w.shape[0], "length of the output of {:?}", w.shape);
        }
        let mut scratch = SCRATCH.take();
        let any = |quantized| outputs.iter().any(|(_, w)| w.dtype.is_quantized() == quantized);
        scratch.prepare(self, x, cols, any(true), any(false));
        let threads = self.pool.threads();
        let outputs = outputs.iter_mut().map(|(y, w)| (Disjoint::new(y), *w, w.tasks(threads)));
        let outputs: Vec<_> = outputs.collect();
        self.pool.run(outputs.iter().map(|(.., tasks)| tasks).sum(), &|mut index| {
            for (y, w, tasks) in &outputs {
                if index < *tasks {
                    let panel = |task: usize| w.panels() * task / tasks;
                    // SAFETY: `y` has M * N values (asserted above) and tasks cover different columns.
                    return unsafe {
                        self.stored_panels(y.as_mut_ptr(), &scratch, w, panel(index)..panel(index + 1))
                    };
                }
                index -= tasks;
            }
        });
        SCRATCH.set(scratch);
    }

    /// Packs and multiplies panels one by one.
    ///
    /// # Safety
    /// `y` is as [`Task::y`] says for all rows of `x`.
    unsafe fn stored_panels(&self, y: *mut f32, x: &Activations, w: &StoredMatrix<'_>, panels: Range<usize>) {
        let (dtype, [rows, cols]) = (w.dtype, w.shape);
        let panel_bytes = layout::panel_bytes(dtype, cols);
        let place = PANEL.take().filter(|place| place.bytes().len() >= panel_bytes);
        let mut place = place.unwrap_or_else(|| scratch(panel_bytes));
        for panel in panels {
            let bytes = &mut place.bytes_mut()[..panel_bytes];
            w.pack_panel(self, panel, bytes);
            let w = Panels { dtype, rows, cols, panel_bytes, first: panel, bytes };
            let task = Task { w, x, panels: panel..panel + 1, tiles: 0..x.tiles().count(), y };
            // SAFETY: a `KernelSet` exists only where its instructions do; the rest is the caller's promise.
            unsafe { (self.kernels.packed.matmul)(&task) };
        }
        PANEL.set(Some(place));
    }
}

/// Memory for a panel.
fn scratch(bytes: usize) -> Region {
    // As a vector does.
    Region::zeroed(bytes).unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()))
}

#[cfg(test)]
mod tests;
