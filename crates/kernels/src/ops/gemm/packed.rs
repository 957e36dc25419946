//! The blocked product: panels of `A` and `B` are copied to contiguous memory, in the type the inner loop multiplies,
//! and every tile of `C` is then a run through two panels.
//!
//! ```text
//! for each chunk of K, for each range of columns:
//!     pack that part of B                                   (all threads, shared)
//!     for each block of rows, as a task:
//!         for each block of K in the chunk:
//!             pack that part of A                           (own thread, stays in its L2)
//!             for each panel of B (stays in L1), for each panel of A: one tile of C
//! ```
//!
//! K is cut into equal blocks by its length alone, and each element of `C` is summed block by block in ascending order:
//! neither the number of threads nor the rows and columns beside it change its bits.

use super::scratch::Scratch;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::matrix::{MatMut, MatRef};
use std::ops::Range;

/// K whose panels of `B` are packed at once, about: `C` is gone through once for each chunk, and the panels of `A` are
/// packed again for each range of columns, so a chunk is short and its ranges are wide.
const CHUNK_K: usize = 768;
/// Words of packed `B` at once (7 MiB), as far as one panel per block allows.
const CHUNK_WORDS: usize = 7 << 18;
/// Rows of `A` that one task packs at most: with the longest block of K a quarter of a small L2 cache.
const TASK_ROWS: usize = 128;
/// Full panels of `B` that one task packs: their rows lie side by side in a row-major `B`.
const PACK_PANELS: usize = 4;
/// Blocks of K are a multiple of this, so that vectors, tiles and groups are full in all but the last.
const K_GRANULE: usize = super::int16::GROUP;

/// A part of a matrix to be packed: element `(lane, k)` is `data[lane * lane_stride + k * k_stride]`. A lane is a row
/// of `A` or a column of `B`.
#[derive(Clone, Copy)]
pub(crate) struct PackSource {
    pub data: *const f32,
    pub lane_stride: usize,
    pub k_stride: usize,
    pub lanes: usize,
    pub depth: usize,
}

/// Packs panels of `width` lanes one after the other, with zeros for lanes and depth that are missing.
///
/// # Safety
/// All elements of the source can be read; the panels fill the slice exactly.
pub(crate) type PackFn = unsafe fn(&mut [u32], width: usize, &PackSource);

/// Where a tile of `C` goes.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Words of each lane in the panels.
    pub words: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Rows of the tile that lie inside `C`, at most those of a panel of `A`.
    pub rows: usize,
    /// Columns of the tile that lie inside `C`; the panel of `B` is as wide, rounded up to `lanes`.
    pub cols: usize,
    /// Add to `C` instead of overwriting it.
    pub accumulate: bool,
}

/// Multiplies a panel of `A` with one of `B`.
///
/// # Safety
/// The panels hold `tile.words` words for each of their lanes; the rows and columns of the tile can be read and
/// written, by this thread alone; `enter` was called on this thread.
pub(crate) type TileFn = unsafe fn(a: *const u32, b: *const u32, tile: &Tile);

/// The parts of a blocked product for one instruction set and precision.
pub(crate) struct PackedGemm {
    /// Lanes of a panel of `A`.
    pub rows: usize,
    /// Lanes of a full panel of `B`.
    pub cols: usize,
    /// The last panel of `B` may be narrower: a multiple of this.
    pub lanes: usize,
    /// Words of one lane for a block of K of this length, padding and scales included.
    pub words: fn(usize) -> usize,
    /// The longest block of K: a panel of `B` of this length fits the L1 cache.
    pub block_k: usize,
    pub pack_a: PackFn,
    pub pack_b: PackFn,
    pub tile: TileFn,
    /// Called on a thread before its first tile of a task, and after the last one.
    pub enter: unsafe fn(),
    pub leave: unsafe fn(),
}

/// Nothing to do before or after tiles.
pub(crate) fn no_state() {}

