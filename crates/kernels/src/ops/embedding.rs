//! Rows of a table by id, and their gradient.

use super::{check_len, elements};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// Columns of the table's gradient that one task adds to, a whole number of cache lines.
const GRADIENT_COLUMNS: usize = 64;

impl Cpu {
    /// Row `n` of `y` becomes row `ids[n]` of `table`.
    ///
    /// # Shapes
    /// `y [N, D]`, `table [V, D]`, `ids [N]`.
    ///
    /// # Panics
    /// If an id is not below V.
    pub fn embedding(&self, y: &mut [f32], table: &[f32], ids: &[u32]) {
        let d = width("embedding: y", y, table, ids);
        let y = Disjoint::new(y);
        self.for_rows(ids.len(), d, &|rows| {
            for row in rows {
                let id = ids[row] as usize;
                // SAFETY: the rows of different tasks do not overlap.
                let y = unsafe { y.part(elements(&(row..row + 1), d)) };
                y.copy_from_slice(&table[elements(&(id..id + 1), d)]);
            }
        });
    }

    /// Gradient of [`embedding`](Self::embedding): adds row `n` of `dy` to row `ids[n]` of `dtable`, in order of `n`.
    ///
    /// # Shapes
    /// `dtable [V, D]`, `dy [N, D]`, `ids [N]`.
    ///
    /// # Panics
    /// If an id is not below V.
    pub fn embedding_backward(&self, dtable: &mut [f32], dy: &[f32], ids: &[u32]) {
        let d = width("embedding_backward: dy", dy, dtable, ids);
        let dtable = Disjoint::new(dtable);
        self.for_ranges(d, GRADIENT_COLUMNS, &|_, columns| {
            for (row, &id) in ids.iter().enumerate() {
                let id = id as usize;
                // SAFETY: each task has its own columns.
                let sum = unsafe { dtable.part(id * d + columns.start..id * d + columns.end) };
                kernel!(self, add(sum, &dy[row * d + columns.start..row * d + columns.end]));
            }
        });
    }
}

/// The row length D.
fn width(what: &str, rows: &[f32], table: &[f32], ids: &[u32]) -> usize {
    let d = rows.len().checked_div(ids.len()).unwrap_or(0);
    check_len(what, rows, ids.len() * d);
    assert!(
        d == 0 || table.len().is_multiple_of(d),
        "the table has {} elements, no whole rows of {d}",
        table.len()
    );
    d
}
