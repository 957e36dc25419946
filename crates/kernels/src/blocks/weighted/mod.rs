//! Quantization for weights that matter unequally: the same blocks, scales searched.
//!
//! For each block the search minimises `sum_i w_i (x_i - dequantize(block)_i)^2`. With `w_i = E[a_i^2]`, the mean square
//! of input feature `i` of a linear layer, that is the expected squared error of the layer's output `sum_i x_i a_i` when
//! the rounding errors of different inputs are taken as uncorrelated: the weights stand as they are, no power of them
//! and no factor of the values' magnitude. The block of the reference quantizer is one of the candidates and
//! all errors are of the stored block, f16 scales included, so the result is never worse than [`super::quantize_row`].

mod fit;
mod flat;
mod k;
#[cfg(test)]
mod tests;

use super::{BlockError, DType, check_row, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, quantize_row};

/// Quantizes a row `x` into `out` so that the sum of `weights[i] * error[i]^2` is small; the float formats ignore the
/// weights. A block whose weights are all zero counts every value alike.
///
/// # Errors
/// As [`super::quantize_row`]; weights that are not `x.len()` finite numbers of at least 0.
pub fn quantize_row_weighted(
    dtype: DType,
    x: &[f32],
    weights: &[f32],
    out: &mut [u8],
) -> Result<(), BlockError> {
    check_row(dtype, x, out.len())?;
    if weights.len() != x.len() {
        return Err(BlockError::WeightCount { expected: x.len(), found: weights.len() });
    }
    if let Some(index) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        return Err(BlockError::BadWeight { index, value: weights[index].to_string() });
    }
    let row = (x, weights);
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => quantize_row(dtype, x, out)?,
        DType::Q8_0 => each(row, out, (q8_0::quantize, q8_0::dequantize), flat::q8_0),
        DType::Q5_0 => each(row, out, (q5_0::quantize, q5_0::dequantize), flat::q5_0),
        DType::Q5_1 => each(row, out, (q5_1::quantize, q5_1::dequantize), flat::q5_1),
        DType::Q4_0 => each(row, out, (q4_0::quantize, q4_0::dequantize), flat::q4_0),
        DType::Q4_1 => each(row, out, (q4_1::quantize, q4_1::dequantize), flat::q4_1),
        DType::Q6_K => each(row, out, (q6_k::quantize, q6_k::dequantize), k::q6_k),
        DType::Q5_K => each(row, out, (q5_k::quantize, q5_k::dequantize), k::q5_k),
        DType::Q4_K => each(row, out, (q4_k::quantize, q4_k::dequantize), k::q4_k),
    }
    Ok(())
}

/// Values of a block and their weights, the largest weight 1.
struct Weighted<'a, const LEN: usize> {
    x: &'a [f32; LEN],
    w: &'a [f32; LEN],
}

impl<const LEN: usize> Weighted<'_, LEN> {
    /// Groups of `N` values with their weights.
    fn groups<const N: usize>(&self) -> impl Iterator<Item = Weighted<'_, N>> {
        let groups = self.x.as_chunks::<N>().0.iter().zip(self.w.as_chunks::<N>().0);
        groups.map(|(x, w)| Weighted { x, w })
    }

    /// `sum_i w_i (x_i - back_i)^2`.
    fn error(&self, back: &[f32; LEN]) -> f64 {
        let terms = self.x.iter().zip(self.w).zip(back);
        terms.map(|((x, w), back)| f64::from(*w) * (f64::from(*x) - f64::from(*back)).powi(2)).sum()
    }
}

type Quantize<const LEN: usize, const BYTES: usize> = fn(&[f32; LEN], &mut [u8; BYTES]);
type Dequantize<const LEN: usize, const BYTES: usize> = fn(&[u8; BYTES], &mut [f32; LEN]);

/// Takes for every block of a row the better of the reference's and the searched one.
fn each<const LEN: usize, const BYTES: usize>(
    (x, weights): (&[f32], &[f32]),
    out: &mut [u8],
    (quantize, dequantize): (Quantize<LEN, BYTES>, Dequantize<LEN, BYTES>),
    search: impl Fn(&Weighted<'_, LEN>, &mut [u8; BYTES]),
) {
    let rows = x.as_chunks::<LEN>().0.iter().zip(weights.as_chunks::<LEN>().0);
    for ((x, weights), block) in rows.zip(out.as_chunks_mut::<BYTES>().0) {
        let most = weights.iter().fold(0.0f32, |most, w| most.max(*w));
        let w = weights.map(|w| if most > 0.0 { w / most } else { 1.0 });
        let values = Weighted { x, w: &w };
        let error = |block: &[u8; BYTES]| {
            let mut back = [0.0; LEN];
            dequantize(block, &mut back);
            values.error(&back)
        };
        quantize(x, block);
        let mut searched = [0; BYTES];
        search(&values, &mut searched);
        if error(&searched) < error(block) {
            *block = searched;
        }
    }
}
