//! Whether AMX can be used: the CPU has it, the system saves its state, grants it to this process, and a product of
//! small integers comes out right.

use super::gemm;
use crate::ops::gemm::{Ahead, PackSource, Tile};
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// CPUID leaf 7, EDX: bf16 products, tiles.
const AMX_BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
/// XCR0: the system saves the tile configuration and the tiles.
const TILE_STATE: u64 = 1 << 17 | 1 << 18;

/// What the set `amx` may use besides what `avx512-bf16` may.
pub(crate) fn has_amx() -> bool {
    super::super::has_avx512_bf16() && cpu_and_system_have_tiles() && permitted() && multiplies_correctly()
}

fn cpu_and_system_have_tiles() -> bool {
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & AMX_BF16_AND_TILE != AMX_BF16_AND_TILE {
        return false;
    }
    // SAFETY: the caller found AVX-512 usable, so the system has switched on the instruction that reads XCR0.
    unsafe { extended_state() & TILE_STATE == TILE_STATE }
}

/// XCR0.
#[target_feature(enable = "xsave")]
fn extended_state() -> u64 {
    // SAFETY: compiled for, and so only called on, a CPU with XSAVE.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tile state, which it grants to a process once; its threads have it too.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: this system call reads and writes no memory of the process; the kernel overwrites rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems are not known to grant it.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Compares a product of small integers, which is exact in bf16 and f32, with plain loops: whole tiles, an edge, sums
/// added to what is there. It guards against an emulator or a system that has the instructions and gets them wrong.
fn multiplies_correctly() -> bool {
    const DEPTH: usize = 70;
    [(32, 32), (5, 19)].iter().all(|&(rows, cols)| {
        let value = |i: usize| (i * 7 % 11) as f32 - 5.0;
        let a: Vec<f32> = (0..rows * DEPTH).map(value).collect();
        let b: Vec<f32> = (0..DEPTH * cols).map(value).collect();
        let mut c: Vec<f32> = (0..rows * cols).map(value).collect();
        let mut want = c.clone();
        for (i, want) in want.iter_mut().enumerate() {
            let (row, col) = (i / cols, i % cols);
            *want += (0..DEPTH).map(|k| a[row * DEPTH + k] * b[k * cols + col]).sum::<f32>();
        }
        let words = (gemm::BF16.words)(DEPTH);
        let (mut packed_a, mut packed_b) = (vec![0; 32 * words], vec![0; 32 * words]);
        let of_a =
            PackSource { data: a.as_ptr(), lane_stride: DEPTH, k_stride: 1, lanes: rows, depth: DEPTH };
        let of_b = PackSource { data: b.as_ptr(), lane_stride: 1, k_stride: cols, lanes: cols, depth: DEPTH };
        let (accumulate, ahead) = (true, Ahead { line: packed_b.as_ptr(), count: 0 });
        let tile = Tile { words, c: c.as_mut_ptr(), c_stride: cols, rows, cols, accumulate, ahead };
        // SAFETY: the CPU and the system have AMX and grant it (checked by the caller before this); the sources and
        // `c` have the shapes given, the panels the sizes.
        unsafe {
            (gemm::BF16.pack_a)(&mut packed_a, 32, &of_a);
            (gemm::BF16.pack_b)(&mut packed_b, 32, &of_b);
            (gemm::BF16.enter)();
            (gemm::BF16.tile)(packed_a.as_ptr(), packed_b.as_ptr(), &tile);
            (gemm::BF16.leave)();
        }
        c == want
    })
}
