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

use super::kernel::{Ahead, LINE_WORDS, PackSource, PackedGemm, Tile};
use super::scratch::Scratch;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::matrix::{MatMut, MatRef};
use std::cell::RefCell;
use std::ops::Range;

/// K whose panels of `B` are packed at once, about, where the whole of `B` is too much: `C` is gone through once for each
/// chunk, and the panels of `A` are packed again for each range of columns, so a chunk is short and its ranges are wide.
const CHUNK_K: usize = 768;
/// Words of packed `B` at once (7 MiB), as far as one panel per block allows.
const CHUNK_WORDS: usize = 7 << 18;
/// Rows of `A` that one task packs at most: with the longest block of K a quarter of a small L2 cache.
const TASK_ROWS: usize = 128;
/// Full panels of `B` that one task packs: their rows lie side by side in a row-major `B`.
const PACK_PANELS: usize = 4;
/// Blocks of K are a multiple of this, so that vectors, tiles and groups are full in all but the last.
const K_GRANULE: usize = super::int16::GROUP;

/// Products that share an operand or a result, each part cut by itself: the bits are those of one product after the other.
pub(super) struct Product<'a> {
    pub gemm: &'a PackedGemm,
    pub accumulate: bool,
    /// One for all, or one a part.
    pub a: &'a [MatRef<'a>],
    /// One for all, or one a part.
    pub b: &'a [MatRef<'a>],
    /// One that the parts are summed in, or one a part.
    pub c: &'a [Target<'a>],
}

/// A result in work.
pub(super) struct Target<'a> {
    data: Disjoint<'a, f32>,
    stride: usize,
}

impl<'a> Target<'a> {
    pub(super) fn new(c: MatMut<'a>) -> Self {
        Self { stride: c.row_stride, data: Disjoint::new(c.data) }
    }
}

/// A range of K of one part.
struct Block {
    part: usize,
    k: Range<usize>,
    /// Nothing was written to `C` before it.
    is_first: bool,
}

/// Some columns of one part.
#[derive(Clone)]
struct Strip {
    part: usize,
    cols: Range<usize>,
    /// Lanes of the strips before it.
    lane: usize,
}

/// A packed part of `B`: blocks of K one after the other, each for the same strips.
struct PackedB<'a> {
    blocks: &'a [Block],
    strips: &'a [Strip],
    /// Lanes of all strips.
    width: usize,
    words: &'a [u32],
}

thread_local! {
    /// How a product is cut, kept so that a call asks for no memory.
    static CUTS: RefCell<(Vec<Block>, Vec<Strip>)> = RefCell::default();
}

