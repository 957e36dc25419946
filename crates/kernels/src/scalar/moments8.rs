//! AdamW with moments in 8 bits (Dettmers et al., 2021, arXiv 2110.02861): a scale for each block of values, and codes
//! whose steps are fine near the largest value and coarse near zero.
//!
//! The values of the codes ("dynamic tree quantization" with seven exponents): for `e` from 0 to 6 the interval
//! `[10^(e-7), 10^(e-6)]` is cut into `2^e` equal parts for values with a sign and `2^(e+1)` for those without, and the middles
//! of the parts are values; so are 0 and 1, and with a sign all negatives but -1. That makes 256 either way; a code is the rank
//! of its value. A block is divided by its largest magnitude, then each value takes the nearest code, the lower of two
//! equally near. Different from the paper: a second moment above 0 never becomes 0, because its root is a divisor.

use crate::ops::moments8::MOMENT_BLOCK;
use crate::ops::optimizer::AdamWFactors;

use super::adamw;

/// Magnitudes in ascending order: 0, then those of the intervals, then 1.
const SIGNED: Magnitudes<129> = Magnitudes::new(0);
const UNSIGNED: Magnitudes<256> = Magnitudes::new(1);

/// Code of zero among values with a sign.
pub(crate) const SIGNED_ZERO: u8 = 127;

/// Cells of the first guess: 7 bits of the fraction of every power of two from 2^-24 up, and 1 itself.
const CELLS: usize = 24 * 128 + 1;
const FIRST_CELL: u32 = (127 - 24) << 7;

struct Magnitudes<const N: usize> {
    values: [f32; N],
    /// `boundaries[i]` lies half way between values `i` and `i + 1`; the last is never reached.
    boundaries: [f32; N],
    /// Rank of the smallest magnitude of each cell; no cell is crossed by two boundaries.
    ranks: [u8; CELLS],
}

impl<const N: usize> Magnitudes<N> {
    const fn new(doublings: u32) -> Self {
        let (mut values, mut next, mut exponent) = ([0.0; N], 1, 0);
        let mut low = 1e-7;
        while exponent < 7 {
            let parts = 1usize << (exponent + doublings);
            let mut part = 0;
            while part < parts {
                // The interval reaches from `low` to `10 low`.
                values[next] = (low * (1.0 + 9.0 * (part as f64 + 0.5) / parts as f64)) as f32;
                (next, part) = (next + 1, part + 1);
            }
            low *= 10.0;
            exponent += 1;
        }
        values[next] = 1.0;
        assert!(next + 1 == N, "the intervals fill the table");
        let mut table = Self { values, boundaries: [f32::INFINITY; N], ranks: [0; CELLS] };
        let mut rank = 0;
        while rank + 1 < N {
            table.boundaries[rank] = 0.5 * (table.values[rank] + table.values[rank + 1]);
            rank += 1;
        }
        table.fill_ranks();
        table
    }

    const fn fill_ranks(&mut self) {
        let (mut cell, mut rank) = (0, 0);
        while cell < CELLS {
            let smallest = f32::from_bits((FIRST_CELL + cell as u32) << 16);
            while smallest > self.boundaries[rank] {
                rank += 1;
            }
            self.ranks[cell] = rank as u8;
            cell += 1;
        }
    }

    /// Rank of the magnitude nearest to `x`, 0 to 1.
    #[inline(always)]
    fn rank(&self, x: f32) -> usize {
        let cell = (x.to_bits() >> 16).saturating_sub(FIRST_CELL) as usize;
        let rank = usize::from(self.ranks[cell.min(CELLS - 1)]);
        rank + usize::from(x > self.boundaries[rank])
    }
}

/// Both moments of up to one block.
pub(crate) struct Block<'a> {
    pub codes: [&'a mut [u8]; 2],
    pub scales: [&'a mut f32; 2],
}

/// A step on up to [`MOMENT_BLOCK`] elements.
#[inline(always)]
pub(crate) fn adamw8(param: &mut [f32], grad: &[f32], block: Block<'_>, factors: &AdamWFactors) {
    let len = param.len();
    let ([mut m, mut v], Block { codes: [m_codes, v_codes], scales: [m_scale, v_scale] }) =
        ([[0.0; MOMENT_BLOCK]; 2], block);
    let (m, v) = (&mut m[..len], &mut v[..len]);
    for (m, code) in m.iter_mut().zip(&*m_codes) {
        *m = *m_scale * signed_value(*code);
    }
    for (v, code) in v.iter_mut().zip(&*v_codes) {
        *v = *v_scale * UNSIGNED.values[usize::from(*code)];
    }
    adamw(param, grad, m, v, factors);
    *m_scale = largest(m);
    *v_scale = largest(v);
    for (code, m) in m_codes.iter_mut().zip(&*m) {
        *code = signed_code(share(*m, *m_scale));
    }
    for (code, v) in v_codes.iter_mut().zip(&*v) {
        *code = (UNSIGNED.rank(share(*v, *v_scale)) as u8).max(u8::from(*v > 0.0));
    }
}

/// What part of the largest magnitude a value is; 0 of 0.
#[inline(always)]
fn share(value: f32, largest: f32) -> f32 {
    if largest > 0.0 { value / largest } else { 0.0 }
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| if value.abs() > largest { value.abs() } else { largest })
}

#[inline(always)]
fn signed_value(code: u8) -> f32 {
    let rank = usize::from(code.abs_diff(SIGNED_ZERO));
    if code < SIGNED_ZERO { -SIGNED.values[rank] } else { SIGNED.values[rank] }
}

#[inline(always)]
fn signed_code(x: f32) -> u8 {
    let rank = SIGNED.rank(x.abs()) as u8;
    if x < 0.0 { SIGNED_ZERO - rank.min(SIGNED_ZERO) } else { SIGNED_ZERO + rank }
}

/// The values of the 256 codes, with or without a sign.
pub(crate) fn code_values(signed: bool) -> [f32; 256] {
    std::array::from_fn(|code| if signed { signed_value(code as u8) } else { UNSIGNED.values[code] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_own_code_and_what_lies_between_the_nearest() {
        for signed in [true, false] {
            let values = code_values(signed);
            assert!(values.is_sorted() && values[255] == 1.0);
            let code = |x: f32| if signed { signed_code(x) } else { UNSIGNED.rank(x) as u8 };
            for (index, pair) in values.windows(2).enumerate() {
                assert_eq!(usize::from(code(pair[0])), index, "{}", pair[0]);
                for part in 1..100 {
                    let x = pair[0] + (pair[1] - pair[0]) * part as f32 / 100.0;
                    let nearest = if x - pair[0] < pair[1] - x { index } else { index + 1 };
                    let error = code(x).abs_diff(nearest as u8);
                    assert!(error == 0 || part == 50, "{x}: code {}, nearest {nearest}", code(x));
                }
            }
        }
        // The one negative without a value of its own.
        assert_eq!(signed_code(-1.0), 0);
    }
}
