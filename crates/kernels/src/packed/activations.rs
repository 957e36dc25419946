//! Activations as the matmul kernels read them: int8 blocks (or plain floats), interleaved by tiles of rows.
//!
//! Per row and 32 values: `d = amax / 127` (f32), `q = round(x / d)` (ties to even, by multiplying with `1 / d`), and sums.
//! A block with NaN or infinity gets `d = NaN` and `q = 0`, so every output of its row is NaN; a block whose greatest
//! magnitude is below 1e-35 counts as zero.
//!
//! A tile of `R` rows is, block after block, `13 R` words: 8 groups of `R` words of four int8 (group `g`: values
//! `4 g ..= 4 g + 3` of each row), then `R` each of: d, `d * sum`, minus 8 times the sum, minus 32 times the sums of
//! both halves (the offsets of 4-bit and 6-bit weights as they are needed).

use super::layout::{BLOCK, BlockLayout};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use std::ops::Range;

/// Words of a row's block in a tile.
pub(crate) const TILE_WORDS: usize = 13;
/// Where a block's scales start, in units of `R` words.
pub(crate) const SCALE: usize = 8;
/// Where `d * sum` starts.
pub(crate) const SCALED_SUM: usize = 9;
/// Where minus the sum starts, shifted by [`SUM_SHIFT`].
const MINUS_SUM: usize = 10;
/// Where minus the sums of the first 16 values start, shifted by [`HALF_SHIFT`]; those of the last 16 follow.
const MINUS_HALF_SUMS: usize = 11;
/// Offset bits of 4-bit weights.
const SUM_SHIFT: u32 = 3;
/// Offset bits of 6-bit weights.
const HALF_SHIFT: u32 = 5;
/// Blocks with no magnitude from here on count as zero.
pub(crate) const TINY: f32 = 1e-35;

/// Where the words start with which part `part` of the integer sums begins, because stored weights are `2^bits` above
/// their value, and how much further they are to be shifted to the left.
#[inline(always)]
pub(crate) const fn offset_words(layout: BlockLayout, bits: u32, part: usize) -> (usize, u32) {
    if layout.scales_per_block() == 1 {
        (MINUS_SUM, bits - SUM_SHIFT)
    } else {
        (MINUS_HALF_SUMS + part, bits - HALF_SHIFT)
    }
}

/// Values of work below which a second thread is not worth waking.
const PARALLEL_VALUES: usize = 1 << 12;

/// `rows` rows in tiles of nearly equal height.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tiles {
    rows: usize,
    count: usize,
}

impl Tiles {
    /// As few tiles of at most `max_rows` as possible.
    pub fn new(rows: usize, max_rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(max_rows) }
    }

    /// Number of tiles.
    pub fn count(self) -> usize {
        self.count
    }

    /// The rows of a tile.
    pub fn range(self, tile: usize) -> Range<usize> {
        let (height, taller) = (self.rows / self.count, self.rows % self.count);
        let start = tile * height + tile.min(taller);
        start..start + height + usize::from(tile < taller)
    }
}

/// One quantized block of a row.
pub(crate) struct QuantizedBlock {
    /// The integers, -127..=127.
    pub q: [i8; BLOCK],
    /// The scale.
    pub d: f32,
    /// Sums of the integers of each half.
    pub sums: [i32; 2],
}

impl QuantizedBlock {
    /// Writes the block to row `r` of its tile; `words` are the `13 rows` words of the block.
    #[inline(always)]
    pub fn store(&self, words: &mut [u32], r: usize) {
        let rows = words.len() / TILE_WORDS;
        for (g, four) in self.q.as_chunks::<4>().0.iter().enumerate() {
            words[g * rows + r] = u32::from_le_bytes(four.map(|q| q as u8));
        }
        let [low, high] = self.sums;
        words[SCALE * rows + r] = self.d.to_bits();
        words[SCALED_SUM * rows + r] = (self.d * (low + high) as f32).to_bits();
        words[MINUS_SUM * rows + r] = (-(low + high) << SUM_SHIFT) as u32;
        words[MINUS_HALF_SUMS * rows + r] = (-low << HALF_SHIFT) as u32;
        words[(MINUS_HALF_SUMS + 1) * rows + r] = (-high << HALF_SHIFT) as u32;
    }
}

