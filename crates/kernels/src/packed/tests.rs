//! Packed matrices against the stored rows, every kernel set against `scalar`, and the equalities in bits.

use super::*;
use crate::blocks::{dequantize_row, quantize_row};
use crate::{Cpu, KernelSet};

/// A small generator of uniform numbers in -1..1.
pub(super) struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next().to_bits() >> 3) as u8).collect()
    }
}

/// Output and input features that are odd in every way each format allows.
pub(super) fn shapes(dtype: DType) -> Vec<[usize; 2]> {
    let len = dtype.block_len();
    match len {
        1 => vec![[1, 1], [5, 7], [16, 32], [17, 33], [40, 100], [64, 256]],
        32 => vec![[1, 32], [5, 64], [16, 96], [17, 32], [33, 160], [50, 640], [64, 256]],
        _ => vec![[1, 256], [17, 512], [33, 256], [50, 768]],
    }
}

/// A weight with values around 0.05, as stored bytes.
pub(super) fn stored(dtype: DType, [rows, cols]: [usize; 2], numbers: &mut Numbers) -> Vec<u8> {
    let row_bytes = dtype.row_bytes(cols).unwrap();
    let mut bytes = vec![0; rows * row_bytes];
    for row in bytes.chunks_exact_mut(row_bytes) {
        let values: Vec<f32> = numbers.take(cols).iter().map(|v| v * 0.1 + 0.02).collect();
        quantize_row(dtype, &values, row).unwrap();
    }
    bytes
}

fn multiply(cpu: &Cpu, x: &[f32], w: &PackedMatrix) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / w.cols() * w.rows()];
    cpu.matmul_packed(&mut y, x, w);
    y
}

pub(super) fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn packed_rows_hold_the_stored_values() {
    let mut numbers = Numbers(1);
    for dtype in DType::ALL {
        for shape in shapes(dtype) {
            let [rows, cols] = shape;
            let bytes = stored(dtype, shape, &mut numbers);
            let w = PackedMatrix::pack(dtype, rows, cols, &bytes).unwrap();
            let row_bytes = dtype.row_bytes(cols).unwrap();
            let (mut want, mut got) = (vec![0.0; cols], vec![0.0; cols]);
            for (row, stored) in bytes.chunks_exact(row_bytes).enumerate() {
                dequantize_row(dtype, stored, &mut want).unwrap();
                w.dequantize_row(row, &mut got);
                assert_eq!(bits(&got), bits(&want), "{w:?}, row {row}");
            }
            for set in KernelSet::available() {
                for threads in [1, 2] {
                    let cpu = Cpu::new(set, threads);
                    let packed = PackedMatrix::pack_with(&cpu, dtype, shape, &bytes).unwrap();
                    let same = packed.region.bytes() == w.region.bytes();
                    assert!(same, "{w:?} packed by {threads} threads of {}", set.name());
                }
            }
        }
    }
}

