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
pub(crate) fn forward(compute: Compute<'_>, config: &ModelConfig, weights: &LayerWeights<'_>, x: &mut [f32]) {
    let (_, gate, up) = up_projections(compute, config, weights, x);
    compute.cpu.add(x, &down_projection(compute, config, weights, &gate, &up));
}

/// [`forward`] with dropout, kept for the backward pass.
pub(crate) fn forward_train(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: &mut Buffer,
    (layer, dropout): (usize, Option<Dropout>),
) -> MlpTape {
    let (stats, gate, up) = up_projections(compute, config, weights, x);
    let mut out = down_projection(compute, config, weights, &gate, &up);
    Dropout::apply(dropout, compute.cpu, &mut out, layer, Branch::Mlp);
    // The sum takes the place of what is added, and the input stays as it is.
    compute.cpu.add(&mut out, x);
    MlpTape { x: std::mem::replace(x, out), stats, gate, up }
}

/// What the forward pass kept, computed again from the branch's input `[N, D]`.
pub(crate) fn again(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: Buffer,
) -> MlpTape {
    let (stats, gate, up) = up_projections(compute, config, weights, &x);
    MlpTape { x, stats, gate, up }
}

/// Statistics of the norm, gate and up `[N, F]`.
fn up_projections(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    x: &[f32],
) -> (NormStats, Buffer, Buffer) {
    let (h, stats) = norm::forward(compute.cpu, &weights.post_norm, x, config.norm_eps);
    let [gate, up] = linear::forward_many(compute, [&weights.gate, &weights.up], &h, config.hidden_size);
    (stats, gate, up)
}

/// What is added to the residual stream `[N, D]`.
fn down_projection(
    compute: Compute<'_>,
    config: &ModelConfig,
    weights: &LayerWeights<'_>,
    gate: &[f32],
    up: &[f32],
) -> Buffer {
    let mut act = compute.cpu.buffers.take(gate.len());
    compute.cpu.silu_mul(&mut act, gate, up);
    linear::forward(compute, &weights.down, &act, config.intermediate_size)
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
    let dropped = Dropout::of_gradient(dropout, cpu, dx, layer, Branch::Mlp);
    let dout = dropped.as_deref().unwrap_or(&*dx);
    let [mut dgate, mut dup, mut act] = [(); 3].map(|()| cpu.buffers.take(tape.gate.len()));
    linear::backward_input(compute, &weights.down, &mut dgate, dout, (false, rows));
    cpu.silu_mul_backward(&mut dgate, &mut dup, &mut act, &tape.gate, &tape.up);
    linear::backward_weight(compute, (&weights.down, places.down), grads, (dout, &act, rows));
    drop(act);
    let (mut h, _) = norm::forward(cpu, &weights.post_norm, &tape.x, config.norm_eps);
    let layers = [(&weights.gate, places.gate), (&weights.up, places.up)];
    linear::backward_many(compute, layers, grads, [&dgate, &dup], (&mut h, rows));
    let dh = h;
    norm::backward(cpu, &weights.post_norm, places.post_norm, (dx, &dh), (&tape.x, &tape.stats), grads);
}
