//! Keys and values in blocks of 64: keys transposed inside a block, so that both products of attention run along
//! contiguous memory.

use super::super::{check_len, elements};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;

/// Keys in one block.
pub const KEY_BLOCK: usize = 64;

/// Keys and values of one layer of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// `[K, num_blocks, Hd, 64]`, keys after rotation.
    pub k: &'a [f32],
    /// `[K, num_blocks, 64, Hd]`.
    pub v: &'a [f32],
    /// Blocks of each head.
    pub num_blocks: usize,
    /// For the backward pass: row of position 0 in `dk` and `dv`.
    pub first_row: usize,
}

/// Keys and values of one layer of one sequence, to be written. Slots never written must hold finite values (zeros).
#[derive(Debug)]
pub struct KvTiles<'a> {
    /// `[K, num_blocks, Hd, 64]`.
    pub k: &'a mut [f32],
    /// `[K, num_blocks, 64, Hd]`.
    pub v: &'a mut [f32],
    /// Blocks of each head.
    pub num_blocks: usize,
    /// K.
    pub num_kv_heads: usize,
    /// Hd.
    pub head_dim: usize,
}

impl Cpu {
    /// Stores row `i` of `k` and `v` in slot `slots[i]` (= block * 64 + place in the block) of every head of `tiles`.
    ///
    /// # Shapes
    /// `k [n, K, Hd]`, `v [n, K, Hd]`, `slots [n]`.
    ///
    /// # Panics
    /// If a slot is not below `num_blocks * 64` or a shape does not fit.
    pub fn kv_store(&self, tiles: KvTiles<'_>, k: &[f32], v: &[f32], slots: &[u32]) {
        let (heads, dim) = (tiles.num_kv_heads, tiles.head_dim);
        let head_len = tiles.num_blocks * dim * KEY_BLOCK;
        check_len("kv_store: k", k, slots.len() * heads * dim);
        check_len("kv_store: v", v, slots.len() * heads * dim);
        check_len("kv_store: tiles.k", tiles.k, heads * head_len);
        check_len("kv_store: tiles.v", tiles.v, heads * head_len);
        let (k_tiles, v_tiles) = (Disjoint::new(tiles.k), Disjoint::new(tiles.v));
        // Handing out heads pays off only for a good many rows (prefill, training).
        self.for_rows(heads, slots.len() * dim, &|part| {
            for head in part {
                let span = elements(&(head..head + 1), head_len);
                // SAFETY: each head belongs to one task.
                let (k_tiles, v_tiles) = unsafe { (k_tiles.part(span.clone()), v_tiles.part(span)) };
                for (i, &slot) in slots.iter().enumerate() {
                    let (block, place) = (slot as usize / KEY_BLOCK, slot as usize % KEY_BLOCK);
                    let row = elements(&(i * heads + head..i * heads + head + 1), dim);
                    let k_block = &mut k_tiles[block * dim * KEY_BLOCK..][..dim * KEY_BLOCK];
                    for (lane, &value) in k_block.chunks_exact_mut(KEY_BLOCK).zip(&k[row.clone()]) {
                        lane[place] = value;
                    }
                    v_tiles[slot as usize * dim..][..dim].copy_from_slice(&v[row]);
                }
            }
        });
    }
}
