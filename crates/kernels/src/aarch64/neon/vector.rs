//! Vectors of 4 f32.

use crate::simd::attention::{Product, multiply_in};
use crate::simd::{Element, Simd};
use half::f16;
use std::arch::aarch64::*;
use std::arch::asm;

/// Proof that the CPU has what the set `neon` needs.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// [`has_neon`](super::super::has_neon) is true.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Operations that are one intrinsic.
macro_rules! operations {
    ($($name:ident($($x:ident),*) = $intrinsic:ident($($y:ident),*);)*) => { $(
        #[inline(always)]
        fn $name(self, $($x: Self::F32),*) -> Self::F32 {
            // SAFETY: `self` proves that the CPU has the instruction.
            unsafe { $intrinsic($($y),*) }
        }
    )* };
}

impl Simd for Neon {
    type F32 = float32x4_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    operations! {
        add(a, b) = vaddq_f32(a, b);
        sub(a, b) = vsubq_f32(a, b);
        mul(a, b) = vmulq_f32(a, b);
        div(a, b) = vdivq_f32(a, b);
        mul_add(a, b, c) = vfmaq_f32(c, a, b);
        neg_mul_add(a, b, c) = vfmsq_f32(c, a, b);
        round(x) = vrndnq_f32(x);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves that the CPU has the instructions. (`fmax` would give NaN where `a` alone is NaN.)
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn scale_by_power(self, x: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn zero_where_less(self, x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(a, b))) }
    }

    #[inline(always)]
    fn sum(self, x: float32x4_t) -> f32 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { vaddvq_f32(x) }
    }

    #[inline(always)]
    fn largest(self, x: float32x4_t) -> f32 {
        // SAFETY: `self` proves that the CPU has the instruction.
        unsafe { vmaxvq_f32(x) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch of any address has no effect that a program can see.
        unsafe {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags))
        };
    }

    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn load_f16_ptr(self, from: *const f16) -> float32x4_t {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instruction.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8_ptr(self, from: *const i8) -> float32x4_t {
        // SAFETY: four bytes, as the caller promises, are read; `self` proves that the CPU has the instructions.
        unsafe {
            let bytes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }

    #[inline(always)]
    unsafe fn load_first_ptr(self, from: *const f32, count: usize) -> float32x4_t {
        // SAFETY: `count` elements, as the caller promises, are read.
        unsafe {
            let zeros = vdupq_n_f32(0.0);
            match count {
                0 => zeros,
                1 => vld1q_lane_f32::<0>(from, zeros),
                2 => vcombine_f32(vld1_f32(from), vget_low_f32(zeros)),
                _ => vld1q_lane_f32::<2>(from.add(2), vcombine_f32(vld1_f32(from), vget_low_f32(zeros))),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: float32x4_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, x) }
    }

    #[inline(always)]
    unsafe fn store_first_ptr(self, to: *mut f32, count: usize, x: float32x4_t) {
        // SAFETY: `count` elements, as the caller promises, are written.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(to, x),
                2 => vst1_f32(to, vget_low_f32(x)),
                _ => {
                    vst1_f32(to, vget_low_f32(x));
                    vst1q_lane_f32::<2>(to.add(2), x);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose_ptr(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let row = |i: usize| vld1q_f32(from.add(i * from_stride));
            let rows = [row(0), row(1), row(2), row(3)];
            for (i, row) in transpose(rows).into_iter().enumerate() {
                vst1q_f32(to.add(i * to_stride), row);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<B: Element>(self, product: &mut Product<'_, B>) {
        // SAFETY: the caller's promise; `self` proves that the CPU has the instructions.
        unsafe { multiply(product) };
    }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(rows: [float32x4_t; 4]) -> [float32x4_t; 4] {
    let wide = |x| vreinterpretq_f64_f32(x);
    // Elements 0 and 2, then 1 and 3, of two rows side by side.
    let (even, odd) = (wide(vtrn1q_f32(rows[0], rows[1])), wide(vtrn2q_f32(rows[0], rows[1])));
    let (even_below, odd_below) = (wide(vtrn1q_f32(rows[2], rows[3])), wide(vtrn2q_f32(rows[2], rows[3])));
    [
        vreinterpretq_f32_f64(vtrn1q_f64(even, even_below)),
        vreinterpretq_f32_f64(vtrn1q_f64(odd, odd_below)),
        vreinterpretq_f32_f64(vtrn2q_f64(even, even_below)),
        vreinterpretq_f32_f64(vtrn2q_f64(odd, odd_below)),
    ]
}

/// A product of small matrices, once in the program rather than in every kernel that needs one.
///
/// # Safety
/// All elements that its shape and strides name lie inside its slices.
#[target_feature(enable = "neon")]
unsafe fn multiply<B: Element>(product: &mut Product<'_, B>) {
    // SAFETY: compiled for, and so only called on, a CPU with NEON; the caller's promise.
    unsafe { multiply_in(Neon::new(), product) };
}
