//! Types per tensor under a size: every tensor is quantized in every format, then bytes go where they save most error.
//!
//! Minimised is `sum_t c_t E_t`, `E_t` the normalised squared error of tensor `t`. With a calibration text `c_t` is measured:
//! the divergence that a unit of its error causes ([`crate::sensitivity`]). Without, it is 1 for the tensors of the layers
//! and an untied embedding, and `10 L` for the head (the embedding when tied), whose output are the scores themselves: on a
//! trained `shakti-nano` (`L = 6`) the KL divergence rose 60 times as fast with the head's error as with the sum of the
//! others' (docs/experiments.md).
//!
//! The types of a tensor that no mix of two others beats form a falling convex curve of error over bytes; all tensors start
//! at their smallest type and the steepest step that fits is taken next. For sizes at which the next step fits exactly, that
//! is the best choice; else it is off by less than one step.

use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, TensorSource};

use crate::blocks::{Options, quantize};
use crate::{FileType, QuantError, TensorPlan, sensitivity};

/// What a tensor may become.
const CHOICES: [DType; 9] = [
    DType::Q4_0,
    DType::Q4_K,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_K,
    DType::Q5_1,
    DType::Q6_K,
    DType::Q8_0,
    DType::F16,
];

/// How much more a unit of relative error costs in the head than in a layer's tensor, over the number of layers.
const HEAD_FACTOR: f64 = 10.0;

/// One type of a tensor and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    dtype: DType,
    bytes: usize,
    error: f64,
}

/// The plan of least error whose tensors take at most `max_bytes`; `embedding` fixes the type of the embedding table
/// and of an untied head.
///
/// # Errors
/// The size is below that of the smallest plan; what [`crate::QuantizedModel::new`] reports.
pub fn plan_for_size(
    cpu: &Cpu,
    source: &dyn TensorSource,
    (config, embedding): (&ModelConfig, Option<DType>),
    max_bytes: usize,
    options: Options<'_>,
) -> Result<Vec<TensorPlan>, QuantError> {
    let mut plan: Vec<TensorPlan> = Vec::new();
    let mut curves: Vec<Vec<Choice>> = Vec::new();
    let floats = crate::plan(config, FileType::all()[0], None);
    let measured = match options.calibration {
        Some(calibration) => Some(sensitivity::measure(cpu, source, calibration, &floats)?),
        None => None,
    };
    for (index, spec) in config.parameters().into_iter().enumerate() {
        let [rows, cols] = spec.shape[..] else {
            plan.push(TensorPlan { bytes: 4 * spec.num_elements(), spec, dtype: DType::F32, wanted: None });
            curves.push(Vec::new());
            continue;
        };
        let is_head = spec.name == "lm_head.weight"
            || (config.tie_word_embeddings && spec.name == "model.embed_tokens.weight");
        let factor = match &measured {
            Some(measured) => measured[index],
            None if is_head => HEAD_FACTOR * config.num_hidden_layers as f64,
            None => 1.0,
        };
        let fixed = embedding.filter(|_| is_head || spec.name == "model.embed_tokens.weight");
        let fixed = fixed.map(|dtype| dtype.for_row_len(cols));
        let mut choices = Vec::new();
        for dtype in CHOICES.into_iter().chain([DType::F32]) {
            if !cols.is_multiple_of(dtype.block_len())
                || fixed.map_or(dtype == DType::F32, |fixed| fixed != dtype)
            {
                continue;
            }
            let bytes = rows * (cols / dtype.block_len()) * dtype.block_bytes();
            let tensor = TensorPlan { spec: spec.clone(), dtype, wanted: None, bytes };
            let made = quantize(cpu, source, &tensor, (options.allow_requantize, false))?;
            choices.push(Choice { dtype, bytes, error: factor * made.nmse });
        }
        let curve = lower_curve(choices);
        let first = curve[0];
        plan.push(TensorPlan { spec, dtype: first.dtype, wanted: None, bytes: first.bytes });
        curves.push(curve);
    }
    spend(&mut plan, &curves, max_bytes)?;
    Ok(plan)
}

