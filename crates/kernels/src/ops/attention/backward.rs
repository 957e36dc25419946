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

/// The tiles of one sequence and key-value head.
struct Owner {
    sequence: u32,
    kv_head: u32,
    tiles: Vec<usize>,
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
        let positions = check_positions(plan, kv, n);
        let owners = owners(plan);
        let (dq, dk, dv) = (Disjoint::new(grads.dq), Disjoint::new(grads.dk), Disjoint::new(grads.dv));
        self.pool.run(owners.len(), &|index| {
            let owner = &owners[index];
            let sequence = owner.sequence as usize;
            let mut local = vec![0.0; 2 * positions[sequence] * dim];
            let (local_dk, local_dv) = local.split_at_mut(positions[sequence] * dim);
            for &tile in &owner.tiles {
                let tile = &plan.tiles[tile];
                let [mut q, mut out, mut dout, mut lse] = [const { Vec::new() }; 4];
                gather_scaled(plan, tile, saved.q, &mut q);
                gather(plan, tile, saved.out, dim, &mut out);
                gather(plan, tile, saved.dout, dim, &mut dout);
                gather(plan, tile, saved.lse, 1, &mut lse);
                let tile_saved = TileSaved { q: &q, out: &out, dout: &dout, lse: &lse };
                let mut tile_dq = vec![0.0; tile_saved.q.len()];
                let tile_grads = TileGrads { dq: &mut tile_dq, dk: local_dk, dv: local_dv };
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
            for position in 0..positions[sequence] {
                let row = (kv[sequence].first_row + position) * kv_heads + owner.kv_head as usize;
                let (target, source) = (row * dim..(row + 1) * dim, position * dim..(position + 1) * dim);
                // SAFETY: sequences share no rows (checked), and this task alone owns this head of its sequence.
                let (dk, dv) = unsafe { (dk.part(target.clone()), dv.part(target)) };
                kernel!(self, add(dk, &local_dk[source.clone()]));
                kernel!(self, add(dv, &local_dv[source]));
            }
        });
    }
}

/// The number of positions of each sequence that its tiles may see.
fn check_positions(plan: &AttentionPlan, kv: &[KvView<'_>], n: usize) -> Vec<usize> {
    let mut positions = vec![0; kv.len()];
    for tile in &plan.tiles {
        for block in &plan.key_blocks[tile.blocks.start as usize..tile.blocks.end as usize] {
            let end = block.first_position + i64::from(block.num_keys);
            assert!(block.first_position >= 0, "attention_backward: {block:?} has a negative position");
            positions[tile.sequence as usize] = positions[tile.sequence as usize].max(end as usize);
        }
    }
    let mut spans: Vec<_> = kv.iter().zip(&positions).map(|(view, &len)| (view.first_row, len)).collect();
    spans.retain(|span| span.1 > 0);
    spans.sort_unstable();
    spans.push((n, 0));
    for pair in spans.windows(2) {
        let ((first, len), (next, _)) = (pair[0], pair[1]);
        assert!(first + len <= next, "attention_backward: rows {first} + {len} overlap those from {next}");
    }
    positions
}

/// The tiles by sequence and key-value head, each in the order of the plan.
fn owners(plan: &AttentionPlan) -> Vec<Owner> {
    let mut order: Vec<usize> = (0..plan.tiles.len()).collect();
    order.sort_by_key(|&tile| (plan.tiles[tile].sequence, plan.tiles[tile].kv_head));
    let mut owners: Vec<Owner> = Vec::new();
    for tile in order {
        let (sequence, kv_head) = (plan.tiles[tile].sequence, plan.tiles[tile].kv_head);
        match owners.last_mut() {
            Some(owner) if (owner.sequence, owner.kv_head) == (sequence, kv_head) => owner.tiles.push(tile),
            _ => owners.push(Owner { sequence, kv_head, tiles: vec![tile] }),
        }
    }
    owners
}
