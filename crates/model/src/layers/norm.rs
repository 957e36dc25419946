//! RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450) over rows `[N, D]`.

use shakti_kernels::{Buffer, Cpu, LayerNormGrads, LayerNormOutput};

use crate::params::{Parameters, Place};
use crate::weights::NormWeight;

/// What the backward pass needs of each row; `mean` is empty for RMSNorm.
#[derive(Debug)]
pub(crate) struct NormStats {
    rstd: Buffer,
    mean: Buffer,
}

/// The normalised rows and their statistics.
pub(crate) fn forward(cpu: &Cpu, weight: &NormWeight<'_>, x: &[f32], eps: f32) -> (Buffer, NormStats) {
    let rows = x.len() / weight.weight.len();
    let mut y = cpu.buffers.take(x.len());
    let mut rstd = cpu.buffers.take(rows);
    let mut mean = cpu.buffers.take(weight.bias.map_or(0, |_| rows));
    match weight.bias {
        None => cpu.rms_norm(&mut y, &mut rstd, x, weight.weight, eps),
        Some(bias) => {
            let out = LayerNormOutput { y: &mut y, mean: &mut mean, rstd: &mut rstd };
            cpu.layer_norm(out, x, weight.weight, bias, eps);
        }
    }
    (y, NormStats { rstd, mean })
}

/// `dx +=` and the gradients of weight and bias, from `dy`.
pub(crate) fn backward(
    cpu: &Cpu,
    weight: &NormWeight<'_>,
    place: Place,
    (dx, dy): (&mut [f32], &[f32]),
    (x, stats): (&[f32], &NormStats),
    grads: &mut Parameters,
) {
    let Some(bias) = place.bias else {
        return cpu.rms_norm_backward(dx, grads.slice_mut(place.weight), dy, x, weight.weight, &stats.rstd);
    };
    let mut dbias = grads.slice(bias).to_vec();
    let dweight = grads.slice_mut(place.weight);
    let NormStats { rstd, mean } = stats;
    cpu.layer_norm_backward(
        LayerNormGrads { dx, dweight, dbias: &mut dbias },
        dy,
        x,
        weight.weight,
        mean,
        rstd,
    );
    grads.slice_mut(bias).copy_from_slice(&dbias);
}
