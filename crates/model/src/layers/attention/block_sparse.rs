//! The block-sparse pattern: causal BigBird (arXiv 2007.14062) over blocks of 64 tokens.
//!
//! Query block `b` sees block 0, itself, the `local_blocks` before it, and `random_blocks` more of the earlier
//! blocks `1..=b - local_blocks - 1`, drawn without replacement (all that are left, if fewer):
//!
//! ```text
//! state = mix(mix(mix(mix(seed) ^ layer) ^ kv_head) ^ b)          (SplitMix64)
//! candidates c = [1, 2, ..., n],  n = b - local_blocks - 1
//! for j in 0..min(random_blocks, n):
//!     r = mix(state); state += GAMMA
//!     swap c[j] with c[j + floor(r * (n - j) / 2^64)]
//! ```
//!
//! Drawing from block `b`'s own state makes prefill and cached decoding agree.

use crate::config::BlockSparse;
use crate::rng::{GAMMA, mix};

/// The blocks that query block `block` of one KV head sees, ascending; the last one is `block` itself.
pub fn visible_blocks(pattern: &BlockSparse, layer: usize, kv_head: usize, block: usize) -> Vec<usize> {
    let mut visible = Visible::default();
    visible.find(pattern, layer, kv_head, block);
    visible.blocks
}

/// Finds visible blocks, in memory that it keeps.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    blocks: Vec<usize>,
    /// Swapped entries of the candidates: a short list, so the cost of drawing does not grow with their number.
    moved: Vec<(usize, usize)>,
}

impl Visible {
    /// Finds the blocks of [`visible_blocks`].
    pub(super) fn find(&mut self, pattern: &BlockSparse, layer: usize, kv_head: usize, block: usize) {
        let first_local = block.saturating_sub(pattern.local_blocks);
        self.blocks.clear();
        self.blocks.extend(first_local..=block);
        if first_local > 0 {
            self.blocks.push(0);
            let state = mix(mix(mix(mix(pattern.seed) ^ layer as u64) ^ kv_head as u64) ^ block as u64);
            self.draw(state, pattern.random_blocks, first_local - 1);
        }
        self.blocks.sort_unstable();
    }

    /// What was found last.
    pub(super) fn blocks(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().copied()
    }

    /// Draws up to `count` of `1..=n` by a partial Fisher-Yates shuffle.
    fn draw(&mut self, mut state: u64, count: usize, n: usize) {
        self.moved.clear();
        for j in 0..count.min(n) {
            let random = mix(state);
            state = state.wrapping_add(GAMMA);
            let slot = j + ((u128::from(random) * (n - j) as u128) >> 64) as usize;
            self.blocks.push(self.value_at(slot));
            self.moved.push((slot, self.value_at(j)));
        }
    }

    fn value_at(&self, slot: usize) -> usize {
        let moved = self.moved.iter().rev().find(|(place, _)| *place == slot);
        moved.map_or(slot + 1, |(_, value)| *value)
    }
}
