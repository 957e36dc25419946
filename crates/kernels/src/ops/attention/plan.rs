//! Which rows see which keys, for `Cpu::attention`, and the view of it that kernels get.

use super::kv::{KEY_BLOCK, KvView};
use std::ops::Range;

/// Visible keys of one block of the cache.
///
/// Key `j < num_keys` has position `first_position + j`; a row at position `p` sees it iff
/// `p - window < position <= p`, or always if `unmasked` (attention sinks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyBlock {
    /// Which block of the view.
    pub slot: u32,
    /// Position of the block's first key.
    pub first_position: i64,
    /// Keys in the block, at most [`KEY_BLOCK`].
    pub num_keys: u32,
    /// Every row sees every key of the block.
    pub unmasked: bool,
}

/// Consecutive token rows of one sequence, with all query heads of one key-value head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionTile {
    /// First token row, in `0..N`.
    pub first_row: u32,
    /// Token rows; up to 64 keep the tile in cache.
    pub num_rows: u32,
    /// Position of the first token row; the others follow.
    pub first_position: i64,
    /// Index into the `kv` argument.
    pub sequence: u32,
    /// Which key-value head.
    pub kv_head: u32,
    /// The key blocks the rows see, as a range of [`AttentionPlan::key_blocks`]; their order is the order of summation.
    pub blocks: Range<u32>,
}

/// The tiles of one attention call.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionPlan {
    /// H.
    pub num_heads: usize,
    /// K, a divisor of H.
    pub num_kv_heads: usize,
    /// Hd.
    pub head_dim: usize,
    /// Number of keys a row sees at most, itself included; `None` for all before it.
    pub window: Option<usize>,
    /// Factor of the scores, usually `1 / sqrt(Hd)`.
    pub scale: f32,
    /// Every token row stands in one tile for each key-value head.
    pub tiles: Vec<AttentionTile>,
    /// What the tiles' `blocks` refer to.
    pub key_blocks: Vec<KeyBlock>,
}

impl AttentionPlan {
    /// G, query heads that share a key-value head.
    pub(crate) fn group(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// Checks that tiles stay within `n` rows and the blocks of `kv`, and that no row stands in two tiles of a head.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&self, n: usize, kv: &[KvView<'_>]) {
        let (heads, kv_heads) = (self.num_heads, self.num_kv_heads);
        assert!(
            kv_heads > 0 && heads % kv_heads == 0,
            "attention: {heads} heads, {kv_heads} key-value heads"
        );
        let mut taken = vec![false; n * kv_heads];
        for tile in &self.tiles {
            let (first, end) = (tile.first_row as usize, tile.first_row as usize + tile.num_rows as usize);
            assert!(end <= n && (tile.kv_head as usize) < kv_heads, "attention: {tile:?} of {n} rows");
            for row in first..end {
                let taken = &mut taken[row * kv_heads + tile.kv_head as usize];
                assert!(!*taken, "attention: row {row} stands in two tiles of head {}", tile.kv_head);
                *taken = true;
            }
            let view = &kv[tile.sequence as usize];
            for block in &self.key_blocks[tile.blocks.start as usize..tile.blocks.end as usize] {
                let inside = (block.slot as usize) < view.num_blocks && block.num_keys as usize <= KEY_BLOCK;
                assert!(inside, "attention: {block:?} of {} blocks", view.num_blocks);
            }
        }
        for view in kv {
            let len = kv_heads * view.num_blocks * self.head_dim * KEY_BLOCK;
            super::super::check_len("attention: k", view.k, len);
            super::super::check_len("attention: v", view.v, len);
        }
    }

    /// What a kernel needs to know of a tile.
    pub(crate) fn keys<'a>(&'a self, tile: &AttentionTile, kv: &[KvView<'a>]) -> TileKeys<'a> {
        let view = &kv[tile.sequence as usize];
        let len = view.num_blocks * self.head_dim * KEY_BLOCK;
        let start = tile.kv_head as usize * len;
        TileKeys {
            k: &view.k[start..start + len],
            v: &view.v[start..start + len],
            blocks: &self.key_blocks[tile.blocks.start as usize..tile.blocks.end as usize],
            group: self.group(),
            first_position: tile.first_position,
            window: self.window,
            head_dim: self.head_dim,
        }
    }
}

/// The keys of one tile. Its query rows are numbered `i = token_row * G + head`, `M = num_rows * G` of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileKeys<'a> {
    /// `[num_blocks, Hd, 64]`.
    pub k: &'a [f32],
    /// `[num_blocks, 64, Hd]`.
    pub v: &'a [f32],
    pub blocks: &'a [KeyBlock],
    pub group: usize,
    pub first_position: i64,
    pub window: Option<usize>,
    pub head_dim: usize,
}

impl<'a> TileKeys<'a> {
    /// The position of query row `i`.
    pub fn position(&self, i: usize) -> i64 {
        self.first_position + (i / self.group) as i64
    }

    /// The keys of `block` that a row at `position` sees; possibly none.
    pub fn visible(&self, block: &KeyBlock, position: i64) -> Range<usize> {
        let num_keys = i64::from(block.num_keys);
        if block.unmasked {
            return 0..num_keys as usize;
        }
        let end = (position + 1 - block.first_position).clamp(0, num_keys);
        let start = match self.window {
            Some(window) => (position + 1 - window as i64 - block.first_position).clamp(0, end),
            None => 0,
        };
        start as usize..end as usize
    }

    /// The block's keys, `[Hd, 64]`.
    pub fn k_block(&self, block: &KeyBlock) -> &'a [f32] {
        let len = self.head_dim * KEY_BLOCK;
        &self.k[block.slot as usize * len..][..len]
    }

    /// The block's values, `[64, Hd]`.
    pub fn v_block(&self, block: &KeyBlock) -> &'a [f32] {
        let len = self.head_dim * KEY_BLOCK;
        &self.v[block.slot as usize * len..][..len]
    }
}

/// What the forward kernel writes.
#[derive(Debug)]
pub(crate) struct TileOutput<'a> {
    /// `[M, Hd]`.
    pub out: &'a mut [f32],
    /// `[M]`, minus infinity for a row that sees no key (its `out` is then 0).
    pub lse: &'a mut [f32],
}

/// What the backward kernel writes.
#[derive(Debug)]
pub(crate) struct TileGrads<'a> {
    /// `[M, Hd]`, overwritten: the gradient of the scaled query.
    pub dq: &'a mut [f32],
    /// `[positions, Hd]`, added to: row `position` of a key.
    pub dk: &'a mut [f32],
    /// `[positions, Hd]`, added to.
    pub dv: &'a mut [f32],
}

/// What the backward kernel reads besides keys and values.
#[derive(Debug)]
pub(crate) struct TileSaved<'a> {
    /// `[M, Hd]`, scaled.
    pub q: &'a [f32],
    /// `[M, Hd]`.
    pub out: &'a [f32],
    /// `[M, Hd]`.
    pub dout: &'a [f32],
    /// `[M]`.
    pub lse: &'a [f32],
}