/// The choices that no mix of two others beats, by rising bytes and falling error; the slopes between them fall too.
fn lower_curve(mut choices: Vec<Choice>) -> Vec<Choice> {
    choices.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
    let mut curve: Vec<Choice> = Vec::new();
    for choice in choices {
        if curve.last().is_some_and(|last| choice.error >= last.error) {
            continue;
        }
        while let [.., before, last] = curve[..]
            && saving(before, last) <= saving(before, choice)
        {
            curve.pop();
        }
        curve.push(choice);
    }
    curve
}

/// Error saved for each byte more.
fn saving(from: Choice, to: Choice) -> f64 {
    (from.error - to.error) / (to.bytes - from.bytes) as f64
}

/// Takes the steepest step that still fits until none does.
fn spend(plan: &mut [TensorPlan], curves: &[Vec<Choice>], max_bytes: usize) -> Result<(), QuantError> {
    let smallest = crate::total_bytes(plan);
    let mut left =
        max_bytes.checked_sub(smallest).ok_or(QuantError::SizeTooSmall { asked: max_bytes, smallest })?;
    let mut at = vec![0; curves.len()];
    loop {
        let step = |(tensor, curve): (usize, &Vec<Choice>)| {
            let (from, to) = (*curve.get(at[tensor])?, *curve.get(at[tensor] + 1)?);
            (to.bytes - from.bytes <= left).then_some((tensor, from, to))
        };
        let steps = curves.iter().enumerate().filter_map(step);
        let steepest = steps.max_by(|a, b| saving(a.1, a.2).total_cmp(&saving(b.1, b.2)));
        let Some((tensor, from, to)) = steepest else { return Ok(()) };
        left -= to.bytes - from.bytes;
        at[tensor] += 1;
        (plan[tensor].dtype, plan[tensor].bytes) = (to.dtype, to.bytes);
    }
}

#[cfg(test)]
mod tests {
    use shakti_model::ParamSpec;

    use super::*;

    fn choice(dtype: DType, bytes: usize, error: f64) -> Choice {
        Choice { dtype, bytes, error }
    }

    #[test]
    fn the_curve_leaves_out_what_a_mix_beats() {
        let curve = lower_curve(vec![
            choice(DType::Q4_K, 10, 9.0),
            choice(DType::Q4_0, 10, 10.0),
            choice(DType::Q5_0, 12, 8.9),
            choice(DType::Q6_K, 14, 2.0),
            choice(DType::Q5_1, 16, 3.0),
            choice(DType::Q8_0, 20, 0.5),
        ]);
        let dtypes: Vec<DType> = curve.iter().map(|choice| choice.dtype).collect();
        assert_eq!(dtypes, [DType::Q4_K, DType::Q6_K, DType::Q8_0]);
    }

    #[test]
    fn bytes_go_where_they_save_most_and_the_size_is_kept() {
        let curves = [
            vec![choice(DType::Q4_0, 10, 8.0), choice(DType::Q8_0, 20, 1.0)],
            vec![],
            vec![choice(DType::Q4_0, 100, 9.0), choice(DType::Q6_K, 140, 2.0), choice(DType::Q8_0, 190, 1.0)],
        ];
        let fresh = || -> Vec<TensorPlan> {
            let tensor = |bytes| TensorPlan {
                spec: ParamSpec { name: "x".into(), shape: vec![1, 1] },
                dtype: DType::Q4_0,
                wanted: None,
                bytes,
            };
            vec![tensor(10), tensor(4), tensor(100)]
        };
        let spent = |max_bytes| {
            let mut plan = fresh();
            spend(&mut plan, &curves, max_bytes)
                .map(|()| plan.iter().map(|tensor| tensor.bytes).collect::<Vec<_>>())
        };
        assert_eq!(spent(114).unwrap(), [10, 4, 100]);
        assert_eq!(spent(124).unwrap(), [20, 4, 100], "0.7 a byte before 0.175");
        assert_eq!(spent(163).unwrap(), [20, 4, 100], "40 more do not fit");
        assert_eq!(spent(164).unwrap(), [20, 4, 140]);
        assert_eq!(spent(9999).unwrap(), [20, 4, 190]);
        let message = spent(113).unwrap_err().to_string();
        assert!(message.contains("113") && message.contains("114"), "{message}");
    }
}
