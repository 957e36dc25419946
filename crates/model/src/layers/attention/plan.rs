//! Which key blocks the rows of a call see: one list of tiles for all three patterns.

use std::ops::Range;

use shakti_kernels::{AttentionPlan, AttentionTile, KEY_BLOCK, KeyBlock};

use super::block_sparse::Visible;
use crate::kv_cache::{KvCache, LayerCache, SINK_TOKENS};
use crate::{LayerType, ModelConfig};

/// Blocks whose keys are summed together: long enough that joining sums costs little, short enough for threads to share
/// the keys of one row. A block-sparse row sees few blocks and has one span.
const SPAN_BLOCKS: usize = 8;

/// Makes plans, in memory that it keeps.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    pub(crate) plan: AttentionPlan,
    visible: Visible,
}

impl Planner {
    /// Tiles of at most 64 rows, each inside one block of positions, ordered by sequence, KV head and position. The
    /// caches already hold the keys of these rows but have not advanced past them.
    pub(super) fn plan(
        &mut self,
        config: &ModelConfig,
        layer: usize,
        caches: &[&mut KvCache],
        rows: &[Range<usize>],
    ) {
        let Self { plan, visible } = self;
        let num_kv_heads = config.num_kv_heads[layer];
        plan.num_heads = config.num_attention_heads;
        plan.num_kv_heads = num_kv_heads;
        plan.head_dim = config.head_dim;
        plan.window = caches.first().and_then(|cache| cache.layer(layer).window);
        plan.scale = 1.0 / (config.head_dim as f32).sqrt();
        plan.tiles.clear();
        plan.key_blocks.clear();
        for (sequence, (cache, rows)) in caches.iter().zip(rows).enumerate() {
            // Streaming replaces the block pattern by sinks and a window.
            let sparse =
                config.layer_types[layer] == LayerType::BlockSparseAttention && !cache.is_streaming();
            let of_first_head = plan.tiles.len();
            for kv_head in 0..num_kv_heads {
                for (index, tile) in tiles_of(cache.position(), rows).enumerate() {
                    let blocks = if sparse {
                        visible.find(&config.block_sparse, layer, kv_head, tile.block);
                        push_blocks(&mut plan.key_blocks, cache, layer, (&tile, true), visible.blocks())
                    } else if kv_head == 0 {
                        let blocks = contiguous_blocks(cache.layer(layer), &tile);
                        push_blocks(&mut plan.key_blocks, cache, layer, (&tile, false), blocks)
                    } else {
                        plan.tiles[of_first_head + index].blocks.clone()
                    };
                    plan.tiles.push(AttentionTile {
                        first_row: tile.first_row as u32,
                        num_rows: tile.len as u32,
                        first_position: tile.position as i64,
                        sequence: sequence as u32,
                        kv_head: kv_head as u32,
                        blocks,
                    });
                }
            }
        }
    }
}

/// Rows of one sequence whose positions lie in one block.
struct Tile {
    block: usize,
    position: usize,
    first_row: usize,
    len: usize,
}

fn tiles_of(start: usize, rows: &Range<usize>) -> impl Iterator<Item = Tile> {
    let (first_row, end) = (rows.start, start + rows.len());
    let blocks = start / KEY_BLOCK..end.div_ceil(KEY_BLOCK);
    blocks.map(move |block| {
        let position = start.max(block * KEY_BLOCK);
        let len = end.min((block + 1) * KEY_BLOCK) - position;
        Tile { block, position, first_row: first_row + position - start, len }
    })
}

fn contiguous_blocks(layer: &LayerCache, tile: &Tile) -> Range<usize> {
    let first = layer.window.map_or(0, |window| (tile.position + 1).saturating_sub(window) / KEY_BLOCK);
    first..tile.block + 1
}

fn push_blocks(
    key_blocks: &mut Vec<KeyBlock>,
    cache: &KvCache,
    layer: usize,
    (tile, sparse): (&Tile, bool),
    visible: impl Iterator<Item = usize>,
) -> Range<u32> {
    let start = key_blocks.len() as u32;
    let layer = cache.layer(layer);
    let mut visible = visible.peekable();
    let span = |block: usize| if sparse { 0 } else { (block / SPAN_BLOCKS) as u32 };
    if let Some(window) = layer.window.filter(|window| cache.is_streaming() && tile.position >= *window) {
        // Sinks that have left the window; the others are still among its keys.
        let num_keys = SINK_TOKENS.min(tile.position + 1 - window) as u32;
        key_blocks.push(KeyBlock {
            slot: layer.sink_slot() as u32,
            first_position: 0,
            num_keys,
            unmasked: true,
            // With the keys that follow.
            span: visible.peek().copied().map_or(0, span),
        });
    }
    for block in visible {
        let first = block * KEY_BLOCK;
        let num_keys = (tile.position + tile.len - first).min(KEY_BLOCK) as u32;
        let slot = layer.slot_of_block(block) as u32;
        let first_position = first as i64;
        key_blocks.push(KeyBlock { slot, first_position, num_keys, unmasked: false, span: span(block) });
    }
    start..key_blocks.len() as u32
}
