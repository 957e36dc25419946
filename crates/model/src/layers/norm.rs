//! RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450) over rows `[N, D]`.

use shakti_kernels::{Buffer, Cpu, LayerNormGrads, LayerNormOutput};

use crate::params::{Gradients, Place};
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

/// `dx +=` and the gradients of weight and bias, from `dy`. The kernels sum those of a frozen norm too, for nobody.
pub(crate) fn backward(
    cpu: &Cpu,
    weight: &NormWeight<'_>,
    place: Place,
    (dx, dy): (&mut [f32], &[f32]),
    (x, stats): (&[f32], &NormStats),
    grads: &mut Gradients<'_>,
) {
    let NormStats { rstd, mean } = stats;
    let mut dweight = cpu.buffers.zeros(weight.weight.len());
    let Some(bias) = place.bias else {
        let dweight = grads.model(place.weight).unwrap_or(&mut dweight);
        return cpu.rms_norm_backward(dx, dweight, dy, x, weight.weight, rstd);
    };
    let mut dbias = cpu.buffers.zeros(weight.weight.len());
    let both = LayerNormGrads { dx, dweight: &mut dweight, dbias: &mut dbias };
    cpu.layer_norm_backward(both, dy, x, weight.weight, mean, rstd);
    for (index, gradient) in [(place.weight, &dweight), (bias, &dbias)] {
        if let Some(sum) = grads.model(index) {
            cpu.add(sum, gradient);
        }
    }
}
