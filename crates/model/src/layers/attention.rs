//! The attention branch: grouped queries over a KV cache, rotary positions, three visibility patterns.
//!
//! Query head `i` uses KV head `i * K / H` (arXiv 2305.13245). Training and serving run this same function:
//! training fills a fresh cache for each document and keeps it on the tape.

pub mod block_sparse;
mod plan;

pub(crate) use plan::Planner;

use std::ops::Range;

use shakti_kernels::{AttentionGrads, AttentionPlan, AttentionSaved, Buffer, RopeAngles, RopeFrequencies};

use super::norm::{self, NormStats};
use super::{Branch, Compute, Dropout, linear};
use crate::ModelConfig;
use crate::kv_cache::KvCache;
use crate::params::{Gradients, LayerPlaces};
use crate::weights::LayerWeights;

/// What the backward pass needs: input `[N, D]`, rotated queries and branch output `[N, H * Hd]`, log-sum-exp
/// `[N, H]`; keys and values stand in the caches of the tape.
#[derive(Debug)]
pub(crate) struct AttentionTape {
    x: Buffer,
    stats: NormStats,
    q: Buffer,
    out: Buffer,
    lse: Buffer,
    plan: AttentionPlan,
}

impl AttentionTape {
    /// The input of the branch `[N, D]`; the rest is forgotten.
    pub(crate) fn into_input(self) -> Buffer {
        self.x
    }
}

/// The sequences of one call: rows of each in the flat batch, and their rotary angles.
pub(crate) struct Sequences<'a> {
    pub rows: &'a [Range<usize>],
    pub angles: &'a RopeAngles,
    pub frequencies: &'a RopeFrequencies,
}

/// Adds the branch of layer `layer` to the residual stream `x [N, D]`.
pub(crate) fn forward(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: &mut [f32],
    (sequences, caches): (&Sequences<'_>, &mut [&mut KvCache]),
    layer: usize,
) {
    let branch = Output::new(compute, config, weights, x, (sequences, caches), (layer, None));
    compute.cpu.add(x, &branch.projected);
    if let Some(cache) = caches.first_mut() {
        cache.planner = branch.planner;
    }
}

/// [`forward`] with dropout, kept for the backward pass.
pub(crate) fn forward_train(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: &mut Buffer,
    (sequences, caches): (&Sequences<'_>, &mut [&mut KvCache]),
    (layer, dropout): (usize, Option<Dropout>),
) -> AttentionTape {
    let place = (layer, dropout);
    let Output { stats, q, out, lse, planner, mut projected } =
        Output::new(compute, config, weights, x, (sequences, caches), place);
    // The sum takes the place of what is added, and the input stays as it is.
    compute.cpu.add(&mut projected, x);
    let x = std::mem::replace(x, projected);
    AttentionTape { x, stats, q, out, lse, plan: planner.plan }
}

/// What comes of the branch's input.
struct Output {
    stats: NormStats,
    q: Buffer,
    out: Buffer,
    lse: Buffer,
    planner: Planner,
    /// What is added to the residual stream `[N, D]`.
    projected: Buffer,
}

impl Output {
    fn new(
        compute: Compute<'_>,
        config: &ModelConfig,
        weights: &LayerWeights<'_>,
        x: &[f32],
        (sequences, caches): (&Sequences<'_>, &mut [&mut KvCache]),
        (layer, dropout): (usize, Option<Dropout>),
    ) -> Self {
        let (cpu, d) = (compute.cpu, config.hidden_size);
        let kv_heads = config.num_kv_heads[layer];
        let (h, stats) = norm::forward(cpu, &weights.input_norm, x, config.norm_eps);
        let [mut q, mut k, v] = linear::forward_many(compute, [&weights.q, &weights.k, &weights.v], &h, d);
        let row = kv_heads * config.head_dim;
        let of = |rows: &Range<usize>| rows.start * row..rows.end * row;
        for (cache, rows) in caches.iter_mut().zip(sequences.rows) {
            cache.store_sinks(layer, &k[of(rows)], &v[of(rows)]);
        }
        cpu.rope(&mut q, config.num_attention_heads, sequences.angles, false);
        cpu.rope(&mut k, kv_heads, sequences.angles, false);
        for (cache, rows) in caches.iter_mut().zip(sequences.rows) {
            cache.store(cpu, layer, &k[of(rows)], &v[of(rows)]);
            cache.place_sinks(cpu, layer, sequences.frequencies);
        }
        let mut planner =
            caches.first_mut().map(|cache| std::mem::take(&mut cache.planner)).unwrap_or_default();
        planner.plan(config, layer, caches, sequences.rows);
        let mut out = cpu.buffers.take(q.len());
        let mut lse = cpu.buffers.take(q.len() / config.head_dim);
        let view = |sequence: usize| caches[sequence].layer(layer).view(sequences.rows[sequence].start);
        cpu.attention(&mut out, &mut lse, &q, &view, &planner.plan);
        let width = config.num_attention_heads * config.head_dim;
        let mut projected = linear::forward(compute, &weights.o, &out, width);
        Dropout::apply(dropout, cpu, &mut projected, layer, Branch::Attention);
        Self { stats, q, out, lse, planner, projected }
    }
}

/// Turns the gradient of the branch's output `dx [N, D]` into that of its input, in place.
pub(crate) fn backward(
    compute: Compute<'_>,
    config: &ModelConfig,
    (weights, places): (&LayerWeights<'_>, &LayerPlaces),
    dx: &mut [f32],
    (tape, sequences, caches): (&AttentionTape, &Sequences<'_>, &[KvCache]),
    (layer, dropout): (usize, Option<Dropout>),
    grads: &mut Gradients<'_>,
) {
    let cpu = compute.cpu;
    let rows = dx.len() / config.hidden_size;
    let dropped = Dropout::of_gradient(dropout, cpu, dx, layer, Branch::Attention);
    let dprojected = dropped.as_deref().unwrap_or(&*dx);
    linear::backward_weight(compute, (&weights.o, places.o), grads, (dprojected, &tape.out, rows));
    let mut dout = cpu.buffers.take(tape.out.len());
    linear::backward_input(compute, &weights.o, &mut dout, dprojected, (false, rows));

    let kv_len = rows * config.num_kv_heads[layer] * config.head_dim;
    let mut dq = cpu.buffers.take(tape.q.len());
    let (mut dk, mut dv) = (cpu.buffers.zeros(kv_len), cpu.buffers.zeros(kv_len));
    let views: Vec<_> =
        caches.iter().zip(sequences.rows).map(|(cache, rows)| cache.layer(layer).view(rows.start)).collect();
    let saved = AttentionSaved { dout: &dout, out: &tape.out, lse: &tape.lse, q: &tape.q };
    cpu.attention_backward(
        AttentionGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv },
        saved,
        &views,
        &tape.plan,
    );
    cpu.rope(&mut dq, config.num_attention_heads, sequences.angles, true);
    cpu.rope(&mut dk, config.num_kv_heads[layer], sequences.angles, true);

    let (mut h, _) = norm::forward(cpu, &weights.input_norm, &tape.x, config.norm_eps);
    let layers = [(&weights.q, places.q), (&weights.k, places.k), (&weights.v, places.v)];
    linear::backward_many(compute, layers, grads, [&dq, &dk, &dv], (&mut h, rows));
    let dh = h;
    norm::backward(cpu, &weights.input_norm, places.input_norm, (dx, &dh), (&tape.x, &tape.stats), grads);
}
