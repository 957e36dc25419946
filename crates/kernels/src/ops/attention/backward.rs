//! The backward pass: one task per sequence and key-value head, which owns their `dk` and `dv` and goes through the
//! tiles in order, so that the sums are the same for any number of threads.

use super::super::check_len;
use super::forward::{gather, gather_scaled, segment, tile_row};
use super::kv::{KvType, KvView};
use super::plan::{AttentionPlan, TileGrads, TileSaved};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use std::cell::RefCell;
use std::ops::Range;

/// The gradients that attention writes.
#[derive(Debug)]
pub struct AttentionGrads<'a> {
    /// `[N, H, Hd]`, overwritten for every row that stands in a tile.
    pub dq: &'a mut [f32],
    /// `[N, K, Hd]`, added to: the key at position `p` of a sequence is row `first_row + p`.
    pub dk: &'a mut [f32],
    /// `[N, K, Hd]`, added to.
    pub dv: &'a mut [f32],
}

/// What the backward pass needs from the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSaved<'a> {
    /// `[N, H, Hd]`, the gradient of `out`.
    pub dout: &'a [f32],
    /// `[N, H, Hd]`, as the forward pass wrote it.
    pub out: &'a [f32],
    /// `[N, H]`, as the forward pass wrote it.
    pub lse: &'a [f32],
    /// `[N, H, Hd]`, the query after rotation.
    pub q: &'a [f32],
}

thread_local! {
    /// Kept so that a call asks for no memory once they have grown: the allocator would give it back to the system each time,
    /// and the system clears every page that it lends.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static OWNERS: RefCell<Owners> = RefCell::default();
}

/// What one task works in.
#[derive(Default)]
struct Scratch {
    /// `[2, positions, Hd]`: `dk` and `dv` of one key-value head.
    local: Vec<f32>,
    q: Vec<f32>,
    out: Vec<f32>,
    dout: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
}

/// Which tiles belong to one sequence and key-value head.
#[derive(Default)]
struct Owners {
    /// Tiles by sequence and key-value head, each in the order of the plan.
    tiles: Vec<usize>,
    /// Ranges of `tiles`, one an owner.
    ranges: Vec<Range<usize>>,
    /// The number of positions of each sequence that its tiles may see.
    positions: Vec<usize>,
    /// First row and number of positions of each sequence.
    spans: Vec<(usize, usize)>,
}