impl Product<'_> {
    /// Computes it; shapes are checked and not empty.
    pub(super) fn run(&self, cpu: &Cpu) {
        let parts = self.a.len().max(self.b.len());
        let sums = self.c.len() == 1;
        let (mut blocks, mut strips) = CUTS.take();
        blocks.clear();
        strips.clear();
        for part in 0..if sums { parts } else { 1 } {
            let depth = of(self.a, part).cols;
            let step = depth.div_ceil(depth.div_ceil(self.gemm.block_k)).next_multiple_of(K_GRANULE);
            blocks.extend((0..depth).step_by(step).map(|k| Block {
                part,
                is_first: part == 0 && k == 0,
                k: k..depth.min(k + step),
            }));
        }
        let mut width = 0;
        for part in 0..self.b.len().min(self.c.len()) {
            strips.push(Strip { part, cols: 0..self.b[part].cols, lane: width });
            width += self.gemm.padded_cols(self.b[part].cols);
        }
        let longest = blocks.iter().map(|block| block.k.len()).max().unwrap_or(0);
        let of_all_columns = CHUNK_WORDS / self.gemm.words_of(longest) / width;
        for blocks in blocks.chunks(of_all_columns.max(CHUNK_K / longest).max(1)) {
            let words: usize = blocks.iter().map(|block| self.gemm.words_of(block.k.len())).sum();
            if width * words <= CHUNK_WORDS {
                self.run_chunk(cpu, blocks, &strips, words);
                continue;
            }
            for strip in &strips {
                let most = (CHUNK_WORDS / words / self.gemm.cols).max(1) * self.gemm.cols;
                let cols = strip.cols.len();
                let step = cols.div_ceil(cols.div_ceil(most)).next_multiple_of(self.gemm.cols);
                for start in (0..cols).step_by(step) {
                    let strip = Strip { part: strip.part, cols: start..cols.min(start + step), lane: 0 };
                    self.run_chunk(cpu, blocks, &[strip], words);
                }
            }
        }
        CUTS.set((blocks, strips));
    }

    /// Some blocks of K and some columns, with `words` words for a lane of all these blocks.
    fn run_chunk(&self, cpu: &Cpu, blocks: &[Block], strips: &[Strip], words: usize) {
        let width = strips.iter().map(|strip| self.gemm.padded_cols(strip.cols.len())).sum();
        Scratch::B.with(width * words, |buffer| {
            self.pack_b(cpu, buffer, blocks, (strips, width));
            self.multiply(cpu, &PackedB { blocks, strips, width, words: buffer });
        });
    }

    /// Packs some columns of `B`, every block of K.
    fn pack_b(&self, cpu: &Cpu, buffer: &mut [u32], blocks: &[Block], (strips, width): (&[Strip], usize)) {
        let gemm = self.gemm;
        // Of each strip some wide panels together, and the columns that are left as narrower ones.
        let pieces = |strip: &Strip| {
            let panels = gemm.panels(strip.cols.len());
            let whole = panels.start(panels.wide);
            whole.div_ceil(PACK_PANELS * gemm.cols) + usize::from(whole < strip.cols.len())
        };
        let tasks: usize = strips.iter().map(pieces).sum();
        let buffer = Disjoint::new(buffer);
        cpu.pool.run(blocks.len() * tasks, &|task| {
            let (block, mut piece) = (&blocks[task / tasks], task % tasks);
            let mut strips = strips.iter();
            let strip = loop {
                let strip = strips.next().expect("a strip for every piece");
                if piece < pieces(strip) {
                    break strip;
                }
                piece -= pieces(strip);
            };
            let (words, panels) = (gemm.words_of(block.k.len()), gemm.panels(strip.cols.len()));
            let before: usize = blocks[..task / tasks].iter().map(|block| gemm.words_of(block.k.len())).sum();
            let (whole, first) = (panels.start(panels.wide), piece * PACK_PANELS * gemm.cols);
            let (first, end, panel_width) = match first < whole {
                true => (first, whole.min(first + PACK_PANELS * gemm.cols), gemm.cols),
                false => (whole, strip.cols.len(), panels.narrow),
            };
            let b = of(self.b, block.part.max(strip.part));
            let source = PackSource {
                data: b.data[block.k.start * b.row_stride + (strip.cols.start + first) * b.col_stride..]
                    .as_ptr(),
                lane_stride: b.col_stride,
                k_stride: b.row_stride,
                lanes: end - first,
                depth: block.k.len(),
            };
            let start = before * width + (strip.lane + first) * words;
            let len = gemm.padded_cols(end - first) * words;
            // SAFETY: each panel is written by one task. The source lies inside `b` (its shape was checked). A
            // `KernelSet` can only be obtained after the CPU was found to have its instructions.
            unsafe { (gemm.pack_b)(buffer.part(start..start + len), panel_width, &source) };
        });
    }

    /// Multiplies all rows of `A` with a packed part of `B`.
    fn multiply(&self, cpu: &Cpu, b: &PackedB<'_>) {
        let (threads, panel_rows) = (cpu.pool.threads(), self.gemm.rows);
        // Parts that share `B` have rows of their own, in every other case all parts have the same.
        let parts = if self.b.len() == 1 { self.a.len() } else { 1 };
        let all_rows: usize = self.a[..parts].iter().map(|a| a.rows).sum();
        let step =
            all_rows.div_ceil(2 * threads).clamp(4 * panel_rows, TASK_ROWS).next_multiple_of(panel_rows);
        let row_tasks: usize = self.a[..parts].iter().map(|a| a.rows.div_ceil(step)).sum();
        // With few rows the columns are shared out too.
        let panels = b.strips.iter().map(|strip| self.gemm.panels(strip.cols.len()).count).max().unwrap_or(1);
        let panel_step = panels.div_ceil((2 * threads).div_ceil(row_tasks));
        let col_tasks = panels.div_ceil(panel_step);
        cpu.pool.run(row_tasks * col_tasks, &|task| {
            let (mut row, panel) = (task / col_tasks, task % col_tasks * panel_step);
            let mut part = 0;
            while row >= self.a[part].rows.div_ceil(step) {
                row -= self.a[part].rows.div_ceil(step);
                part += 1;
            }
            let rows = row * step..self.a[part].rows.min((row + 1) * step);
            self.multiply_block(b, (part, rows), panel..panel + panel_step);
        });
    }

    /// Multiplies a block of rows of one part with some panels of each strip of `B`.
    fn multiply_block(&self, b: &PackedB<'_>, (part, rows): (usize, Range<usize>), panels: Range<usize>) {
        let gemm = self.gemm;
        let padded_rows = rows.len().next_multiple_of(gemm.rows);
        let most_words = b.blocks.iter().map(|block| gemm.words_of(block.k.len())).max().unwrap_or(0);
        Scratch::A.with(padded_rows * most_words, |buffer| {
            let mut b_start = 0;
            for block in b.blocks {
                let words = gemm.words_of(block.k.len());
                let packed_a = &mut buffer[..padded_rows * words];
                let a = of(self.a, block.part.max(part));
                let source = PackSource {
                    data: a.data[rows.start * a.row_stride + block.k.start * a.col_stride..].as_ptr(),
                    lane_stride: a.row_stride,
                    k_stride: a.col_stride,
                    lanes: rows.len(),
                    depth: block.k.len(),
                };
                // SAFETY: the source lies inside `a` (its shape was checked). A `KernelSet` can only be obtained
                // after the CPU was found to have its instructions.
                unsafe { (gemm.pack_a)(packed_a, gemm.rows, &source) };
                let packed_b = &b.words[b_start..b_start + b.width * words];
                for strip in b.strips {
                    let packed_b = &packed_b[strip.lane * words..];
                    let c = of(self.c, part.max(strip.part));
                    self.tiles((packed_a, packed_b), &rows, (&strip.cols, &panels), block, c);
                }
                b_start += b.width * words;
            }
        });
    }

    /// The tiles of one block of rows, some panels of columns and one block of K.
    fn tiles(
        &self,
        (packed_a, packed_b): (&[u32], &[u32]),
        rows: &Range<usize>,
        (cols, panels): (&Range<usize>, &Range<usize>),
        block: &Block,
        c: &Target<'_>,
    ) {
        let gemm = self.gemm;
        let (words, layout) = (gemm.words_of(block.k.len()), gemm.panels(cols.len()));
        // SAFETY: see `PackedGemm::tile` below; `enter` and `leave` have no other duty than this order.
        unsafe { (gemm.enter)() };
        let end = panels.end.min(layout.count);
        for panel in panels.start..end {
            let col = cols.start + layout.start(panel);
            let panel_b = packed_b[layout.start(panel) * words..].as_ptr();
            let next = match panel + 1 < end {
                true => &packed_b[layout.start(panel + 1) * words..][..layout.width(panel + 1) * words],
                false => &[],
            };
            let share = next.len().div_ceil(LINE_WORDS).div_ceil(rows.len().div_ceil(gemm.rows));
            let mut ahead = next.chunks(share.max(1) * LINE_WORDS);
            for row in rows.clone().step_by(gemm.rows) {
                let ahead = ahead.next().unwrap_or_default();
                let panel_a = packed_a[(row - rows.start) * words..].as_ptr();
                let tile = Tile {
                    words,
                    c: c.data.element(row * c.stride + col),
                    c_stride: c.stride,
                    rows: gemm.rows.min(rows.end - row),
                    cols: layout.width(panel).min(cols.end - col),
                    accumulate: self.accumulate || !block.is_first,
                    ahead: Ahead { line: ahead.as_ptr(), count: ahead.len().div_ceil(LINE_WORDS) },
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

/// The one for all, or that of the part.
fn of<T>(parts: &[T], part: usize) -> &T {
    if parts.len() == 1 { &parts[0] } else { &parts[part] }
}
