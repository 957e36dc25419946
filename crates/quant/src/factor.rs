//! The damped second moment of a layer's inputs as `U D U^T`, by which rounding errors are passed on to later columns.
//!
//! With `H` the mean of `a a^T` over the inputs `a` of a layer and `e` the rounding error of a row of its weight, the output's
//! expected squared error is `e^T H e`. For `H = U D U^T` with `U` unit upper triangular it is the sum over columns `k` of
//!
//! ```text
//! D[k] (e[k] + sum_{j<k} U[j,k] e[j])^2
//! ```
//!
//! so when columns are rounded from first to last, column `k` is best rounded not at its own value but with the earlier
//! errors' share taken off it, and what is left of its error counts `D[k]`: GPTQ (arXiv 2210.17323) in the form of LDLQ
//! (arXiv 2307.13304, theorem 6: the two are the same).

use shakti_kernels::{Cpu, MatMut, MatRef, Precision};

/// Share of the mean of `H`'s diagonal that is added to the diagonal: what a finite text says about rare directions is
/// noise. GPTQ's value.
const DAMPING: f64 = 0.01;

/// Columns that are factored between two updates of the rest.
const PANEL: usize = 64;

/// `H + damping = U diag(D) U^T`.
pub(crate) struct Factor {
    /// `U`, `[K, K]` row-major; zeros below the diagonal.
    pub(crate) upper: Vec<f32>,
    /// `D`, `[K]`, all positive.
    pub(crate) diagonal: Vec<f32>,
}

/// Adds the damping to the diagonal of `moment [K, K]`.
pub(crate) fn damp(moment: &mut [f32], k: usize) {
    let mean = (0..k).map(|i| f64::from(moment[i * k + i])).sum::<f64>() / k.max(1) as f64;
    // A layer whose inputs were all zero: any metric will do.
    let damping = if mean > 0.0 { (DAMPING * mean) as f32 } else { 1.0 };
    (0..k).for_each(|i| moment[i * k + i] += damping);
}

impl Factor {
    /// Factors a damped moment `[K, K]`.
    pub(crate) fn new(cpu: &Cpu, moment: &[f32], k: usize) -> Self {
        // The lower factor of the matrix read backwards is the upper factor.
        let mut lower: Vec<f32> = moment.iter().rev().copied().collect();
        // Exact arithmetic has no pivot below the damping; f32 may.
        let smallest = (0..k).map(|i| moment[i * k + i]).fold(f32::MAX, f32::min) * 1e-6;
        cholesky(cpu, &mut lower, k, smallest);
        let root: Vec<f32> = (0..k).map(|i| lower[i * k + i]).collect();
        let mut upper = vec![0.0f32; k * k];
        for i in 0..k {
            for j in 0..=i {
                upper[(k - 1 - i) * k + (k - 1 - j)] = lower[i * k + j] / root[j];
            }
        }
        Self { upper, diagonal: root.iter().rev().map(|root| root * root).collect() }
    }
}

/// Cholesky factor of `a [K, K]` in its lower triangle; the upper one is left as it was.
fn cholesky(cpu: &Cpu, a: &mut [f32], k: usize, smallest: f32) {
    for start in (0..k).step_by(PANEL) {
        let end = (start + PANEL).min(k);
        for row in start..k {
            let (above, from_row) = a.split_at_mut(row * k);
            for col in start..end.min(row + 1) {
                let pivots = if col == row { None } else { Some(&above[col * k..col * k + col + 1]) };
                let left = &from_row[start..col];
                let dot = |other: &[f32]| -> f64 {
                    left.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let value = f64::from(from_row[col]);
                from_row[col] = match pivots {
                    None => ((value - dot(left)) as f32).max(smallest).sqrt(),
                    Some(pivots) => ((value - dot(&pivots[start..col])) / f64::from(pivots[col])) as f32,
                };
            }
        }
        let (rest, width) = (k - end, end - start);
        if rest == 0 {
            break;
        }
        let panel: Vec<f32> = (end..k).flat_map(|row| a[row * k + start..row * k + end].to_vec()).collect();
        let negative: Vec<f32> = panel.iter().map(|value| -value).collect();
        let below = MatMut { data: &mut a[end * k + end..], rows: rest, cols: rest, row_stride: k };
        let (left, right) = (MatRef::new(&negative, rest, width), MatRef::new(&panel, rest, width).t());
        cpu.gemm(Precision::F32, true, below, left, right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment of `k` correlated features over `rows` rows.
    fn moment(k: usize, rows: usize) -> Vec<f32> {
        let mut state = 9u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let mut sum = vec![0.0f32; k * k];
        for _ in 0..rows {
            let common = next();
            let x: Vec<f32> = (0..k).map(|_| next() + common).collect();
            for i in 0..k {
                for j in 0..k {
                    sum[i * k + j] += x[i] * x[j] / rows as f32;
                }
            }
        }
        sum
    }

    #[test]
    fn the_factors_make_the_damped_moment_again() {
        let cpu = Cpu::detect(Some(2)).unwrap();
        // More features than rows: without damping there is no factor.
        for (k, rows) in [(1, 5), (50, 20), (200, 100), (64, 300)] {
            let mut h = moment(k, rows);
            damp(&mut h, k);
            let Factor { upper, diagonal } = Factor::new(&cpu, &h, k);
            for i in 0..k {
                assert_eq!(upper[i * k + i], 1.0);
                assert!(upper[i * k..i * k + i].iter().all(|below| *below == 0.0));
                for j in 0..k {
                    let term =
                        |m: usize| f64::from(upper[i * k + m] * diagonal[m]) * f64::from(upper[j * k + m]);
                    let made: f64 = (0..k).map(term).sum();
                    assert!(
                        (made - f64::from(h[i * k + j])).abs() < 1e-5,
                        "{k}: {made} for {}",
                        h[i * k + j]
                    );
                }
            }
        }
    }

    #[test]
    fn inputs_that_never_occur_are_no_reason_to_fail() {
        let cpu = Cpu::detect(Some(1)).unwrap();
        let mut h = vec![0.0; 9];
        damp(&mut h, 3);
        assert_eq!(Factor::new(&cpu, &h, 3).diagonal, [1.0; 3]);
        let mut h = vec![0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        damp(&mut h, 3);
        assert!(Factor::new(&cpu, &h, 3).diagonal.iter().all(|d| *d > 0.0));
    }
}