impl Cpu {
    /// Gradients of [`attention`](Self::attention) with the same `kv` and `plan`.
    ///
    /// # Panics
    /// As `attention`, and if keys are not stored as f32, a key has a negative position or its row lies outside `dk`, or two sequences share rows.
    pub fn attention_backward(
        &self,
        grads: AttentionGrads<'_>,
        saved: AttentionSaved<'_>,
        kv: &[KvView<'_>],
        plan: &AttentionPlan,
    ) {
        let _counting = self.clock.count(Work::Attention);
        let (heads, dim, kv_heads) = (plan.num_heads, plan.head_dim, plan.num_kv_heads);
        let n = saved.lse.len() / heads.max(1);
        check_len("attention_backward: lse", saved.lse, n * heads);
        for (what, array) in [("dout", saved.dout), ("out", saved.out), ("q", saved.q), ("dq", &*grads.dq)] {
            check_len(what, array, n * heads * dim);
        }
        check_len("attention_backward: dk", grads.dk, n * kv_heads * dim);
        check_len("attention_backward: dv", grads.dv, n * kv_heads * dim);
        let views = |sequence: usize| kv[sequence];
        plan.check(n, &views);
        let exact = kv.iter().all(|view| view.blocks.kind() == KvType::F32);
        assert!(exact, "attention_backward: keys and values are not f32");
        let mut owners = OWNERS.take();
        owners.check_positions(plan, kv, n);
        owners.find(plan);
        let (dq, dk, dv) = (Disjoint::new(grads.dq), Disjoint::new(grads.dk), Disjoint::new(grads.dv));
        self.pool.run(owners.ranges.len(), &|index| {
            let tiles = &owners.tiles[owners.ranges[index].clone()];
            let (sequence, kv_head) =
                (plan.tiles[tiles[0]].sequence as usize, plan.tiles[tiles[0]].kv_head as usize);
            let positions = owners.positions[sequence];
            let mut scratch = SCRATCH.take();
            let Scratch { local, q, out, dout, lse, dq: tile_dq } = &mut scratch;
            local.clear();
            local.resize(2 * positions * dim, 0.0);
            let (local_dk, local_dv) = local.split_at_mut(positions * dim);
            for &tile in tiles {
                let tile = &plan.tiles[tile];
                gather_scaled(plan, tile, saved.q, q);
                gather(plan, tile, saved.out, dim, out);
                gather(plan, tile, saved.dout, dim, dout);
                gather(plan, tile, saved.lse, 1, lse);
                let tile_saved = TileSaved { q, out, dout, lse };
                tile_dq.resize(q.len(), 0.0);
                let tile_grads = TileGrads { dq: tile_dq, dk: local_dk, dv: local_dv };
                kernel!(
                    self,
                    attention_backward(
                        tile_grads,
                        &tile_saved,
                        &plan.keys(tile, tile.blocks.clone(), &views)
                    )
                );
                for row in 0..tile.num_rows as usize {
                    // SAFETY: no two tiles share a row of a key-value head (checked).
                    let dq = unsafe { dq.part(segment(plan, tile, row, dim)) };
                    for (dq, &value) in dq.iter_mut().zip(&tile_dq[tile_row(plan, row, dim)]) {
                        *dq = value * plan.scale;
                    }
                }
            }
            for position in 0..positions {
                let row = (kv[sequence].first_row + position) * kv_heads + kv_head;
                let (target, source) = (row * dim..(row + 1) * dim, position * dim..(position + 1) * dim);
                // SAFETY: sequences share no rows (checked), and this task alone owns this head of its sequence.
                let (dk, dv) = unsafe { (dk.part(target.clone()), dv.part(target)) };
                kernel!(self, add(dk, &local_dk[source.clone()]));
                kernel!(self, add(dv, &local_dv[source]));
            }
            SCRATCH.set(scratch);
        });
        OWNERS.set(owners);
    }
}

impl Owners {
    fn check_positions(&mut self, plan: &AttentionPlan, kv: &[KvView<'_>], n: usize) {
        let Self { positions, spans, .. } = self;
        positions.clear();
        positions.resize(kv.len(), 0);
        for tile in &plan.tiles {
            for block in &plan.key_blocks[tile.blocks.start as usize..tile.blocks.end as usize] {
                let end = block.first_position + i64::from(block.num_keys);
                assert!(block.first_position >= 0, "attention_backward: {block:?} has a negative position");
                positions[tile.sequence as usize] = positions[tile.sequence as usize].max(end as usize);
            }
        }
        spans.clear();
        spans.extend(kv.iter().zip(&*positions).map(|(view, &len)| (view.first_row, len)));
        spans.retain(|span| span.1 > 0);
        spans.sort_unstable();
        spans.push((n, 0));
        for pair in spans.windows(2) {
            let ((first, len), (next, _)) = (pair[0], pair[1]);
            assert!(
                first + len <= next,
                "attention_backward: rows {first} + {len} overlap those from {next}"
            );
        }
    }

    fn find(&mut self, plan: &AttentionPlan) {
        let Self { tiles, ranges, .. } = self;
        let owner = |tile: usize| (plan.tiles[tile].sequence, plan.tiles[tile].kv_head);
        tiles.clear();
        tiles.extend(0..plan.tiles.len());
        // By the index too, which keeps the order of the plan without memory to sort in.
        tiles.sort_unstable_by_key(|&tile| (owner(tile), tile));
        ranges.clear();
        for (at, &tile) in tiles.iter().enumerate() {
            match ranges.last_mut() {
                Some(range) if owner(tiles[range.start]) == owner(tile) => range.end = at + 1,
                _ => ranges.push(at..at + 1),
            }
        }
    }
}
