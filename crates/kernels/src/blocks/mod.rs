//! Storage formats of weights: one file per format with its layout, quantization and dequantization.
//!
//! Layouts and roundings are those of ggml's reference quantizers, byte for byte, in plain f32 (no contraction).
//! Block formats refuse NaN and infinity; the float formats carry them (f16 rounds what exceeds 65,504 to infinity).
//! A finite value so large that a block's f16 scale overflows (beyond 65,504 steps) gives an infinite scale, as in ggml.

mod affine_k;
mod dtype;
mod error;
mod grid;
mod nibbles;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
pub(crate) mod rounding;
mod search;
#[cfg(test)]
mod tests;
mod weighted;

pub(crate) use affine_k::six_bits;
pub use dtype::DType;
pub use error::BlockError;
pub use grid::{Grid, MAX_BLOCK_LEN, read_integers, replace_integers};
pub use weighted::quantize_row_weighted;

/// Quantizes a row `x` into `out`, which must have exactly `dtype.row_bytes(x.len())` bytes.
pub fn quantize_row(dtype: DType, x: &[f32], out: &mut [u8]) -> Result<(), BlockError> {
    check_row(dtype, x, out.len())?;
    match dtype {
        DType::F32 => each(x, out, |[v], b| *b = v.to_le_bytes()),
        DType::F16 => each(x, out, |[v], b| *b = rounding::f16_bits(*v).to_le_bytes()),
        DType::BF16 => each(x, out, |[v], b| *b = rounding::bf16_bits(*v).to_le_bytes()),
        DType::Q8_0 => each(x, out, q8_0::quantize),
        DType::Q5_0 => each(x, out, q5_0::quantize),
        DType::Q5_1 => each(x, out, q5_1::quantize),
        DType::Q4_0 => each(x, out, q4_0::quantize),
        DType::Q4_1 => each(x, out, q4_1::quantize),
        DType::Q6_K => each(x, out, q6_k::quantize),
        DType::Q5_K => each(x, out, q5_k::quantize),
        DType::Q4_K => each(x, out, q4_k::quantize),
    }
    Ok(())
}

/// The values of a row: `bytes` must have exactly `dtype.row_bytes(out.len())` bytes.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), BlockError> {
    check_sizes(dtype, out.len(), bytes.len())?;
    match dtype {
        DType::F32 => each_back(bytes, out, |b, v: &mut [f32; 1]| v[0] = f32::from_le_bytes(*b)),
        DType::F16 => {
            each_back(bytes, out, |b, v: &mut [f32; 1]| v[0] = rounding::f16_value(u16::from_le_bytes(*b)))
        }
        DType::BF16 => {
            each_back(bytes, out, |b, v: &mut [f32; 1]| v[0] = rounding::bf16_value(u16::from_le_bytes(*b)))
        }
        DType::Q8_0 => each_back(bytes, out, q8_0::dequantize),
        DType::Q5_0 => each_back(bytes, out, q5_0::dequantize),
        DType::Q5_1 => each_back(bytes, out, q5_1::dequantize),
        DType::Q4_0 => each_back(bytes, out, q4_0::dequantize),
        DType::Q4_1 => each_back(bytes, out, q4_1::dequantize),
        DType::Q6_K => each_back(bytes, out, q6_k::dequantize),
        DType::Q5_K => each_back(bytes, out, q5_k::dequantize),
        DType::Q4_K => each_back(bytes, out, q4_k::dequantize),
    }
    Ok(())
}

fn check_row(dtype: DType, x: &[f32], bytes: usize) -> Result<(), BlockError> {
    check_sizes(dtype, x.len(), bytes)?;
    match x.iter().position(|v| !v.is_finite()).filter(|_| dtype.is_quantized()) {
        Some(index) => Err(BlockError::NotFinite { dtype, index, value: x[index].to_string() }),
        None => Ok(()),
    }
}

fn check_sizes(dtype: DType, len: usize, bytes: usize) -> Result<(), BlockError> {
    let expected = dtype.row_bytes(len)?;
    if bytes == expected { Ok(()) } else { Err(BlockError::ByteLength { dtype, expected, found: bytes }) }
}

/// Applies a block quantizer to every block of a row.
fn each<const LEN: usize, const BYTES: usize>(
    x: &[f32],
    out: &mut [u8],
    quantize: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let (blocks, _) = out.as_chunks_mut::<BYTES>();
    for (x, block) in x.as_chunks::<LEN>().0.iter().zip(blocks) {
        quantize(x, block);
    }
}

/// Applies a block dequantizer to every block of a row.
fn each_back<const LEN: usize, const BYTES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    dequantize: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (values, _) = out.as_chunks_mut::<LEN>();
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(values) {
        dequantize(block, values);
    }
}
