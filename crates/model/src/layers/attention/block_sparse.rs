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
    let first_local = block.saturating_sub(pattern.local_blocks);
    let mut visible: Vec<usize> = (first_local..=block).collect();
    if first_local > 0 {
        visible.push(0);
        visible.extend(draw(pattern, layer, kv_head, block, first_local - 1));
    }
    visible.sort_unstable();
    visible
}

/// Draws from `1..=n` by a partial Fisher-Yates shuffle; swapped entries are kept in a short list, so the cost
/// does not grow with `n`.
fn draw(pattern: &BlockSparse, layer: usize, kv_head: usize, block: usize, n: usize) -> Vec<usize> {
    let mut state = mix(mix(mix(mix(pattern.seed) ^ layer as u64) ^ kv_head as u64) ^ block as u64);
    let mut moved: Vec<(usize, usize)> = Vec::new();
    let value_at = |moved: &[(usize, usize)], slot: usize| {
        moved.iter().rev().find(|(place, _)| *place == slot).map_or(slot + 1, |(_, value)| *value)
    };
    let mut chosen = Vec::new();
    for j in 0..pattern.random_blocks.min(n) {
        let random = mix(state);
        state = state.wrapping_add(GAMMA);
        let slot = j + ((u128::from(random) * (n - j) as u128) >> 64) as usize;
        chosen.push(value_at(&moved, slot));
        let displaced = value_at(&moved, j);
        moved.push((slot, displaced));
    }
    chosen
}
