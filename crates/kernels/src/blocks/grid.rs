//! A block as a grid: what its integers stand for while its scales stay, so that integers can be chosen one at a time.

use super::affine_k::{six_bits, super_scales};
use super::rounding::{f16_value, read_u16};
use super::{BlockError, DType, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

/// Most values that a block has.
pub const MAX_BLOCK_LEN: usize = 256;

/// Value `i` of a block is `steps[i] * q + offsets[i]` for an integer `q` of `0..=levels`.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Distance of neighbouring values, of either sign; 0 where all integers mean the same.
    pub steps: [f32; MAX_BLOCK_LEN],
    /// Value of the integer 0.
    pub offsets: [f32; MAX_BLOCK_LEN],
    /// Greatest integer.
    pub levels: u8,
}

impl Default for Grid {
    fn default() -> Self {
        Self { steps: [0.0; MAX_BLOCK_LEN], offsets: [0.0; MAX_BLOCK_LEN], levels: 0 }
    }
}

impl Grid {
    /// Reads the scales of one block; only the first `dtype.block_len()` values are set.
    ///
    /// # Errors
    /// Bytes that are not one block, or a format without scales.
    pub fn read(&mut self, dtype: DType, block: &[u8]) -> Result<(), BlockError> {
        check(dtype, block.len(), dtype.block_len())?;
        let f16_at = |at: usize| f16_value(read_u16(block, at));
        match dtype {
            DType::Q8_0 => self.even(f16_at(0), -127.0 * f16_at(0), 254),
            DType::Q5_0 => self.even(f16_at(0), -16.0 * f16_at(0), 31),
            DType::Q4_0 => self.even(f16_at(0), -8.0 * f16_at(0), 15),
            DType::Q5_1 => self.even(f16_at(0), f16_at(2), 31),
            DType::Q4_1 => self.even(f16_at(0), f16_at(2), 15),
            DType::Q6_K => {
                let block: &[u8; q6_k::BYTES] = block.try_into().expect("the length was checked");
                let d = f16_value(q6_k::super_scale(block));
                for (s, scale) in q6_k::scales(block).into_iter().enumerate() {
                    let step = d * f32::from(scale);
                    self.steps[16 * s..16 * s + 16].fill(step);
                    self.offsets[16 * s..16 * s + 16].fill(-32.0 * step);
                }
                self.levels = 63;
            }
            _ => {
                let ((d, dmin), (scales, mins)) = (super_scales(block), six_bits(block));
                for s in 0..8 {
                    self.steps[32 * s..32 * s + 32].fill(d * f32::from(scales[s]));
                    self.offsets[32 * s..32 * s + 32].fill(-(dmin * f32::from(mins[s])));
                }
                self.levels = if dtype == DType::Q4_K { 15 } else { 31 };
            }
        }
        Ok(())
    }

    fn even(&mut self, step: f32, offset: f32, levels: u8) {
        self.steps[..32].fill(step);
        self.offsets[..32].fill(offset);
        self.levels = levels;
    }

    /// The integer nearest to `x` at place `i`.
    #[inline]
    pub fn nearest(&self, i: usize, x: f32) -> u8 {
        let step = self.steps[i];
        let q = if step == 0.0 { 0.0 } else { (x - self.offsets[i]) / step };
        q.round_ties_even().clamp(0.0, f32::from(self.levels)) as u8
    }

    /// The value of an integer at place `i`.
    #[inline]
    pub fn value(&self, i: usize, q: u8) -> f32 {
        self.steps[i] * f32::from(q) + self.offsets[i]
    }
}

/// Writes integers of `0..=levels` into a block and leaves its scales.
///
/// # Errors
/// Sizes that are not those of one block, or a format without integers.
pub fn replace_integers(dtype: DType, block: &mut [u8], q: &[u8]) -> Result<(), BlockError> {
    check(dtype, block.len(), q.len())?;
    match dtype {
        DType::Q8_0 => replace(block, q, q8_0::replace_integers),
        DType::Q5_0 => replace(block, q, q5_0::replace_integers),
        DType::Q5_1 => replace(block, q, q5_1::replace_integers),
        DType::Q4_0 => replace(block, q, q4_0::replace_integers),
        DType::Q4_1 => replace(block, q, q4_1::replace_integers),
        DType::Q6_K => replace(block, q, q6_k::replace_integers),
        DType::Q5_K => replace(block, q, q5_k::replace_integers),
        _ => replace(block, q, q4_k::replace_integers),
    }
    Ok(())
}

fn replace<const LEN: usize, const BYTES: usize>(
    block: &mut [u8],
    q: &[u8],
    write: impl Fn(&mut [u8; BYTES], &[u8; LEN]),
) {
    if let (Ok(block), Ok(q)) = (block.try_into(), q.try_into()) {
        write(block, q);
    }
}

/// The integers `0..=levels` of a block.
///
/// # Errors
/// As [`replace_integers`].
pub fn read_integers(dtype: DType, block: &[u8], q: &mut [u8]) -> Result<(), BlockError> {
    check(dtype, block.len(), q.len())?;
    match dtype {
        DType::Q8_0 => read(block, q, |block| q8_0::integers(block).map(|q| (i16::from(q) + 127) as u8)),
        DType::Q5_0 => read(block, q, q5_0::integers),
        DType::Q5_1 => read(block, q, q5_1::integers),
        DType::Q4_0 => read(block, q, q4_0::integers),
        DType::Q4_1 => read(block, q, q4_1::integers),
        DType::Q6_K => read(block, q, q6_k::integers),
        DType::Q5_K => read(block, q, q5_k::integers),
        _ => read(block, q, q4_k::integers),
    }
    Ok(())
}

fn read<const LEN: usize, const BYTES: usize>(
    block: &[u8],
    q: &mut [u8],
    integers: impl Fn(&[u8; BYTES]) -> [u8; LEN],
) {
    if let Ok(block) = block.try_into() {
        q.copy_from_slice(&integers(block));
    }
}

fn check(dtype: DType, bytes: usize, len: usize) -> Result<(), BlockError> {
    if !dtype.is_quantized() {
        return Err(BlockError::NoGrid { dtype });
    }
    if len != dtype.block_len() {
        return Err(BlockError::RowLength { dtype, len });
    }
    let expected = dtype.block_bytes();
    if bytes == expected { Ok(()) } else { Err(BlockError::ByteLength { dtype, expected, found: bytes }) }
}

#[cfg(test)]
mod tests;
