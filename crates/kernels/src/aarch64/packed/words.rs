//! A word of each lane of a panel in four NEON registers, for packing.

use crate::blocks::DType;
use crate::packed::interleave::{Words, pack_with};
use std::arch::aarch64::*;

/// Packs up to 16 rows into a zeroed panel.
#[target_feature(enable = "neon")]
pub(super) fn pack(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    // SAFETY: this function has the instructions.
    unsafe { pack_with::<Lanes>(dtype, rows, row_bytes, panel) }
}

/// 16 words, four lanes in each register.
#[derive(Clone, Copy)]
struct Lanes([uint32x4_t; 4]);

/// Four words of 4 rows.
///
/// # Safety
/// NEON; 16 bytes lie at `first` and at 3 more rows.
#[inline(always)]
unsafe fn load_quarter(first: *const u8, row_bytes: usize) -> [uint32x4_t; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [vdupq_n_u32(0); 4];
        for (l, row) in rows.iter_mut().enumerate() {
            *row = vreinterpretq_u32_u8(vld1q_u8(first.add(l * row_bytes)));
        }
        // Rows 0 and 2, and rows 1 and 3, word by word.
        let [a, b] = [vzip1q_u32(rows[0], rows[2]), vzip2q_u32(rows[0], rows[2])];
        let [c, d] = [vzip1q_u32(rows[1], rows[3]), vzip2q_u32(rows[1], rows[3])];
        [vzip1q_u32(a, c), vzip2q_u32(a, c), vzip1q_u32(b, d), vzip2q_u32(b, d)]
    }
}

impl Words for Lanes {
    #[inline(always)]
    unsafe fn load(first: *const u8, row_bytes: usize) -> [Self; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut words = [Self([vdupq_n_u32(0); 4]); 4];
            for quarter in 0..4 {
                let loaded = load_quarter(first.add(4 * quarter * row_bytes), row_bytes);
                for (word, lanes) in words.iter_mut().zip(loaded) {
                    word.0[quarter] = lanes;
                }
            }
            words
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        for (quarter, lanes) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { vst1q_u8(to.add(16 * quarter), vreinterpretq_u8_u32(lanes)) };
        }
    }

    #[inline(always)]
    unsafe fn store_halves(self, to: *mut u8) {
        for (quarter, lanes) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { vst1_u8(to.add(8 * quarter), vreinterpret_u8_u16(vmovn_u32(lanes))) };
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut bytes = [vdupq_n_u8(0); 4];
            for (bytes, lanes) in bytes.iter_mut().zip(self.0) {
                *bytes = vreinterpretq_u8_u32(lanes);
            }
            // Bytes 0 and 2 of eight lanes, then their bytes 1 and 3.
            let even = [vuzp1q_u8(bytes[0], bytes[1]), vuzp1q_u8(bytes[2], bytes[3])];
            let odd = [vuzp2q_u8(bytes[0], bytes[1]), vuzp2q_u8(bytes[2], bytes[3])];
            vst1q_u8(to, vuzp1q_u8(even[0], even[1]));
            vst1q_u8(to.add(16), vuzp1q_u8(odd[0], odd[1]));
            vst1q_u8(to.add(32), vuzp2q_u8(even[0], even[1]));
            vst1q_u8(to.add(48), vuzp2q_u8(odd[0], odd[1]));
        }
    }

    #[inline(always)]
    unsafe fn and(mut self, mask: u32) -> Self {
        for lanes in &mut self.0 {
            // SAFETY: the caller has the instructions.
            *lanes = unsafe { vandq_u32(*lanes, vdupq_n_u32(mask)) };
        }
        self
    }

    #[inline(always)]
    unsafe fn or(mut self, other: Self) -> Self {
        for (lanes, other) in self.0.iter_mut().zip(other.0) {
            // SAFETY: the caller has the instructions.
            *lanes = unsafe { vorrq_u32(*lanes, other) };
        }
        self
    }

    #[inline(always)]
    unsafe fn xor(mut self, mask: u32) -> Self {
        for lanes in &mut self.0 {
            // SAFETY: the caller has the instructions.
            *lanes = unsafe { veorq_u32(*lanes, vdupq_n_u32(mask)) };
        }
        self
    }

    #[inline(always)]
    unsafe fn shl(mut self, bits: u32) -> Self {
        for lanes in &mut self.0 {
            // SAFETY: the caller has the instructions.
            *lanes = unsafe { vshlq_u32(*lanes, vdupq_n_s32(bits as i32)) };
        }
        self
    }

    #[inline(always)]
    unsafe fn shr(mut self, bits: u32) -> Self {
        for lanes in &mut self.0 {
            // SAFETY: the caller has the instructions. A negative shift is one to the right.
            *lanes = unsafe { vshlq_u32(*lanes, vdupq_n_s32(-(bits as i32))) };
        }
        self
    }
}