/// Scale and inverse scale of a block, from the bits of its greatest magnitude.
#[inline(always)]
pub(crate) fn block_scale(amax_bits: u32) -> (f32, f32) {
    let amax = f32::from_bits(amax_bits);
    if amax_bits >= f32::INFINITY.to_bits() {
        (f32::NAN, 0.0)
    } else if amax < TINY {
        (0.0, 0.0)
    } else {
        let d = amax / 127.0;
        (d, 1.0 / d)
    }
}

/// The activations of one call; its buffers are kept from call to call.
#[derive(Default)]
pub(crate) struct Activations {
    tiles: Tiles,
    cols: usize,
    blocks: Vec<u32>,
    floats: Vec<f32>,
}

impl Activations {
    /// Takes `x [M, cols]`: as blocks if any weight is of a block format, as floats if any is of floats.
    pub fn prepare(&mut self, cpu: &Cpu, x: &[f32], cols: usize, blocks: bool, floats: bool) {
        let rows = x.len() / cols;
        self.cols = cols;
        self.tiles = Tiles::new(rows, cpu.kernels.packed.tile_rows);
        if blocks {
            self.prepare_blocks(cpu, x);
        }
        if floats {
            self.prepare_floats(cpu, x);
        }
    }

    fn prepare_blocks(&mut self, cpu: &Cpu, x: &[f32]) {
        let row_words = self.cols / BLOCK * TILE_WORDS;
        self.blocks.resize(x.len() / BLOCK * TILE_WORDS, 0);
        let (cols, tiles) = (self.cols, self.tiles);
        let parts = Disjoint::new(&mut self.blocks);
        let threads = if x.len() < PARALLEL_VALUES { 1 } else { cpu.pool.threads() };
        // Whole blocks of all rows of a tile, so that few tall tiles are enough for all threads.
        let parts_per_tile = (2 * threads).div_ceil(tiles.count()).min(cols / BLOCK);
        let quantize = |index: usize| {
            let (rows, part) = (tiles.range(index / parts_per_tile), index % parts_per_tile);
            let bound = |part: usize| cols / BLOCK * part / parts_per_tile;
            let (first, end) = (bound(part), bound(part + 1));
            let start = rows.start * row_words;
            let at = |block: usize| start + block * TILE_WORDS * rows.len();
            // SAFETY: tiles cover different rows, their parts different blocks.
            let words = unsafe { parts.part(at(first)..at(end)) };
            let x = &x[rows.start * cols + first * BLOCK..rows.end * cols];
            // SAFETY: a `KernelSet` can only be obtained after the CPU was found to have its instructions.
            unsafe { (cpu.kernels.packed.quantize)(x, [rows.len(), cols], words) }
        };
        let tasks = parts_per_tile * tiles.count();
        if threads == 1 { (0..tasks).for_each(quantize) } else { cpu.pool.run(tasks, &quantize) }
    }

    fn prepare_floats(&mut self, cpu: &Cpu, x: &[f32]) {
        self.floats.resize(x.len(), 0.0);
        let (cols, tiles) = (self.cols, self.tiles);
        let parts = Disjoint::new(&mut self.floats);
        let interleave = |tile| {
            let rows = tiles.range(tile);
            // SAFETY: tiles cover different rows.
            let part = unsafe { parts.part(rows.start * cols..rows.end * cols) };
            for (k, values) in part.chunks_exact_mut(rows.len()).enumerate() {
                for (v, row) in values.iter_mut().zip(rows.clone()) {
                    *v = x[row * cols + k];
                }
            }
        };
        if x.len() < PARALLEL_VALUES {
            (0..tiles.count()).for_each(interleave);
        } else {
            cpu.pool.run(tiles.count(), &interleave);
        }
    }

    /// The tiles of the rows.
    pub fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// The words of a tile: blocks in order of K, `13 R` words each.
    pub fn block_tile(&self, tile: usize) -> &[u32] {
        let rows = self.tiles.range(tile);
        let row_words = self.cols / BLOCK * TILE_WORDS;
        &self.blocks[rows.start * row_words..rows.end * row_words]
    }

    /// The floats of a tile, `[cols, R]`.
    pub fn float_tile(&self, tile: usize) -> &[f32] {
        let rows = self.tiles.range(tile);
        &self.floats[rows.start * self.cols..rows.end * self.cols]
    }
}
