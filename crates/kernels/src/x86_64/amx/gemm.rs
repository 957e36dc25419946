//! Products of bf16 tiles: 32 rows times 32 columns of sums in four tiles; each step of K = 32 loads two tiles of `A` and
//! two of `B`, of 16 rows of 64 bytes, and multiplies each with each.
//!
//! The compiler knows no tiles, so this is assembly. The instruction treats denormal inputs and results as zero, which
//! the tolerance against the plain loops allows for.

use super::pack::{pack_a, pack_b};
use crate::ops::gemm::{PackedGemm, Tile};
use std::arch::asm;

/// Rows and columns of a block of `C`.
pub(super) const BLOCK: usize = 32;

/// Inputs rounded to bf16 while packing.
pub(crate) static BF16: PackedGemm = PackedGemm {
    rows: BLOCK,
    cols: BLOCK,
    lanes: BLOCK,
    words: |depth| depth.next_multiple_of(32) / 2,
    // A panel of B is then 32 KiB.
    block_k: 512,
    pack_a,
    pack_b,
    tile,
    enter,
    leave,
};

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures the tiles of this thread.
///
/// # Safety
/// [`has_amx`](super::has_amx) is true, or all of it but the product it tries.
unsafe fn enter() {
    // SAFETY: the CPU has the instruction (the caller's promise); it reads the 64 bytes of the configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
}

/// Gives the tiles back, so that the system has less to save.
///
/// # Safety
/// As [`enter`].
unsafe fn leave() {
    // SAFETY: the CPU has the instruction (the caller's promise).
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// One block of `C`. At an edge it goes through a copy, so that every element is summed in the same way.
///
/// # Safety
/// As [`TileFn`](crate::ops::gemm::TileFn).
unsafe fn tile(a: *const u32, b: *const u32, tile: &Tile) {
    if tile.rows == BLOCK && tile.cols == BLOCK {
        // SAFETY: the caller's promise; the block lies inside `C`.
        unsafe { whole_block(a, b, tile) };
        return;
    }
    let mut copy = [0.0f32; BLOCK * BLOCK];
    let whole = Tile { c: copy.as_mut_ptr(), c_stride: BLOCK, rows: BLOCK, cols: BLOCK, ..*tile };
    // SAFETY: the caller's promise about the rows and columns that lie inside `C`, and about the panels.
    unsafe {
        if tile.accumulate {
            for row in 0..tile.rows {
                let from = tile.c.add(row * tile.c_stride);
                std::ptr::copy_nonoverlapping(from, whole.c.add(row * BLOCK), tile.cols);
            }
        }
        whole_block(a, b, &whole);
        for row in 0..tile.rows {
            let to = tile.c.add(row * tile.c_stride);
            std::ptr::copy_nonoverlapping(whole.c.add(row * BLOCK), to, tile.cols);
        }
    }
}

/// # Safety
/// As [`tile`], for a tile of 32 rows and 32 columns.
unsafe fn whole_block(a: *const u32, b: *const u32, tile: &Tile) {
    let half = 16 * tile.words;
    // SAFETY: the panels hold two halves of 16 lanes of `tile.words` words, a multiple of 16, each; the block lies inside
    // `C`; the tiles are configured (the caller's promise).
    unsafe {
        asm!(
            "test {accumulate:e}, {accumulate:e}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {c_bytes}*1]",
            "tileloadd tmm1, [{c} + {c_bytes}*1 + 64]",
            "tileloadd tmm2, [{c_low} + {c_bytes}*1]",
            "tileloadd tmm3, [{c_low} + {c_bytes}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm6, [{b} + {row}*1]",
            "tileloadd tmm7, [{b_right} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a_low} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {a_low}, 1024",
            "add {b}, 1024",
            "add {b_right}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {c_bytes}*1], tmm0",
            "tilestored [{c} + {c_bytes}*1 + 64], tmm1",
            "tilestored [{c_low} + {c_bytes}*1], tmm2",
            "tilestored [{c_low} + {c_bytes}*1 + 64], tmm3",
            accumulate = in(reg) u32::from(tile.accumulate),
            c = in(reg) tile.c,
            c_low = in(reg) tile.c.add(16 * tile.c_stride),
            c_bytes = in(reg) 4 * tile.c_stride,
            row = in(reg) 64usize,
            a = inout(reg) a => _,
            a_low = inout(reg) a.add(half) => _,
            b = inout(reg) b => _,
            b_right = inout(reg) b.add(half) => _,
            steps = inout(reg) tile.words / 16 => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
