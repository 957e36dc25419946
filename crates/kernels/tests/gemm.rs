//! Matrix products of every kernel set against the plain loops: shapes with every kind of edge, views, both precisions.

mod common;

use common::{Rng, assert_close, assert_same_bits, cpus};
use shakti_kernels::{Cpu, KernelSet, MatMut, MatRef, Precision};

/// Rows, columns and depth: ones, primes, exact panels, one more and one less, several blocks and chunks of depth.
const SHAPES: [(usize, usize, usize); 24] = [
    (1, 1, 1),
    (1, 7, 3),
    (3, 1, 5),
    (2, 5, 1),
    (4, 24, 8),
    (8, 48, 16),
    (8, 48, 32),
    (7, 47, 31),
    (9, 49, 33),
    (16, 32, 64),
    (5, 16, 256),
    (13, 65, 257),
    (33, 97, 511),
    (32, 64, 512),
    (31, 17, 513),
    (1, 300, 700),
    (300, 1, 100),
    (150, 70, 90),
    (17, 19, 2500),
    (6, 2200, 40),
    (3, 9, 4500),
    (70, 160, 320),
    (600, 112, 160),
    (20, 1000, 288),
];

/// How the three matrices lie in memory.
#[derive(Debug, Clone, Copy)]
struct Layout {
    a_transposed: bool,
    b_transposed: bool,
    /// Elements between rows beyond what the rows need, for all three.
    gap: usize,
}

const LAYOUTS: [Layout; 5] = [
    Layout { a_transposed: false, b_transposed: true, gap: 0 },
    Layout { a_transposed: false, b_transposed: false, gap: 0 },
    Layout { a_transposed: true, b_transposed: false, gap: 0 },
    Layout { a_transposed: true, b_transposed: true, gap: 3 },
    Layout { a_transposed: false, b_transposed: false, gap: 5 },
];

/// A view of `rows` x `cols` of `data`, which is a whole number of stored rows.
fn view(data: &[f32], rows: usize, cols: usize, transposed: bool, gap: usize) -> MatRef<'_> {
    let (stored_rows, stored_cols) = if transposed { (cols, rows) } else { (rows, cols) };
    let stored = MatRef { row_stride: stored_cols + gap, ..MatRef::new(data, stored_rows, stored_cols) };
    if transposed { stored.t() } else { stored }
}

struct Problem {
    shape: (usize, usize, usize),
    layout: Layout,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Problem {
    fn new(shape: (usize, usize, usize), layout: Layout) -> Self {
        let (m, n, k) = shape;
        let mut rng = Rng((m * 1_000_000 + n * 1000 + k) as u64);
        let stored = |rows: usize, cols: usize| rows * cols + (rows.max(cols) - 1) * layout.gap;
        let (a, b) = (rng.values(stored(m, k)), rng.values(stored(k, n)));
        Self { shape, layout, a, b, c: rng.values(m * (n + layout.gap)) }
    }

    fn run(&self, cpu: &Cpu, precision: Precision, accumulate: bool) -> Vec<f32> {
        let (m, n, k) = self.shape;
        let Layout { a_transposed, b_transposed, gap } = self.layout;
        let mut c = self.c.clone();
        let out = MatMut { row_stride: n + gap, ..MatMut::new(&mut c, m, n) };
        let (a, b) = (view(&self.a, m, k, a_transposed, gap), view(&self.b, k, n, b_transposed, gap));
        cpu.gemm(precision, accumulate, out, a, b);
        c
    }
}

#[test]
fn every_set_agrees_with_scalar_and_with_itself_on_more_threads() {
    let scalar = Cpu::new(KernelSet::by_name("scalar").expect("always there"), 2);
    for (one, (two, three)) in cpus(1).into_iter().zip(cpus(2).into_iter().zip(cpus(3))) {
        for shape in SHAPES {
            for layout in LAYOUTS {
                let problem = Problem::new(shape, layout);
                for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
                    for accumulate in [false, true] {
                        let what =
                            format!("{:?} {precision:?} {shape:?} {layout:?} {accumulate}", one.kernels);
                        let want = problem.run(&scalar, precision, accumulate);
                        let got = problem.run(&one, precision, accumulate);
                        // Sums of K products of numbers up to 1: a unit of 2^-24 of the sum of magnitudes for the
                        // order of summation, times 8.
                        let tolerance = 8.0 * (shape.2 as f32 + 1.0) / (1 << 24) as f32;
                        assert_close(&what, &got, &want, tolerance, 0.0);
                        assert_same_bits(&what, &problem.run(&two, precision, accumulate), &got);
                        assert_same_bits(&what, &problem.run(&three, precision, accumulate), &got);
                    }
                }
            }
        }
    }
}