impl PackedGemm {
    /// Words of one lane for a block of K.
    fn words(&self, block: &Range<usize>) -> usize {
        (self.words)(block.len())
    }

    /// The lanes that panels of `B` for `cols` columns have together.
    fn padded_cols(&self, cols: usize) -> usize {
        cols.next_multiple_of(self.lanes)
    }
}

/// One product in work.
struct Product<'a> {
    gemm: &'a PackedGemm,
    accumulate: bool,
    a: MatRef<'a>,
    b: MatRef<'a>,
    c: Disjoint<'a, f32>,
    c_stride: usize,
}

/// A packed part of `B`: blocks of K one after the other, each for the same columns.
struct PackedB<'a> {
    blocks: &'a [Range<usize>],
    cols: Range<usize>,
    words: &'a [u32],
}

/// `c (+)= a b`; shapes are checked and not empty.
pub(super) fn run(
    cpu: &Cpu,
    gemm: &PackedGemm,
    accumulate: bool,
    c: MatMut<'_>,
    a: MatRef<'_>,
    b: MatRef<'_>,
) {
    let (c_stride, depth) = (c.row_stride, a.cols);
    let product = Product { gemm, accumulate, a, b, c: Disjoint::new(c.data), c_stride };
    let block_k = depth.div_ceil(depth.div_ceil(gemm.block_k)).next_multiple_of(K_GRANULE);
    let blocks: Vec<_> = (0..depth).step_by(block_k).map(|k| k..depth.min(k + block_k)).collect();
    for blocks in blocks.chunks((CHUNK_K / block_k).max(1)) {
        let words: usize = blocks.iter().map(|block| gemm.words(block)).sum();
        let most = (CHUNK_WORDS / words / gemm.cols).max(1) * gemm.cols;
        let step = b.cols.div_ceil(b.cols.div_ceil(most)).next_multiple_of(gemm.cols);
        for start in (0..b.cols).step_by(step) {
            let cols = start..b.cols.min(start + step);
            Scratch::B.with(gemm.padded_cols(cols.len()) * words, |buffer| {
                product.pack_b(cpu, buffer, blocks, &cols);
                product.multiply(cpu, &PackedB { blocks, cols, words: buffer });
            });
        }
    }
}

