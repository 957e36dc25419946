//! The highest outputs are those of the whole product, whatever the weights and the activations.

use super::*;
use crate::KernelSet;
use crate::packed::tests::Numbers;

fn pack(dtype: DType, rows: usize, cols: usize, values: &[f32]) -> PackedMatrix {
    let row_bytes = dtype.row_bytes(cols).unwrap();
    let mut bytes = vec![0; rows * row_bytes];
    for (row, values) in bytes.chunks_exact_mut(row_bytes).zip(values.chunks_exact(cols)) {
        quantize_row(dtype, values, row).unwrap();
    }
    PackedMatrix::pack(dtype, rows, cols, &bytes).unwrap()
}

/// The indices of the `top` highest, ties to the lower one.
fn highest(y: &[f32], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..y.len()).collect();
    order.sort_by(|a, b| y[*b].total_cmp(&y[*a]).then(a.cmp(b)));
    order.truncate(top);
    order
}

#[test]
fn ten_thousand_products_have_the_same_top() {
    let (rows, cols) = (1003, 256);
    let mut numbers = Numbers(3);
    let mut read = Vec::new();
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 2);
        let rounds = if set.name() == "scalar" { 40 } else { 1_700 };
        for dtype in [DType::Q8_0, DType::Q6_K] {
            let values = numbers.take(rows * cols);
            let w = pack(dtype, rows, cols, &values);
            let screen = Screen::new(&cpu, &w).unwrap().expect("these formats have one");
            let (mut all, mut found) = (vec![0.0; rows], vec![0.0; rows]);
            for round in 0..rounds {
                // Towards one row, as a trained model's are, more or less; now and then without an aim, or with a giant.
                let aim = (numbers.next().abs() * rows as f32) as usize % rows;
                let strength = [0.5, 0.8, 1.2, 2.0, 6.0][round % 5];
                let mut x: Vec<f32> = numbers.take(cols);
                let towards = &values[aim * cols..(aim + 1) * cols];
                x.iter_mut().zip(towards).for_each(|(x, w)| *x += strength * w);
                if round % 97 == 0 {
                    x[round % cols] = 1000.0;
                }
                let top = [1, 1, 5, 40][round % 4];
                cpu.matmul_packed(&mut all, &x, &w);
                cpu.matmul_packed_top(&mut found, &x, &w, &screen, top);
                let (expected, got) = (highest(&all, top), highest(&found, top));
                assert_eq!(got, expected, "{} {dtype} round {round}, top {top}", set.name());
                assert!(got.iter().all(|i| found[*i].to_bits() == all[*i].to_bits()));
            }
            read.push(screen.share_read());
        }
    }
    assert!(read.iter().all(|share| *share < 0.9 && *share > 0.0), "some rows were left out: {read:?}");
}

#[test]
fn equal_rows_are_all_found() {
    let (rows, cols) = (100, 64);
    let values: Vec<f32> = Numbers(5).take(cols).repeat(rows);
    let w = pack(DType::Q8_0, rows, cols, &values);
    let cpu = Cpu::new(KernelSet::best().unwrap(), 1);
    let screen = Screen::new(&cpu, &w).unwrap().unwrap();
    let (mut y, mut all) = (vec![0.0; rows], vec![0.0; rows]);
    cpu.matmul_packed_top(&mut y, &values[..cols], &w, &screen, 1);
    cpu.matmul_packed(&mut all, &values[..cols], &w);
    assert_eq!(y, all);
}

#[test]
fn nan_and_infinity_are_not_hidden() {
    let (rows, cols) = (64, 64);
    let values = Numbers(6).take(rows * cols);
    let w = pack(DType::Q8_0, rows, cols, &values);
    let cpu = Cpu::new(KernelSet::best().unwrap(), 1);
    let screen = Screen::new(&cpu, &w).unwrap().unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = vec![0.5; cols];
        x[9] = bad;
        let mut y = vec![0.0; rows];
        cpu.matmul_packed_top(&mut y, &x, &w, &screen, 1);
        assert!(y.iter().all(|y| y.is_nan()), "{bad}");
    }
}

#[test]
fn random_activations_stop_the_looking() {
    let (rows, cols) = (640, 64);
    let mut numbers = Numbers(7);
    let w = pack(DType::Q8_0, rows, cols, &numbers.take(rows * cols));
    let cpu = Cpu::new(KernelSet::best().unwrap(), 1);
    let screen = Screen::new(&cpu, &w).unwrap().unwrap();
    let mut y = vec![0.0; rows];
    for _ in 0..200 {
        cpu.matmul_packed_top(&mut y, &numbers.take(cols), &w, &screen, 60);
    }
    assert!(screen.pause[1].load(Ordering::Relaxed) > 32, "{screen:?}");
    assert_eq!(screen.share_read(), 1.0);
}

#[test]
fn small_formats_have_no_screen() {
    let cpu = Cpu::new(KernelSet::best().unwrap(), 1);
    let w = pack(DType::Q4_0, 16, 32, &[0.1; 512]);
    assert!(Screen::new(&cpu, &w).unwrap().is_none());
}

#[test]
fn the_bound_holds_where_activations_point_along_the_difference() {
    let (rows, cols) = (48, 256);
    let mut numbers = Numbers(8);
    for dtype in [DType::Q8_0, DType::Q6_K] {
        let w = pack(dtype, rows, cols, &numbers.take(rows * cols));
        for set in KernelSet::available() {
            let cpu = Cpu::new(set, 1);
            let screen = Screen::new(&cpu, &w).unwrap().unwrap();
            let (mut exact, mut copy) = (vec![0.0; cols], vec![0.0; cols]);
            let (mut y, mut near) = (vec![0.0; rows], vec![0.0; rows]);
            for row in 0..rows {
                w.dequantize_row(row, &mut exact);
                screen.copy.dequantize_row(row, &mut copy);
                let x: Vec<f32> = exact.iter().zip(&copy).map(|(a, b)| 100.0 * (a - b)).collect();
                cpu.matmul_packed(&mut y, &x, &w);
                cpu.matmul_packed(&mut near, &x, &screen.copy);
                let (off, bound) = ((y[row] - near[row]).abs(), rounded_length(&x) * screen.slack[row]);
                assert!(off <= bound && off > 0.95 * bound, "{} {dtype}: {off} of {bound}", set.name());
            }
        }
    }
}
