//! The forward pass: a task per tile, or, when there are few, one per tile and span of its keys.

use super::super::check_len;
use super::kv::KvViews;
use super::plan::{AttentionPlan, AttentionTile, TilePart};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// The queries of a tile and two parts, kept so that a call allocates nothing once they have grown.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = RefCell::default();
    /// The tasks of a call by spans, kept likewise.
    static TASKS: RefCell<Vec<SpanTask>> = RefCell::default();
}

/// A span of a tile's keys, and where its sums go.
struct SpanTask {
    tile: usize,
    span: Range<u32>,
    place: Range<usize>,
}

/// With fewer tiles a thread than this, spans become tasks of their own.
const TILES_PER_THREAD: usize = 8;

impl Cpu {
    /// Attention of the rows in `plan` over the keys and values in `kv`.
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
        kv: KvViews<'_, '_>,
        plan: &AttentionPlan,
    ) {
        let _counting = self.clock.count(Work::Attention);
        let n = lse.len() / plan.num_heads.max(1);
        check_len("attention: lse", lse, n * plan.num_heads);
        check_len("attention: out", out, n * plan.num_heads * plan.head_dim);
        check_len("attention: q", q, n * plan.num_heads * plan.head_dim);
        plan.check(n, kv);
        let target = Target { out: Disjoint::new(out), lse: Disjoint::new(lse), plan };
        if plan.tiles.len() >= TILES_PER_THREAD * self.pool.threads() {
            self.pool.run(plan.tiles.len(), &|index| self.whole_tile(&plan.tiles[index], q, kv, &target));
        } else {
            self.by_spans(q, kv, &target);
        }
    }

    /// All spans of one tile, one after the other.
    fn whole_tile(&self, tile: &AttentionTile, q: &[f32], kv: KvViews<'_, '_>, target: &Target<'_>) {
        let plan = target.plan;
        let [mut queries, mut sums, mut more] = SCRATCH.take();
        gather_scaled(plan, tile, q, &mut queries);
        let len = plan.part_len(tile);
        sums.resize(len.max(sums.len()), 0.0);
        more.resize(len.max(more.len()), 0.0);
        for (index, span) in plan.spans(tile).enumerate() {
            let keys = plan.keys(tile, span, kv);
            let part = if index == 0 { &mut sums[..len] } else { &mut more[..len] };
            kernel!(self, attention(plan.part(part), &queries, &keys));
            if index > 0 {
                join(&mut plan.part(&mut sums[..len]), plan.part(&mut more[..len]));
            }
        }
        target.write(tile, &plan.part(&mut sums[..len]));
        SCRATCH.set([queries, sums, more]);
    }

    /// Every span of every tile as a task of its own; then the spans are joined in the same order.
    fn by_spans(&self, q: &[f32], kv: KvViews<'_, '_>, target: &Target<'_>) {
        let plan = target.plan;
        let mut tasks = TASKS.take();
        tasks.clear();
        let mut end = 0;
        for (index, tile) in plan.tiles.iter().enumerate() {
            for span in plan.spans(tile) {
                tasks.push(SpanTask { tile: index, span, place: end..end + plan.part_len(tile) });
                end += plan.part_len(tile);
            }
        }
        let mut parts = self.buffers.take(end);
        let places = Disjoint::new(&mut parts);
        self.pool.run(tasks.len(), &|index| {
            let SpanTask { tile, span, place } = &tasks[index];
            let tile = &plan.tiles[*tile];
            let [mut queries, sums, more] = SCRATCH.take();
            gather_scaled(plan, tile, q, &mut queries);
            // SAFETY: the places of two tasks do not overlap.
            let part = plan.part(unsafe { places.part(place.clone()) });
            kernel!(self, attention(part, &queries, &plan.keys(tile, span.clone(), kv)));
            SCRATCH.set([queries, sums, more]);
        });
        TASKS.set(tasks);
        let mut rest = &mut parts[..];
        for tile in &plan.tiles {
            let len = plan.part_len(tile);
            let (sums, mut after) = rest.split_at_mut(len);
            let mut sums = plan.part(sums);
            for _ in plan.spans(tile).skip(1) {
                let (more, others) = after.split_at_mut(len);
                join(&mut sums, plan.part(more));
                after = others;
            }
            target.write(tile, &sums);
            rest = after;
        }
    }
}

/// Where the results go.
struct Target<'a> {
    out: Disjoint<'a, f32>,
    lse: Disjoint<'a, f32>,
    plan: &'a AttentionPlan,
}

impl Target<'_> {
    /// Divides by the sums and writes the rows of a tile; no other call may write this tile.
    fn write(&self, tile: &AttentionTile, part: &TilePart<'_>) {
        let (plan, dim) = (self.plan, self.plan.head_dim);
        for row in 0..tile.num_rows as usize {
            // SAFETY: no two tiles share a row of a key-value head (checked), and each is written once.
            let (out, lse) = unsafe {
                (self.out.part(segment(plan, tile, row, dim)), self.lse.part(segment(plan, tile, row, 1)))
            };
            for (head, i) in tile_row(plan, row, 1).enumerate() {
                let (max, sum) = (part.max[i], part.sum[i]);
                let (factor, log) = if sum == 0.0 { (0.0, 0.0) } else { (1.0 / sum, sum.ln()) };
                lse[head] = max + log;
                let (out, from) = (&mut out[head * dim..(head + 1) * dim], &part.out[i * dim..(i + 1) * dim]);
                out.iter_mut().zip(from).for_each(|(out, x)| *out = x * factor);
            }
        }
    }
}

/// Adds the sums over other keys.
fn join(sums: &mut TilePart<'_>, more: TilePart<'_>) {
    let dim = sums.out.len() / sums.sum.len().max(1);
    for i in 0..sums.sum.len() {
        if more.sum[i] == 0.0 {
            continue;
        }
        let row = i * dim..(i + 1) * dim;
        let (out, more_out) = (&mut sums.out[row.clone()], &more.out[row]);
        if sums.sum[i] == 0.0 {
            (sums.max[i], sums.sum[i]) = (more.max[i], more.sum[i]);
            out.copy_from_slice(more_out);
            continue;
        }
        let max = if more.max[i] > sums.max[i] { more.max[i] } else { sums.max[i] };
        let (keep, add) = ((sums.max[i] - max).exp(), (more.max[i] - max).exp());
        sums.max[i] = max;
        sums.sum[i] = sums.sum[i] * keep + more.sum[i] * add;
        out.iter_mut().zip(more_out).for_each(|(out, x)| *out = *out * keep + x * add);
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
pub(super) fn gather(
    plan: &AttentionPlan,
    tile: &AttentionTile,
    array: &[f32],
    width: usize,
    rows: &mut Vec<f32>,
) {
    rows.clear();
    for row in 0..tile.num_rows as usize {
        rows.extend_from_slice(&array[segment(plan, tile, row, width)]);
    }
}

/// The tile's rows of `q`, `[M, Hd]`, multiplied by the plan's scale.
pub(super) fn gather_scaled(plan: &AttentionPlan, tile: &AttentionTile, q: &[f32], rows: &mut Vec<f32>) {
    gather(plan, tile, q, plan.head_dim, rows);
    rows.iter_mut().for_each(|value| *value *= plan.scale);
}
