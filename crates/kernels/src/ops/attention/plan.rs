//! Which rows see which keys, for `Cpu::attention`, and the view of it that kernels get.

use super::kv::{KEY_BLOCK, KV_GROUP, KvViews, Pair, Stored, StoredRef};
use half::f16;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// Rows that stand in a tile, kept so that a check allocates nothing once it has grown.
    static TAKEN: RefCell<Vec<bool>> = RefCell::default();
}

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
    /// Neighbours of the same number are summed together, then joined to those before them. A row must find its keys in
    /// the same spans whatever rows stand beside it.
    pub span: u32,
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
#[derive(Debug, Clone, Default, PartialEq)]
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
    pub(crate) fn check(&self, n: usize, kv: KvViews<'_, '_>) {
        let (heads, kv_heads) = (self.num_heads, self.num_kv_heads);
        assert!(
            kv_heads > 0 && heads % kv_heads == 0,
            "attention: {heads} heads, {kv_heads} key-value heads"
        );
        let mut taken = TAKEN.take();
        taken.clear();
        taken.resize(n * kv_heads, false);
        for tile in &self.tiles {
            let (first, end) = (tile.first_row as usize, tile.first_row as usize + tile.num_rows as usize);
            assert!(end <= n && (tile.kv_head as usize) < kv_heads, "attention: {tile:?} of {n} rows");
            for row in first..end {
                let taken = &mut taken[row * kv_heads + tile.kv_head as usize];
                assert!(!*taken, "attention: row {row} stands in two tiles of head {}", tile.kv_head);
                *taken = true;
            }
            let view = kv(tile.sequence as usize);
            let shape = (view.blocks.num_kv_heads(), view.blocks.head_dim());
            assert_eq!(shape, (kv_heads, self.head_dim), "attention: heads and their size in the cache");
            for block in &self.key_blocks[tile.blocks.start as usize..tile.blocks.end as usize] {
                let num_blocks = view.blocks.num_blocks();
                let inside = (block.slot as usize) < num_blocks && block.num_keys as usize <= KEY_BLOCK;
                assert!(inside, "attention: {block:?} of {num_blocks} blocks");
            }
        }
        TAKEN.set(taken);
    }

    /// The spans of a tile's blocks, in order; one empty span if it has none.
    pub(crate) fn spans(&self, tile: &AttentionTile) -> impl Iterator<Item = Range<u32>> {
        let end = tile.blocks.end;
        let mut next = Some(tile.blocks.start);
        std::iter::from_fn(move || {
            let start = next?;
            let blocks = &self.key_blocks[start as usize..end.max(start) as usize];
            let same = |block: &&KeyBlock| block.span == blocks[0].span;
            let after = start + blocks.iter().take_while(same).count() as u32;
            next = (after < end).then_some(after);
            Some(start..after)
        })
    }

    /// Numbers that a [`TilePart`] of a tile takes.
    pub(crate) fn part_len(&self, tile: &AttentionTile) -> usize {
        tile.num_rows as usize * self.group() * (self.head_dim + 2)
    }

    /// A [`TilePart`] in `numbers`.
    pub(crate) fn part<'a>(&self, numbers: &'a mut [f32]) -> TilePart<'a> {
        let rows = numbers.len() / (self.head_dim + 2);
        let (out, rest) = numbers.split_at_mut(rows * self.head_dim);
        let (max, sum) = rest.split_at_mut(rows);
        TilePart { out, max, sum }
    }

    /// What a kernel needs to know of a tile and some of its blocks.
    pub(crate) fn keys<'a, 'v: 'a>(
        &'a self,
        tile: &AttentionTile,
        blocks: Range<u32>,
        kv: KvViews<'_, 'v>,
    ) -> TileKeys<'a> {
        TileKeys {
            stored: kv(tile.sequence as usize).blocks.head(tile.kv_head as usize),
            blocks: &self.key_blocks[blocks.start as usize..blocks.end as usize],
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
    /// Keys `[num_blocks, Hd, 64]`, values `[num_blocks, 64, Hd]`.
    pub stored: StoredRef<'a>,
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

    /// The numbers of a block in an array with `width` rows of 64 for each.
    pub fn in_block<T>(block: &KeyBlock, array: &'a [T], width: usize) -> &'a [T] {
        &array[block.slot as usize * width * KEY_BLOCK..][..width * KEY_BLOCK]
    }

    /// The block's keys `[Hd, 64]` and values `[64, Hd]` as floats.
    pub fn floats(&self, block: &KeyBlock) -> Pair<Cow<'a, [f32]>> {
        let dim = self.head_dim;
        match self.stored {
            Stored::F32(pair) => Pair {
                k: Self::in_block(block, pair.k, dim).into(),
                v: Self::in_block(block, pair.v, dim).into(),
            },
            Stored::F16(pair) => {
                let floats = |array| Self::in_block(block, array, dim).iter().map(|x: &f16| x.to_f32());
                Pair { k: floats(pair.k).collect(), v: floats(pair.v).collect() }
            }
            Stored::Q8_0 { values, scales } => {
                let scale = |array: &'a [f16], d: usize, j: usize| {
                    Self::in_block(block, array, dim.div_ceil(KV_GROUP))[d / KV_GROUP * KEY_BLOCK + j]
                        .to_f32()
                };
                let (k, v) = (Self::in_block(block, values.k, dim), Self::in_block(block, values.v, dim));
                let key = |i: usize| f32::from(k[i]) * scale(scales.k, i / KEY_BLOCK, i % KEY_BLOCK);
                let value = |i: usize| f32::from(v[i]) * scale(scales.v, i % dim, i / dim);
                Pair { k: (0..k.len()).map(key).collect(), v: (0..v.len()).map(value).collect() }
            }
        }
    }
}

/// What the forward kernel writes: sums over the keys it was given, relative to each row's largest score. Parts over
/// other keys can be joined to it.
#[derive(Debug)]
pub(crate) struct TilePart<'a> {
    /// `[M, Hd]`: `sum_j exp(s_j - max) v_j`.
    pub out: &'a mut [f32],
    /// `[M]`: the largest `s_j`; minus infinity for a row that sees no key.
    pub max: &'a mut [f32],
    /// `[M]`: `sum_j exp(s_j - max)`; 0 for a row that sees no key.
    pub sum: &'a mut [f32],
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
