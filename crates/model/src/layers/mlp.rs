//! The feed-forward branch: `down(silu(gate(h)) * up(h))` with `h = norm(x)` (SwiGLU, arXiv 2002.05202).

use shakti_kernels::Buffer;

use super::norm::{self, NormStats};
use super::{Branch, Compute, Dropout, linear};
use crate::ModelConfig;
use crate::params::{Gradients, LayerPlaces};
use crate::weights::LayerWeights;

/// What the backward pass needs: the input `[N, D]`, its norm statistics, gate and up `[N, F]`.
#[derive(Debug)]
pub(crate) struct MlpTape {
    x: Buffer,
    stats: NormStats,
    gate: Buffer,
    up: Buffer,
}

/// Adds the branch to the residual stream `x [N, D]`.
pub(crate) fn forward(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: &mut [f32],
    (layer, dropout): (usize, Option<Dropout>),
    keep: bool,
) -> Option<MlpTape> {
    let cpu = compute.cpu;
    let (h, stats) = norm::forward(cpu, &weights.post_norm, x, config.norm_eps);
    let [gate, up] = linear::forward_many(compute, [&weights.gate, &weights.up], &h, config.hidden_size);
    let mut act = cpu.buffers.take(gate.len());
    cpu.silu_mul(&mut act, &gate, &up);
    let mut out = linear::forward(compute, &weights.down, &act, config.intermediate_size);
    Dropout::apply(dropout, cpu, &mut out, layer, Branch::Mlp);
    let tape = keep.then(|| MlpTape { x: cpu.buffers.copy(x), stats, gate, up });
    cpu.add(x, &out);
    tape
}

/// Turns the gradient of the branch's output `dx [N, D]` into that of its input, in place.
pub(crate) fn backward(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    places: &LayerPlaces,
    dx: &mut [f32],
    (tape, layer, dropout): (&MlpTape, usize, Option<Dropout>),
    grads: &mut Gradients<'_>,
) {
    let cpu = compute.cpu;
    let rows = dx.len() / config.hidden_size;
    let mut dout = cpu.buffers.copy(dx);
    Dropout::apply(dropout, cpu, &mut dout, layer, Branch::Mlp);
    let mut act = cpu.buffers.take(tape.gate.len());
    cpu.silu_mul(&mut act, &tape.gate, &tape.up);
    linear::backward_weight(compute, (&weights.down, places.down), grads, (&dout, &act, rows));
    let mut dact = act;
    linear::backward_input(compute, &weights.down, &mut dact, &dout, (false, rows));
    let (mut dgate, mut dup) = (cpu.buffers.take(dact.len()), cpu.buffers.take(dact.len()));
    cpu.silu_mul_backward(&mut dgate, &mut dup, &dact, &tape.gate, &tape.up);
    let (h, _) = norm::forward(cpu, &weights.post_norm, &tape.x, config.norm_eps);
    linear::backward_weight(compute, (&weights.gate, places.gate), grads, (&dgate, &h, rows));
    linear::backward_weight(compute, (&weights.up, places.up), grads, (&dup, &h, rows));
    let mut dh = h;
    linear::backward_input(compute, &weights.gate, &mut dh, &dgate, (false, rows));
    linear::backward_input(compute, &weights.up, &mut dh, &dup, (true, rows));
    norm::backward(cpu, &weights.post_norm, places.post_norm, (dx, &dh), (&tape.x, &tape.stats), grads);
}
