//! Packed matmul as plain loops: the definition that the other instruction sets are compared with.

use crate::blocks::DType;
use crate::packed::TILE_WORDS;
use crate::packed::activations::{QuantizedBlock, SCALE, SCALED_SUM, block_scale, offset_words};
use crate::packed::kernels::{PackedKernels, Task};
use crate::packed::layout::{BLOCK, BlockLayout, LANES, block_layout};
use crate::packed::pack::{float_at, get_integers, minimum, pack_panel, scale};

pub(crate) const PACKED: PackedKernels = PackedKernels { pack: pack_panel, tile_rows: 4, quantize, matmul };

/// Quantizes the first blocks of `rows` rows into a tile.
fn quantize(x: &[f32], [rows, stride]: [usize; 2], tile: &mut [u32]) {
    for (b, words) in tile.chunks_exact_mut(rows * TILE_WORDS).enumerate() {
        for r in 0..rows {
            quantize_block(&x[r * stride + b * BLOCK..][..BLOCK]).store(words, r);
        }
    }
}

fn quantize_block(x: &[f32]) -> QuantizedBlock {
    let amax = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let (d, inverse) = block_scale(amax);
    if inverse == 0.0 {
        return QuantizedBlock { q: [0; BLOCK], d, sums: [0; 2] };
    }
    let q: [i8; BLOCK] = std::array::from_fn(|i| (x[i] * inverse).round_ties_even() as i8);
    let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum();
    QuantizedBlock { q, d, sums: [sum(&q[..BLOCK / 2]), sum(&q[BLOCK / 2..])] }
}

/// # Safety
/// What [`Task::y`] says.
unsafe fn matmul(task: &Task<'_>) {
    let columns = task.w.rows();
    for panel_index in task.panels.clone() {
        let panel = task.w.panel(panel_index);
        let first = panel_index * LANES;
        let lanes = LANES.min(columns - first);
        for tile in task.tiles.clone() {
            for (r, row) in task.x.tiles().range(tile).enumerate() {
                let out = match block_layout(task.w.dtype()) {
                    Some(layout) => blocks(layout, panel, task, tile, r),
                    None => floats(task.w.dtype(), panel, task, tile, r),
                };
                // SAFETY: the row and the columns of this panel belong to the task and lie inside `y`.
                unsafe {
                    std::ptr::copy_nonoverlapping(out.as_ptr(), task.y.add(row * columns + first), lanes)
                };
            }
        }
    }
}

/// One row times one panel of a block format.
fn blocks(layout: BlockLayout, panel: &[u8], task: &Task<'_>, tile: usize, r: usize) -> [f32; LANES] {
    let rows = task.x.tiles().range(tile).len();
    let mut acc = [0.0f32; LANES];
    for (b, words) in task.x.block_tile(tile).chunks_exact(rows * TILE_WORDS).enumerate() {
        let unit = &panel[b / layout.unit_blocks() * layout.unit_bytes()..];
        let (head, blocks) = unit.split_at(layout.head_bytes());
        let slot = b % layout.unit_blocks();
        let block = &blocks[slot * layout.block_bytes()..];
        let q: [u8; BLOCK] = std::array::from_fn(|i| words[i / 4 * rows + r].to_le_bytes()[i % 4]);
        let word = |at: usize| words[at * rows + r];
        let (d, scaled_sum) = (f32::from_bits(word(SCALE)), f32::from_bits(word(SCALED_SUM)));
        for (lane, acc) in acc.iter_mut().enumerate() {
            let weights = get_integers(layout, lane, block);
            let parts = layout.scales_per_block();
            for part in 0..parts {
                let mut sum = layout.offset_bits.map_or(0, |bits| {
                    let (at, shift) = offset_words(layout, bits, part);
                    (word(at) as i32) << shift
                });
                for i in part * BLOCK / parts..(part + 1) * BLOCK / parts {
                    sum += i32::from(weights[i]) * i32::from(q[i] as i8);
                }
                *acc = (sum as f32).mul_add(scale(layout, head, slot, part, lane) * d, *acc);
            }
            if layout.has_min() {
                *acc = minimum(layout, head, slot, lane).mul_add(scaled_sum, *acc);
            }
        }
    }
    acc
}

/// One row times one panel of floats.
fn floats(dtype: DType, panel: &[u8], task: &Task<'_>, tile: usize, r: usize) -> [f32; LANES] {
    let rows = task.x.tiles().range(tile).len();
    let mut acc = [0.0f32; LANES];
    for (k, x) in task.x.float_tile(tile).iter().skip(r).step_by(rows).enumerate() {
        for (lane, acc) in acc.iter_mut().enumerate() {
            *acc = float_at(dtype, panel, k, lane).mul_add(*x, *acc);
        }
    }
    acc
}
