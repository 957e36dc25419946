//! Compensation against rounding without it, and against every choice of integers on a case small enough to try them all.

use super::*;
use crate::factor::damp;
use shakti_kernels::KernelSet;

/// Uniform numbers of -0.5..0.5 from a seed.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// The damped second moment of inputs `[tokens, k]` that share `common` directions.
fn moment(random: &mut Uniform, (k, tokens, common): (usize, usize, usize)) -> Vec<f32> {
    let directions: Vec<Vec<f32>> = (0..common).map(|_| random.many(k)).collect();
    let mut sum = vec![0.0f32; k * k];
    for _ in 0..tokens {
        let mut x: Vec<f32> = random.many(k).iter().map(|value| 0.3 * value).collect();
        for direction in &directions {
            let share = 2.0 * random.next();
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += share * d);
        }
        for i in 0..k {
            for j in 0..k {
                sum[i * k + j] += x[i] * x[j] / tokens as f32;
            }
        }
    }
    damp(&mut sum, k);
    sum
}

/// `sum over rows of e^T H e` of blocks against a weight.
fn output_error(dtype: DType, layer: Layer<'_>, bytes: &[u8]) -> f64 {
    let k = layer.cols;
    let mut back = vec![0.0; layer.weight.len()];
    blocks::dequantize_row(dtype, bytes, &mut back).unwrap();
    let errors: Vec<f64> = back.iter().zip(layer.weight).map(|(a, b)| f64::from(a - b)).collect();
    let of_row = |e: &[f64]| -> f64 {
        let column = |i: usize| (0..k).map(|j| f64::from(layer.moment[i * k + j]) * e[j]).sum::<f64>();
        (0..k).map(|i| e[i] * column(i)).sum()
    };
    errors.chunks(k).map(of_row).sum()
}

/// Blocks of the weighted search alone, with the moment's diagonal as weights.
fn without(dtype: DType, layer: Layer<'_>) -> Vec<u8> {
    let k = layer.cols;
    let diagonal: Vec<f32> = (0..k).map(|i| layer.moment[i * k + i]).collect();
    let mut bytes = vec![0; dtype.matrix_bytes(layer.weight.len() / k, k).unwrap()];
    let row_bytes = dtype.row_bytes(k).unwrap();
    for (row, out) in layer.weight.chunks(k).zip(bytes.chunks_mut(row_bytes)) {
        blocks::quantize_row_weighted(dtype, row, &diagonal, out).unwrap();
    }
    bytes
}

#[test]
fn the_output_error_is_far_below_that_of_rounding_alone() {
    let mut random = Uniform(4);
    let cpu = Cpu::detect(Some(2)).unwrap();
    // Two panels and a part of a third for the formats of 32. Limits without and with descent: measured once, rounded up.
    for (dtype, k, limits) in [
        (DType::Q4_0, 544, [0.08, 0.06]),
        (DType::Q5_1, 544, [0.08, 0.06]),
        (DType::Q8_0, 96, [0.24, 0.2]),
        (DType::Q4_K, 512, [0.08, 0.06]),
        (DType::Q5_K, 512, [0.08, 0.06]),
        (DType::Q6_K, 512, [0.09, 0.06]),
    ] {
        let h = moment(&mut random, (k, 2 * k, 24));
        let factor = Factor::new(&cpu, &h, k);
        let weight = random.many(40 * k);
        let layer = Layer { weight: &weight, moment: &h, factor: &factor, cols: k };
        let alone = output_error(dtype, layer, &without(dtype, layer));
        for (sweeps, limit) in [0, 4].into_iter().zip(limits) {
            let rounded = round(&cpu, dtype, layer, sweeps).unwrap();
            let error = output_error(dtype, layer, &rounded.bytes);
            assert!(error < limit * alone, "{dtype}, {sweeps} sweeps: {error} of {alone}");
            let mut back = vec![0.0; weight.len()];
            blocks::dequantize_row(dtype, &rounded.bytes, &mut back).unwrap();
            for ((error, back), weight) in rounded.errors.iter().zip(&back).zip(&weight) {
                assert!((error - (back - weight)).abs() < 1e-5, "{dtype}: {error}");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let mut random = Uniform(5);
    let (k, rows) = (288, 37);
    let h = moment(&mut random, (k, 400, 3));
    let weight = random.many(rows * k);
    let bytes = [1, 3].map(|threads| {
        let cpu = Cpu::new(KernelSet::best().unwrap(), threads);
        let factor = Factor::new(&cpu, &h, k);
        let layer = Layer { weight: &weight, moment: &h, factor: &factor, cols: k };
        round(&cpu, DType::Q5_0, layer, 2).unwrap().bytes
    });
    assert_eq!(bytes[0], bytes[1]);
}

/// Of 32 columns all but four have no weight to speak of and hardly any input, so that the other four can be tried
/// exhaustively.
#[test]
fn four_columns_come_near_the_best_of_all_their_integers() {
    let mut random = Uniform(6);
    let cpu = Cpu::detect(Some(1)).unwrap();
    let k = 32;
    let (mut found, mut best, mut nearest) = (0.0, 0.0, 0.0);
    for _ in 0..20 {
        let small = moment(&mut random, (4, 40, 2));
        let mut h: Vec<f32> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1e-6 } else { 0.0 }).collect();
        for i in 0..4 {
            h[i * k..i * k + 4].copy_from_slice(&small[4 * i..4 * i + 4]);
        }
        let factor = Factor::new(&cpu, &h, k);
        let mut weight = random.many(k);
        weight[4..].fill(0.0);
        let layer = Layer { weight: &weight, moment: &h, factor: &factor, cols: k };
        let rounded = round(&cpu, DType::Q4_0, layer, 8).unwrap();
        found += output_error(DType::Q4_0, layer, &rounded.bytes);
        let mut grid = Grid::default();
        grid.read(DType::Q4_0, &rounded.bytes).unwrap();
        let mut q: Vec<u8> = (0..k).map(|i| grid.nearest(i, weight[i])).collect();
        let error = |q: &[u8]| {
            let mut block = rounded.bytes.clone();
            blocks::replace_integers(DType::Q4_0, &mut block, q).unwrap();
            output_error(DType::Q4_0, layer, &block)
        };
        nearest += error(&q);
        let mut least = f64::INFINITY;
        for code in 0..1u32 << 16 {
            (0..4).for_each(|i| q[i] = (code >> (4 * i) & 15) as u8);
            least = least.min(error(&q));
        }
        best += least;
    }
    assert!(found < 1.15 * best, "{found}, best {best}");
    assert!(best < 0.8 * nearest, "the case is no test: nearest {nearest}, best {best}");
}