impl Product<'_> {
    /// Packs the columns `cols` of `B`, every block of K.
    fn pack_b(&self, cpu: &Cpu, buffer: &mut [u32], blocks: &[Range<usize>], cols: &Range<usize>) {
        let (gemm, b) = (self.gemm, self.b);
        let width = gemm.padded_cols(cols.len());
        let whole = cols.len() / gemm.cols * gemm.cols;
        // Some full panels together, and the columns that are left as a narrower one.
        let full_tasks = whole.div_ceil(PACK_PANELS * gemm.cols);
        let tasks = full_tasks + usize::from(whole < cols.len());
        let buffer = Disjoint::new(buffer);
        cpu.pool.run(blocks.len() * tasks, &|task| {
            let (block, part) = (&blocks[task / tasks], task % tasks);
            let words = gemm.words(block);
            let before: usize = blocks[..task / tasks].iter().map(|block| gemm.words(block)).sum();
            let (first, end) = match part < full_tasks {
                true => (part * PACK_PANELS * gemm.cols, whole.min((part + 1) * PACK_PANELS * gemm.cols)),
                false => (whole, cols.len()),
            };
            let panel_width = gemm.padded_cols((end - first).min(gemm.cols));
            let start = before * width + first * words;
            let source = PackSource {
                data: b.data[block.start * b.row_stride + (cols.start + first) * b.col_stride..].as_ptr(),
                lane_stride: b.col_stride,
                k_stride: b.row_stride,
                lanes: end - first,
                depth: block.len(),
            };
            let len = (end - first).next_multiple_of(panel_width) * words;
            // SAFETY: each panel is written by one task. The source lies inside `b` (its shape was checked). A
            // `KernelSet` can only be obtained after the CPU was found to have its instructions.
            unsafe { (gemm.pack_b)(buffer.part(start..start + len), panel_width, &source) };
        });
    }

    /// Multiplies all rows of `A` with a packed part of `B`.
    fn multiply(&self, cpu: &Cpu, b: &PackedB<'_>) {
        let (rows, threads, panel_rows) = (self.a.rows, cpu.pool.threads(), self.gemm.rows);
        let step = rows.div_ceil(4 * threads).clamp(4 * panel_rows, TASK_ROWS).next_multiple_of(panel_rows);
        let row_tasks = rows.div_ceil(step);
        let panels = b.cols.len().div_ceil(self.gemm.cols);
        // With few rows the columns are shared out too.
        let panel_step = panels.div_ceil((2 * threads).div_ceil(row_tasks));
        let col_tasks = panels.div_ceil(panel_step);
        cpu.pool.run(row_tasks * col_tasks, &|task| {
            let (row, panel) = (task / col_tasks * step, task % col_tasks * panel_step);
            self.multiply_block(b, row..rows.min(row + step), panel..panels.min(panel + panel_step));
        });
    }

    /// Multiplies a block of rows with some panels of `B`.
    fn multiply_block(&self, b: &PackedB<'_>, rows: Range<usize>, panels: Range<usize>) {
        let (gemm, a) = (self.gemm, self.a);
        let padded_rows = rows.len().next_multiple_of(gemm.rows);
        let most_words = b.blocks.iter().map(|block| gemm.words(block)).max().unwrap_or(0);
        let width = gemm.padded_cols(b.cols.len());
        Scratch::A.with(padded_rows * most_words, |buffer| {
            let mut b_start = 0;
            for block in b.blocks {
                let words = gemm.words(block);
                let packed_a = &mut buffer[..padded_rows * words];
                let source = PackSource {
                    data: a.data[rows.start * a.row_stride + block.start * a.col_stride..].as_ptr(),
                    lane_stride: a.row_stride,
                    k_stride: a.col_stride,
                    lanes: rows.len(),
                    depth: block.len(),
                };
                // SAFETY: the source lies inside `a` (its shape was checked). A `KernelSet` can only be obtained
                // after the CPU was found to have its instructions.
                unsafe { (gemm.pack_a)(packed_a, gemm.rows, &source) };
                let packed_b = &b.words[b_start..b_start + width * words];
                self.tiles(packed_a, packed_b, &rows, (b, &panels), block);
                b_start += width * words;
            }
        });
    }

    /// The tiles of one block of rows, some panels of `B` and one block of K.
    fn tiles(
        &self,
        packed_a: &[u32],
        packed_b: &[u32],
        rows: &Range<usize>,
        (b, panels): (&PackedB<'_>, &Range<usize>),
        block: &Range<usize>,
    ) {
        let gemm = self.gemm;
        let words = gemm.words(block);
        // SAFETY: see `PackedGemm::tile` below; `enter` and `leave` have no other duty than this order.
        unsafe { (gemm.enter)() };
        for panel in panels.clone() {
            let col = b.cols.start + panel * gemm.cols;
            let panel_b = packed_b[panel * gemm.cols * words..].as_ptr();
            for row in rows.clone().step_by(gemm.rows) {
                let panel_a = packed_a[(row - rows.start) * words..].as_ptr();
                let tile = Tile {
                    words,
                    c: self.c.element(row * self.c_stride + col),
                    c_stride: self.c_stride,
                    rows: gemm.rows.min(rows.end - row),
                    cols: gemm.cols.min(b.cols.end - col),
                    accumulate: self.accumulate || block.start > 0,
                };
                // SAFETY: the panels were packed with `words` words a lane; the tile lies inside `c` (its shape was
                // checked), and no other task has these rows and columns. The CPU has the instructions, as above.
                unsafe { (gemm.tile)(panel_a, panel_b, &tile) };
            }
        }
        // SAFETY: as above.
        unsafe { (gemm.leave)() };
    }
}