#[test]
fn elements_do_not_depend_on_the_rows_and_columns_beside_them() {
    for cpu in cpus(2) {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
            let (m, n, k) = (29, 83, 700);
            let (a, b) = (Rng(1).values(m * k), Rng(2).values(k * n));
            let mut whole = vec![0.0; m * n];
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            cpu.gemm(precision, false, MatMut::new(&mut whole, m, n), a, b);
            for (row, col) in [(0, 0), (7, 47), (8, 48), (28, 82), (13, 64)] {
                let mut one = [0.0];
                let a = MatRef { data: &a.data[row * k..], rows: 1, ..a };
                let b = MatRef { data: &b.data[col..], cols: 1, ..b };
                cpu.gemm(precision, false, MatMut::new(&mut one, 1, 1), a, b);
                assert_same_bits(
                    &format!("{cpu:?} {precision:?} {row} {col}"),
                    &one,
                    &[whole[row * n + col]],
                );
            }
        }
    }
}

#[test]
fn scalar_is_the_sum_of_products_and_bf16_rounds_the_inputs() {
    let scalar = Cpu::new(KernelSet::by_name("scalar").expect("always there"), 1);
    let (m, n, k) = (4, 5, 30);
    let (a, b) = (Rng(3).values(m * k), Rng(4).values(k * n));
    // bf16 keeps 8 bits of the significand.
    let rounded = |x: f32| {
        let unit = 2f64.powi(f64::from(x).abs().log2().floor() as i32 - 7);
        (f64::from(x) / unit).round_ties_even() * unit
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let value = |x: f32| if precision == Precision::F32 { f64::from(x) } else { rounded(x) };
        let mut c = vec![0.0; m * n];
        let (a_view, b_view) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        scalar.gemm(precision, false, MatMut::new(&mut c, m, n), a_view, b_view);
        let sum = |i: usize, j: usize| (0..k).map(|l| value(a[i * k + l]) * value(b[l * n + j])).sum::<f64>();
        let want: Vec<f32> = (0..m * n).map(|at| sum(at / n, at % n) as f32).collect();
        // 30 additions of numbers up to 1 in f32.
        assert_close(&format!("{precision:?}"), &c, &want, 30.0 / (1 << 24) as f32, 0.0);
    }
}

#[test]
fn integers_on_the_scale_of_their_group_multiply_exactly_and_others_within_half_a_step() {
    let (m, n, k) = (9, 50, 300);
    let values = |seed, len: usize| -> Vec<f32> {
        Rng(seed).values(len).iter().map(|x| (x * 4000.0).round()).collect()
    };
    let (mut a, mut b) = (values(5, m * k), values(6, k * n));
    // Groups start at 0, 128 and 256.
    for first in [3, 128, 299] {
        (0..m).for_each(|i| a[i * k + first] = 4095.0);
        (0..n).for_each(|j| b[first * n + j] = -4095.0);
    }
    let off_grid = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| x + 0.37 * x.signum()).collect() };
    for cpu in cpus(2) {
        for (a, b, step) in [(a.clone(), b.clone(), 0.0), (off_grid(&a), off_grid(&b), 1.0)] {
            let mut c = vec![0.0; m * n];
            cpu.gemm(
                Precision::Int16,
                false,
                MatMut::new(&mut c, m, n),
                MatRef::new(&a, m, k),
                MatRef::new(&b, k, n),
            );
            let (mut off, mut apart) = (0.0f64, 0);
            for (at, &c) in c.iter().enumerate() {
                let terms = (0..k).map(|l| (f64::from(a[at / n * k + l]), f64::from(b[l * n + at % n])));
                let (want, room) = terms.fold((0.0, 0.0), |(sum, room), (a, b)| {
                    // The scale of a group is its largest magnitude / 4095, here at most 4095.37 / 4095.
                    (sum + a * b, room + step * 0.501 * (a.abs() + b.abs() + 1.0) + 4e-7 * (a * b).abs())
                });
                assert!((f64::from(c) - want).abs() <= room, "{cpu:?}: {c}, expected {want} within {room}");
                off += (f64::from(c) - want).abs() / want.abs().max(1.0);
                apart += usize::from(f64::from(c) != want);
            }
            // Values off the grid are rounded, so the products are not those of f32.
            assert!(step == 0.0 || (apart > m * n / 2 && off > 1e-6), "{cpu:?}: {apart} differ, {off}");
        }
    }
}

