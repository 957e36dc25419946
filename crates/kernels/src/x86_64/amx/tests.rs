//! The layout of tiles, on any CPU with AVX-512 BF16: packed panels multiplied by a plain version of what the tile
//! instructions do. Where AMX itself is there, the tests over all kernel sets run it.

use super::super::has_avx512_bf16;
use super::gemm::{BF16, BLOCK};
use crate::ops::gemm::PackSource;

/// `C [32, 32]` from two packed panels: what tile loads of 16 rows of 64 bytes and `tdpbf16ps` compute.
fn multiply(a: &[u32], b: &[u32], words: usize) -> Vec<f32> {
    let low = |word: u32| f32::from_bits(word << 16);
    let high = |word: u32| f32::from_bits(word & 0xFFFF_0000);
    let mut c = vec![0.0; BLOCK * BLOCK];
    for step in 0..words / 16 {
        for (i, c) in c.iter_mut().enumerate() {
            let (row, col) = (i / BLOCK, i % BLOCK);
            let a = &a[row / 16 * 16 * words + step * 256 + row % 16 * 16..][..16];
            let b = &b[col / 16 * 16 * words + step * 256..][..256];
            for (k, &a) in a.iter().enumerate() {
                let b = b[16 * k + col % 16];
                *c += low(a) * low(b) + high(a) * high(b);
            }
        }
    }
    c
}

/// A view of small integers, `lanes` by `depth`.
fn source(data: &[f32], lanes: usize, depth: usize, depth_contiguous: bool) -> PackSource {
    let (lane_stride, k_stride) = if depth_contiguous { (depth, 1) } else { (1, lanes) };
    PackSource { data: data.as_ptr(), lane_stride, k_stride, lanes, depth }
}

#[test]
fn packed_panels_multiply_to_the_product() {
    if !has_avx512_bf16() {
        println!("skipped: packing for AMX needs AVX-512 BF16");
        return;
    }
    for (rows, cols) in [(32, 32), (17, 16), (5, 31), (1, 1)] {
        for depth in [1, 31, 32, 33, 64, 130] {
            for layout in 0..4 {
                let (a_contiguous, b_contiguous) = (layout & 1 == 0, layout & 2 == 0);
                let a: Vec<f32> = (0..rows * depth).map(|i| (i * 5 % 17) as f32 - 8.0).collect();
                let b: Vec<f32> = (0..cols * depth).map(|i| (i * 3 % 13) as f32 - 6.0).collect();
                let (of_a, of_b) =
                    (source(&a, rows, depth, a_contiguous), source(&b, cols, depth, b_contiguous));
                let words = (BF16.words)(depth);
                let (mut packed_a, mut packed_b) = (vec![7; BLOCK * words], vec![7; BLOCK * words]);
                // SAFETY: the CPU has AVX-512 BF16 (checked), which is all that packing needs.
                unsafe {
                    (BF16.pack_a)(&mut packed_a, BLOCK, &of_a);
                    (BF16.pack_b)(&mut packed_b, BLOCK, &of_b);
                }
                let got = multiply(&packed_a, &packed_b, words);
                for (i, got) in got.iter().enumerate() {
                    let (row, col) = (i / BLOCK, i % BLOCK);
                    let product = |k: usize| {
                        a[row * of_a.lane_stride + k * of_a.k_stride]
                            * b[col * of_b.lane_stride + k * of_b.k_stride]
                    };
                    let inside = row < rows && col < cols;
                    let want = if inside { (0..depth).map(product).sum() } else { 0.0 };
                    assert_eq!(*got, want, "[{rows}, {cols}], depth {depth}, layout {layout}, element {i}");
                }
            }
        }
    }
}
