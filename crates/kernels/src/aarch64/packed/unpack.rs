//! How a quarter of a panel of a block format becomes bytes, scales and minima in NEON registers.

use super::QUARTER;
use crate::packed::layout::{BYTE_MINS, BYTE_SCALES, Format, HALVES, LANES, Scales, VECTOR};
use std::arch::aarch64::*;

/// Groups `2 I` and `2 I + 1` of a quarter of a block, as unsigned bytes.
///
/// # Safety
/// NEON; a block of the format lies at `data`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn unpack<F: Format, const I: usize>(data: *const u8, quarter: usize) -> [uint8x16_t; 2] {
    let layout = F::LAYOUT;
    // SAFETY: the vectors read are those of the layout, inside the block.
    let vector = |i: usize| unsafe { vld1q_u8(data.add(VECTOR * i + VECTOR / 4 * quarter)) };
    if layout.bits == 8 {
        return [vector(2 * I), vector(2 * I + 1)];
    }
    let pair = vector(layout.upper_bytes() / VECTOR + I);
    let (low, high) = (vandq_u8(pair, vdupq_n_u8(15)), vshrq_n_u8::<4>(pair));
    let join = |low, upper, mask| vorrq_u8(low, vandq_u8(upper, vdupq_n_u8(mask)));
    match layout.bits {
        5 => {
            let upper = vector(0);
            let (first, second) = match I {
                0 => (vshlq_n_u8::<4>(upper), vshlq_n_u8::<3>(upper)),
                1 => (vshlq_n_u8::<2>(upper), vshlq_n_u8::<1>(upper)),
                2 => (upper, vshrq_n_u8::<1>(upper)),
                _ => (vshrq_n_u8::<2>(upper), vshrq_n_u8::<3>(upper)),
            };
            [join(low, first, 16), join(high, second, 16)]
        }
        6 => {
            let upper = vector(I / 2);
            let (first, second) = match I % 2 {
                0 => (vshlq_n_u8::<4>(upper), vshlq_n_u8::<2>(upper)),
                _ => (upper, vshrq_n_u8::<2>(upper)),
            };
            [join(low, first, 48), join(high, second, 48)]
        }
        _ => [low, high],
    }
}

/// [`unpack`], with bytes of 8-bit formats as the signed integers they stand for; smaller ones are the same either way.
///
/// # Safety
/// As [`unpack`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn unpack_signed<F: Format, const I: usize>(
    data: *const u8,
    quarter: usize,
) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { unpack::<F, I>(data, quarter) };
    if F::LAYOUT.bits == 8 {
        return bytes.map(|bytes| vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128))));
    }
    bytes.map(|bytes| vreinterpretq_s8_u8(bytes))
}

/// The scales of part `part` of block `slot`, 4 lanes of a quarter.
///
/// # Safety
/// NEON; a unit of the format lies at `unit`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn scale<F: Format>(
    unit: *const u8,
    slot: usize,
    part: usize,
    quarter: usize,
) -> float32x4_t {
    // SAFETY: inside the head.
    unsafe {
        match F::LAYOUT.scales {
            Scales::Plain | Scales::WithMin => halves(unit, slot, quarter),
            Scales::SuperWithMin => {
                let scales = unsigned_bytes(unit.add(BYTE_SCALES + LANES * slot + QUARTER * quarter));
                vmulq_f32(halves(unit, 0, quarter), scales)
            }
            Scales::Super16 => {
                let at = unit.add(BYTE_SCALES + LANES * (2 * slot + part) + QUARTER * quarter);
                let shorts = vget_low_s16(vmovl_s8(vcreate_s8(at.cast::<u32>().read_unaligned().into())));
                vmulq_f32(halves(unit, 0, quarter), vcvtq_f32_s32(vmovl_s16(shorts)))
            }
        }
    }
}

/// The minima of block `slot`, 4 lanes of a quarter.
///
/// # Safety
/// NEON; a unit of a format with minima lies at `unit`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn minimum<F: Format>(unit: *const u8, slot: usize, quarter: usize) -> float32x4_t {
    // SAFETY: inside the head.
    unsafe {
        if F::LAYOUT.scales == Scales::WithMin {
            return halves(unit, 2 + slot, quarter);
        }
        let mins = unsigned_bytes(unit.add(BYTE_MINS + LANES * slot + QUARTER * quarter));
        vnegq_f32(vmulq_f32(halves(unit, 1, quarter), mins))
    }
}

/// 4 bytes as f32.
///
/// # Safety
/// NEON; 4 bytes lie at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn unsigned_bytes(at: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    let bytes = unsafe { at.cast::<u32>().read_unaligned() };
    vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes.into())))))
}

/// A quarter of the `at`-th row of f16 of a head.
///
/// # Safety
/// NEON; the head has that row.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn halves(unit: *const u8, at: usize, quarter: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe { four_halves(unit.add(HALVES * at + HALVES / 4 * quarter)) }
}

/// 4 f16 as f32.
///
/// # Safety
/// NEON; 4 f16 lie at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn four_halves(at: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at.cast()))) }
}
