//! The searched block is never worse than the reference's under the weights it was searched for, and often far better.

use super::*;
use crate::blocks::dequantize_row;

const QUANTIZED: [DType; 8] =
    [DType::Q8_0, DType::Q5_0, DType::Q5_1, DType::Q4_0, DType::Q4_1, DType::Q6_K, DType::Q5_K, DType::Q4_K];

/// Uniform numbers of -0.5..0.5 from a seed.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.next()).sum()
    }
}

fn weighted_error(dtype: DType, x: &[f32], weights: &[f32], bytes: &[u8]) -> f64 {
    let mut back = vec![0.0; x.len()];
    dequantize_row(dtype, bytes, &mut back).unwrap();
    let terms = x.iter().zip(weights).zip(&back);
    terms.map(|((x, w), back)| f64::from(*w) * (f64::from(*x) - f64::from(*back)).powi(2)).sum()
}

/// Weighted error of the search and of the reference quantizer.
fn errors(dtype: DType, x: &[f32], weights: &[f32]) -> (f64, f64) {
    let mut bytes = vec![0; dtype.row_bytes(x.len()).unwrap()];
    quantize_row_weighted(dtype, x, weights, &mut bytes).unwrap();
    let searched = weighted_error(dtype, x, weights, &bytes);
    quantize_row(dtype, x, &mut bytes).unwrap();
    (searched, weighted_error(dtype, x, weights, &bytes))
}

/// Rows of 256 values by name: normal, heavy-tailed, one-sided, tiny, with outliers, constant, zero.
fn row(kind: &str, random: &mut Uniform) -> Vec<f32> {
    let value = |random: &mut Uniform, i: usize| match kind {
        "normal" => 0.05 * random.normal(),
        "heavy" => 0.02 * random.normal() / (random.next().abs() + 0.01),
        "one-sided" => 1.0 + 0.1 * random.normal(),
        "tiny" => 1e-6 * random.normal(),
        "outlier" if i % 64 == 7 => 30.0,
        "outlier" => 0.1 * random.normal(),
        "constant" => -0.25,
        _ => 0.0,
    };
    (0..256).map(|i| value(random, i)).collect()
}

#[test]
fn the_weighted_error_is_never_above_that_of_the_reference() {
    let mut random = Uniform(1);
    for kind in ["normal", "heavy", "one-sided", "tiny", "outlier", "constant", "zero"] {
        for trial in 0..40 {
            let x = row(kind, &mut random);
            let weights: Vec<f32> = match trial % 4 {
                0 => vec![1.0; 256],
                1 => (0..256).map(|_| random.next().abs()).collect(),
                2 => (0..256).map(|_| (6.0 * random.normal()).exp2()).collect(),
                _ => (0..256).map(|i| if i % 3 == 0 || i / 32 == 5 { 0.0 } else { 1e-20 }).collect(),
            };
            for dtype in QUANTIZED {
                let (searched, reference) = errors(dtype, &x, &weights);
                // Both are sums over blocks in f64 of weights that differ by the block's largest one.
                assert!(
                    searched <= reference * (1.0 + 1e-6),
                    "{dtype}, {kind}: {searched} above {reference}"
                );
            }
        }
    }
}

#[test]
fn the_search_pays_on_normal_values_with_skewed_weights() {
    let mut random = Uniform(2);
    let mut sums = [(0.0, 0.0); 8];
    for _ in 0..60 {
        let x = row("normal", &mut random);
        let weights: Vec<f32> = (0..256).map(|_| (2.0 * random.normal()).exp2()).collect();
        for (sum, dtype) in sums.iter_mut().zip(QUANTIZED) {
            let (searched, reference) = errors(dtype, &x, &weights);
            *sum = (sum.0 + searched, sum.1 + reference);
        }
    }
    // Measured once, rounded up: what must not be lost again.
    let at_most = [0.69, 0.69, 0.55, 0.66, 0.52, 0.71, 0.63, 0.64];
    for ((dtype, (searched, reference)), limit) in QUANTIZED.into_iter().zip(sums).zip(at_most) {
        let ratio = searched / reference;
        assert!(ratio < limit, "{dtype}: {ratio}");
    }
}

#[test]
fn wrong_weights_are_refused_and_floats_ignore_them() {
    let x = [0.5f32; 32];
    let mut out = [0; 18];
    assert_eq!(
        quantize_row_weighted(DType::Q4_0, &x, &[1.0; 31], &mut out),
        Err(BlockError::WeightCount { expected: 32, found: 31 })
    );
    for (bad, word) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut weights = [1.0; 32];
        weights[9] = bad;
        assert_eq!(
            quantize_row_weighted(DType::Q4_0, &x, &weights, &mut out),
            Err(BlockError::BadWeight { index: 9, value: word.into() })
        );
    }
    let mut bytes = [0; 64];
    quantize_row_weighted(DType::F16, &x, &[0.0; 32], &mut bytes).unwrap();
    let mut reference = [0; 64];
    quantize_row(DType::F16, &x, &mut reference).unwrap();
    assert_eq!(bytes, reference);
}