#[test]
fn a_value_that_is_not_finite_is_not_lost() {
    let (m, n, k) = (10, 40, 200);
    for cpu in cpus(2) {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let (mut a, mut b) = (Rng(7).values(m * k), Rng(8).values(k * n));
                (a[4 * k + 150], b[33 * n + 21]) = (wrong, wrong);
                let mut c = vec![0.0; m * n];
                let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
                cpu.gemm(precision, false, MatMut::new(&mut c, m, n), a, b);
                for (at, c) in c.iter().enumerate() {
                    let touched = at / n == 4 || at % n == 21;
                    assert_eq!(c.is_finite(), !touched, "{cpu:?} {precision:?} {wrong}: {c} at {at}");
                }
            }
        }
    }
}

/// Parts of unequal sizes: with full panels, with less, with several blocks of depth.
const PARTS: [usize; 3] = [256, 128, 70];

#[test]
fn products_that_share_a_matrix_have_the_bits_of_one_after_the_other() {
    let (rows, depth, mut rng) = (150, 900, Rng(9));
    let total: usize = PARTS.iter().sum();
    let (x, w, dy) = (rng.values(rows * depth), rng.values(total * depth), rng.values(rows * total));
    let starts = [0, PARTS[0], PARTS[0] + PARTS[1]];
    let weight = |part: usize| MatRef::new(&w[starts[part] * depth..], PARTS[part], depth);
    let out =
        |part: usize| MatRef { row_stride: total, ..MatRef::new(&dy[starts[part]..], rows, PARTS[part]) };
    let (x, weights, outs) = (MatRef::new(&x, rows, depth), [0, 1, 2].map(weight), [0, 1, 2].map(out));
    for cpu in cpus(2) {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
            let (mut joint, mut single) = (vec![7.0; rows * total], vec![7.0; rows * total]);
            let (first, rest) = joint.split_at_mut(rows * PARTS[0]);
            let (second, third) = rest.split_at_mut(rows * PARTS[1]);
            let mut c = [
                MatMut::new(first, rows, PARTS[0]),
                MatMut::new(second, rows, PARTS[1]),
                MatMut::new(third, rows, PARTS[2]),
            ];
            cpu.gemm_same_a(precision, &mut c, x, &weights.map(MatRef::t));
            for part in 0..3 {
                let c = MatMut::new(&mut single[rows * starts[part]..], rows, PARTS[part]);
                cpu.gemm(precision, false, c, x, weights[part].t());
            }
            assert_same_bits(&format!("{cpu:?} {precision:?}: same a"), &joint, &single);

            let (mut joint, mut single) = (vec![7.0; total * depth], vec![7.0; total * depth]);
            let (first, rest) = joint.split_at_mut(PARTS[0] * depth);
            let (second, third) = rest.split_at_mut(PARTS[1] * depth);
            let mut c = [
                MatMut::new(first, PARTS[0], depth),
                MatMut::new(second, PARTS[1], depth),
                MatMut::new(third, PARTS[2], depth),
            ];
            cpu.gemm_same_b(precision, &mut c, &outs.map(MatRef::t), x);
            for part in 0..3 {
                let c = MatMut::new(&mut single[starts[part] * depth..], PARTS[part], depth);
                cpu.gemm(precision, true, c, outs[part].t(), x);
            }
            assert_same_bits(&format!("{cpu:?} {precision:?}: same b"), &joint, &single);

            let (mut joint, mut single) = (vec![7.0; rows * depth], vec![7.0; rows * depth]);
            cpu.gemm_sum(precision, MatMut::new(&mut joint, rows, depth), &outs, &weights);
            for part in 0..3 {
                let c = MatMut::new(&mut single, rows, depth);
                cpu.gemm(precision, part > 0, c, outs[part], weights[part]);
            }
            assert_same_bits(&format!("{cpu:?} {precision:?}: sum"), &joint, &single);
        }
    }
}

#[test]
fn no_depth_means_zero_or_unchanged() {
    for cpu in cpus(2) {
        let mut c = [1.0; 6];
        let (a, b) = (MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 3));
        cpu.gemm(Precision::F32, true, MatMut::new(&mut c, 2, 3), a, b);
        assert_eq!(c, [1.0; 6]);
        cpu.gemm(Precision::F32, false, MatMut::new(&mut c, 2, 3), a, b);
        assert_eq!(c, [0.0; 6]);
    }
}

#[test]
#[should_panic(expected = "shapes of c, a, b do not fit")]
fn shapes_that_do_not_fit_are_refused() {
    let (a, b) = ([0.0; 6], [0.0; 6]);
    let cpu = Cpu::new(KernelSet::available()[0], 1);
    cpu.gemm(
        Precision::F32,
        false,
        MatMut::new(&mut [0.0; 4], 2, 2),
        MatRef::new(&a, 2, 3),
        MatRef::new(&b, 2, 3),
    );
}