/// Threads share the work by huge pages: every panel is packed wherever their borders fall.
#[test]
fn a_matrix_of_several_huge_pages_is_packed_whole() {
    let (rows, cols) = (1003, 1100);
    let values = Numbers(10).take(rows * cols);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for set in KernelSet::available() {
        let w = PackedMatrix::pack_with(&Cpu::new(set, 2), DType::F32, [rows, cols], &bytes).unwrap();
        let mut got = vec![0.0; cols];
        for (row, want) in values.chunks_exact(cols).enumerate() {
            w.dequantize_row(row, &mut got);
            assert_eq!(bits(&got), bits(want), "{}, row {row}", set.name());
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let error = PackedMatrix::pack(DType::Q4_0, 2, 32, &[0; 35]).unwrap_err();
    assert_eq!(error, BlockError::ByteLength { dtype: DType::Q4_0, expected: 36, found: 35 });
    let error = PackedMatrix::pack(DType::Q4_K, 2, 32, &[0; 36]).unwrap_err();
    assert_eq!(error, BlockError::RowLength { dtype: DType::Q4_K, len: 32 });
    assert_eq!(
        PackedMatrix::pack(DType::F32, usize::MAX, 8, &[]).unwrap_err(),
        BlockError::TooLarge { rows: usize::MAX, cols: 8 }
    );
    assert_eq!(PackedMatrix::pack(DType::F32, 0, 8, &[]).unwrap().num_bytes(), 0);
}

/// Every set must be within the error of quantized activations of plain multiplication in f64.
#[test]
fn products_are_near_plain_multiplication() {
    let mut numbers = Numbers(2);
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 1);
        for dtype in DType::ALL {
            for shape in shapes(dtype) {
                let [rows, cols] = shape;
                let bytes = stored(dtype, shape, &mut numbers);
                let w = PackedMatrix::pack(dtype, rows, cols, &bytes).unwrap();
                let x = numbers.take(3 * cols);
                let y = multiply(&cpu, &x, &w);
                let mut weights = vec![0.0; cols];
                for row in 0..rows {
                    w.dequantize_row(row, &mut weights);
                    for (m, x) in x.chunks_exact(cols).enumerate() {
                        let products = || x.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        let plain: f64 = products().sum();
                        // Half a step of amax / 127 per value, or f32 rounding.
                        let step = if dtype.is_quantized() { 0.5 / 127.0 } else { 1e-6 };
                        let bound =
                            weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() * step * 1.01 + 1e-6;
                        let got = f64::from(y[m * rows + row]);
                        assert!(
                            (got - plain).abs() <= bound,
                            "{}, {w:?}, row {m}, column {row}: {got}, plainly {plain}, bound {bound}",
                            set.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_set_gives_the_bits_of_scalar() {
    let mut numbers = Numbers(3);
    let scalar = Cpu::new(KernelSet::by_name("scalar").unwrap(), 1);
    for dtype in DType::ALL {
        for shape in shapes(dtype) {
            let [rows, cols] = shape;
            let w = PackedMatrix::pack(dtype, rows, cols, &stored(dtype, shape, &mut numbers)).unwrap();
            for m in 1..=13 {
                let x = numbers.take(m * cols);
                let want = multiply(&scalar, &x, &w);
                for set in KernelSet::available() {
                    let got = multiply(&Cpu::new(set, 1), &x, &w);
                    assert_eq!(bits(&got), bits(&want), "{}, {w:?}, {m} rows", set.name());
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_alone_in_a_batch_and_on_two_threads() {
    let mut numbers = Numbers(4);
    for set in KernelSet::available() {
        let (one, two) = (Cpu::new(set, 1), Cpu::new(set, 2));
        for dtype in DType::ALL {
            let cols = 256;
            let w = PackedMatrix::pack(dtype, 150, cols, &stored(dtype, [150, cols], &mut numbers)).unwrap();
            let x = numbers.take(29 * cols);
            let alone: Vec<f32> = x.chunks_exact(cols).flat_map(|row| multiply(&one, row, &w)).collect();
            assert_eq!(bits(&multiply(&one, &x, &w)), bits(&alone), "{}, {w:?}", set.name());
            assert_eq!(bits(&multiply(&two, &x, &w)), bits(&alone), "{}, {w:?}, two threads", set.name());
            let apart: Vec<f32> = x.chunks_exact(cols).flat_map(|row| multiply(&two, row, &w)).collect();
            assert_eq!(bits(&apart), bits(&alone), "{}, {w:?}, two threads, row by row", set.name());
        }
    }
}

#[test]
fn several_weights_at_once_equal_one_by_one() {
    let mut numbers = Numbers(5);
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 2);
        let weights: Vec<PackedMatrix> = DType::ALL
            .iter()
            .enumerate()
            .map(|(i, &dtype)| {
                let shape = [30 + 17 * i, 512];
                PackedMatrix::pack(dtype, shape[0], 512, &stored(dtype, shape, &mut numbers)).unwrap()
            })
            .collect();
        for m in [1, 9] {
            let x = numbers.take(m * 512);
            let mut together: Vec<Vec<f32>> = weights.iter().map(|w| vec![f32::NAN; m * w.rows()]).collect();
            let mut outputs: Vec<_> = together.iter_mut().map(Vec::as_mut_slice).zip(&weights).collect();
            cpu.matmul_packed_many(&mut outputs, &x);
            for (w, y) in weights.iter().zip(&together) {
                assert_eq!(bits(y), bits(&multiply(&cpu, &x, w)), "{}, {w:?}", set.name());
            }
        }
    }
}

/// Rows so long that the activations are cut into several parts, with several weights in one parallel region.
#[test]
fn parts_of_rows_and_panels_fill_the_whole_output() {
    let (m, cols) = (60, 8192);
    let mut numbers = Numbers(9);
    let weights = [(DType::Q4_0, 40), (DType::Q8_0, 70)].map(|(dtype, rows)| {
        PackedMatrix::pack(dtype, rows, cols, &stored(dtype, [rows, cols], &mut numbers)).unwrap()
    });
    let x = numbers.take(m * cols);
    // The plain loops take these sizes too slowly.
    for set in KernelSet::available().iter().filter(|set| set.name() != "scalar") {
        let cpu = Cpu::new(set, 2);
        let mut together = weights.each_ref().map(|w| vec![f32::NAN; m * w.rows()]);
        let mut outputs: Vec<_> = together.iter_mut().map(Vec::as_mut_slice).zip(&weights).collect();
        cpu.matmul_packed_many(&mut outputs, &x);
        for (w, y) in weights.iter().zip(&together) {
            let alone: Vec<f32> = x.chunks_exact(cols).flat_map(|row| multiply(&cpu, row, w)).collect();
            assert_eq!(bits(y), bits(&alone), "{}, {w:?}", set.name());
        }
    }
}

/// Bytes that no quantizer writes: all ones, all zeros, -128 in 8 bits, scales of any sign, size, infinity and NaN.
#[test]
fn extreme_bytes_give_the_bits_of_scalar() {
    let mut numbers = Numbers(6);
    let scalar = Cpu::new(KernelSet::by_name("scalar").unwrap(), 1);
    for dtype in DType::ALL {
        let cols = 512;
        let len = 33 * dtype.row_bytes(cols).unwrap();
        for bytes in [vec![0x80; len], vec![0xff; len], vec![0x7b; len], vec![0; len], numbers.bytes(len)] {
            let w = PackedMatrix::pack(dtype, 33, cols, &bytes).unwrap();
            for x in [vec![1.0; 7 * cols], vec![-1.0; 7 * cols], numbers.take(7 * cols)] {
                let want = multiply(&scalar, &x, &w);
                for set in KernelSet::available() {
                    let got = multiply(&Cpu::new(set, 1), &x, &w);
                    let same =
                        |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(want.iter().zip(&got).all(same), "{}, {w:?}, {:#x}", set.name(), bytes[0]);
                }
            }
        }
    }
}

#[test]
fn activations_of_any_size_are_defined() {
    let cols = 64;
    let bytes = stored(DType::Q8_0, [16, cols], &mut Numbers(7));
    let w = PackedMatrix::pack(DType::Q8_0, 16, cols, &bytes).unwrap();
    let scalar = Cpu::new(KernelSet::by_name("scalar").unwrap(), 1);
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 1);
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![0.5; 3 * cols];
            x[cols + 40] = special;
            let y = multiply(&cpu, &x, &w);
            assert!(y[16..32].iter().all(|v| v.is_nan()), "{special} must reach every output of its row");
            assert!(y[..16].iter().chain(&y[32..]).all(|v| v.is_finite()), "and of no other");
        }
        for size in [0.0, -0.0, 1e-45, 1e-38, 1e-30, 1e30] {
            let x: Vec<f32> = Numbers(8).take(2 * cols).iter().map(|v| v * size).collect();
            assert_eq!(
                bits(&multiply(&cpu, &x, &w)),
                bits(&multiply(&scalar, &x, &w)),
                "{}, {size}",
                set.name()
            );
        }
    }
}
