//! The forward pass: one task per tile.

use super::super::check_len;
use super::kv::KvView;
use super::plan::{AttentionPlan, AttentionTile, TileOutput};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use std::ops::Range;

impl Cpu {
    /// Attention of the rows in `plan` over the keys and values in `kv` (one view per sequence).
    ///
    /// Rows that stand in no tile are left as they are; a row that sees no key gets `out` 0 and `lse` minus infinity.
    ///
    /// # Shapes
    /// `out [N, H, Hd]`, `lse [N, H]` (log-sum-exp of the scaled scores, kept for the backward pass), `q [N, H, Hd]`
    /// after rotation.
    ///
    /// # Panics
    /// If a shape does not fit, a tile or block lies outside, or two tiles of one key-value head share a row.
    pub fn attention(
        &self,
        out: &mut [f32],
        lse: &mut [f32],
        q: &[f32],
        kv: &[KvView<'_>],
        plan: &AttentionPlan,
    ) {
        let n = lse.len() / plan.num_heads.max(1);
        check_len("attention: lse", lse, n * plan.num_heads);
        check_len("attention: out", out, n * plan.num_heads * plan.head_dim);
        check_len("attention: q", q, n * plan.num_heads * plan.head_dim);
        plan.check(n, kv);
        let (out, lse) = (Disjoint::new(out), Disjoint::new(lse));
        self.pool.run(plan.tiles.len(), &|index| {
            let tile = &plan.tiles[index];
            let scaled = gather_scaled(plan, tile, q);
            let mut tile_out = vec![0.0; scaled.len()];
            let mut tile_lse = vec![0.0; scaled.len() / plan.head_dim.max(1)];
            let output = TileOutput { out: &mut tile_out, lse: &mut tile_lse };
            kernel!(self, attention(output, &scaled, &plan.keys(tile, kv)));
            for row in 0..tile.num_rows as usize {
                let (target, source) =
                    (segment(plan, tile, row, plan.head_dim), tile_row(plan, row, plan.head_dim));
                // SAFETY: no two tiles share a row of a key-value head (checked).
                unsafe { out.part(target) }.copy_from_slice(&tile_out[source]);
                let (target, source) = (segment(plan, tile, row, 1), tile_row(plan, row, 1));
                // SAFETY: as above.
                unsafe { lse.part(target) }.copy_from_slice(&tile_lse[source]);
            }
        });
    }
}

/// Where the tile's heads of its token row `row` stand in a `[N, H, width]` array.
pub(super) fn segment(plan: &AttentionPlan, tile: &AttentionTile, row: usize, width: usize) -> Range<usize> {
    let first_head = tile.kv_head as usize * plan.group();
    let start = ((tile.first_row as usize + row) * plan.num_heads + first_head) * width;
    start..start + plan.group() * width
}

/// Where token row `row` stands in the tile's own `[M, width]` array.
pub(super) fn tile_row(plan: &AttentionPlan, row: usize, width: usize) -> Range<usize> {
    row * plan.group() * width..(row + 1) * plan.group() * width
}

/// The tile's rows of a `[N, H, width]` array as `[M, width]`.
pub(super) fn gather(plan: &AttentionPlan, tile: &AttentionTile, array: &[f32], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tile.num_rows as usize * plan.group() * width);
    for row in 0..tile.num_rows as usize {
        rows.extend_from_slice(&array[segment(plan, tile, row, width)]);
    }
    rows
}

/// The tile's rows of `q`, `[M, Hd]`, multiplied by the plan's scale.
pub(super) fn gather_scaled(plan: &AttentionPlan, tile: &AttentionTile, q: &[f32]) -> Vec<f32> {
    let mut rows = gather(plan, tile, q, plan.head_dim);
    rows.iter_mut().for_each(|value| *value *= plan.scale);
    rows
}
