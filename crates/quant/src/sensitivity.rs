//! What rounding one tensor alone does to the predictions: divergence for each unit of relative error, measured.
//!
//! Each linear weight in turn is rounded to 4 bits while all others stay float, and the mean `KL(p || q)` over the first tokens
//! of the calibration text is divided by that rounding's normalised squared error. Divergence grows with the square of small
//! errors, so the quotient times the error of another type predicts what that type would cost.

use shakti_kernels::blocks::DType;
use shakti_kernels::{Buffer, Cpu};
use shakti_model::TensorSource;

use crate::blocks::quantize;
use crate::sequential::{Calibration, Walk};
use crate::{QuantError, TensorPlan};

/// Tokens whose predictions are compared at most.
const TOKENS: usize = 1024;

/// Scores of the original that are held, with as many of the rounded one: 64 MiB each.
const SCORES: usize = 1 << 24;

/// Divergence a unit of relative squared error, for each of `tensors` by index; 0 for those that no product uses.
pub(crate) fn measure(
    cpu: &Cpu,
    source: &dyn TensorSource,
    calibration: &Calibration,
    tensors: &[TensorPlan],
) -> Result<Vec<f64>, QuantError> {
    let calibration = calibration.first(TOKENS.min(SCORES / calibration.vocab_size()).max(2));
    let mut walk = Walk::new(cpu, source, &calibration)?;
    let layers = calibration.num_layers();
    // The residual stream before each layer, and after the last.
    let mut streams: Vec<Vec<Buffer>> = vec![walk.embed()?];
    for layer in 0..layers {
        let mut stream = streams[layer].iter().map(|x| cpu.buffers.copy(x)).collect::<Vec<_>>();
        walk.advance(layer, &mut stream);
        streams.push(stream);
    }
    let reference = walk.scores(&streams[layers]);
    let mut found = Vec::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        let [_, cols] = tensor.spec.shape[..] else {
            found.push(0.0);
            continue;
        };
        let probe = TensorPlan { dtype: DType::Q4_0.for_row_len(cols), ..tensor.clone() };
        let made = quantize(cpu, source, &probe, (true, false))?;
        if made.nmse == 0.0 {
            found.push(0.0);
            continue;
        }
        let kept = walk.params.slice(index).to_vec();
        let failed = |cause| QuantError::Blocks { tensor: tensor.spec.name.clone(), cause };
        walk.replace(index, probe.dtype, &made.bytes).map_err(failed)?;
        let layer = tensor.spec.name.strip_prefix("model.layers.");
        let layer =
            layer.and_then(|rest| rest.split('.').next()).and_then(|layer| layer.parse::<usize>().ok());
        let (first, mut stream) = match (layer, tensor.spec.name.as_str()) {
            (None, "model.embed_tokens.weight") => (0, walk.embed()?),
            (layer, _) => {
                let first = layer.unwrap_or(layers);
                (first, streams[first].iter().map(|x| cpu.buffers.copy(x)).collect())
            }
        };
        (first..layers).for_each(|layer| walk.advance(layer, &mut stream));
        let scores = walk.scores(&stream);
        let vocabulary = calibration.vocab_size();
        let rows = reference.chunks(vocabulary).zip(scores.chunks(vocabulary));
        let sum: f64 = rows.map(|(p, q)| shakti_engine::divergence(p, q)).sum();
        found.push(sum / (reference.len() / vocabulary) as f64 / made.nmse);
        walk.params.slice_mut(index).copy_from_slice(&kept);
    }
    Ok(found)
}
