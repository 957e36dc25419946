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
    (layer, dropout, keep): (usize, Option<Dropout>, bool),
) -> Option<AttentionTape> {
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
    let mut planner = caches.first_mut().map(|cache| std::mem::take(&mut cache.planner)).unwrap_or_default();
    planner.plan(config, layer, caches, sequences.rows);
    let mut out = cpu.buffers.take(q.len());
    let mut lse = cpu.buffers.take(q.len() / config.head_dim);
    let view = |sequence: usize| caches[sequence].layers[layer].view(sequences.rows[sequence].start);
    cpu.attention(&mut out, &mut lse, &q, &view, &planner.plan);
    let mut projected =
        linear::forward(compute, &weights.o, &out, config.num_attention_heads * config.head_dim);
    Dropout::apply(dropout, cpu, &mut projected, layer, Branch::Attention);
    let input = keep.then(|| cpu.buffers.copy(x));
    cpu.add(x, &projected);
    if let Some(x) = input {
        return Some(AttentionTape { x, stats, q, out, lse, plan: planner.plan });
    }
    if let Some(cache) = caches.first_mut() {
        cache.planner = planner;
    }
    None
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
    let mut dprojected = cpu.buffers.copy(dx);
    Dropout::apply(dropout, cpu, &mut dprojected, layer, Branch::Attention);
    linear::backward_weight(compute, (&weights.o, places.o), grads, (&dprojected, &tape.out, rows));
    let mut dout = cpu.buffers.take(tape.out.len());
    linear::backward_input(compute, &weights.o, &mut dout, &dprojected, (false, rows));

    let kv_len = rows * config.num_kv_heads[layer] * config.head_dim;
    let mut dq = cpu.buffers.take(tape.q.len());
    let (mut dk, mut dv) = (cpu.buffers.zeros(kv_len), cpu.buffers.zeros(kv_len));
    let views: Vec<_> =
        caches.iter().zip(sequences.rows).map(|(cache, rows)| cache.layers[layer].view(rows.start)).collect();
    let saved = AttentionSaved { dout: &dout, out: &tape.out, lse: &tape.lse, q: &tape.q };
    cpu.attention_backward(
        AttentionGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv },
        saved,
        &views,
        &tape.plan,
    );
    cpu.rope(&mut dq, config.num_attention_heads, sequences.angles, true);
    cpu.rope(&mut dk, config.num_kv_heads[layer], sequences.angles, true);

    let (h, _) = norm::forward(cpu, &weights.input_norm, &tape.x, config.norm_eps);
    let mut dh = cpu.buffers.take(h.len());
    for (index, (place, weight, grad)) in
        [(places.q, &weights.q, &dq), (places.k, &weights.k, &dk), (places.v, &weights.v, &dv)]
            .into_iter()
            .enumerate()
    {
        linear::backward_weight(compute, (weight, place), grads, (grad, &h, rows));
        linear::backward_input(compute, weight, &mut dh, grad, (index > 0, rows));
    }
    norm::backward(cpu, &weights.input_norm, places.input_norm, (dx, &dh), (&tape.x, &tape.stats), grads);
}
