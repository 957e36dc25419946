//! A number with its uncertainty: percentile bootstrap (Efron 1979), seeded.

use serde::Serialize;
use shakti_engine::Rng;

/// Resamples of one interval.
const RESAMPLES: usize = 1000;

/// A measured value with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The statistic over all units.
    pub value: f64,
    /// 2.5th percentile of the statistic over resampled units.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
    /// Number of units (documents, windows, questions).
    pub n: usize,
}

impl Estimate {
    /// The estimate of a monotonous rising function of the value.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { value: f(self.value), low: f(self.low), high: f(self.high), n: self.n }
    }

    /// Whether the interval lies below zero or above it.
    pub fn excludes_zero(&self) -> bool {
        self.high < 0.0 || self.low > 0.0
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4} [{:.4}, {:.4}] n={}", self.value, self.low, self.high, self.n)
    }
}

/// The statistic of units `0..n` and its interval over `RESAMPLES` draws of `n` units with replacement. The statistic
/// gets the drawn indices; the same seed gives the same interval.
pub fn bootstrap(n: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    let all: Vec<usize> = (0..n).collect();
    let value = statistic(&all);
    if n == 0 {
        return Estimate { value, low: value, high: value, n };
    }
    let mut rng = Rng::new(seed);
    let mut drawn = vec![0; n];
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.fill_with(|| rng.below(n));
            statistic(&drawn)
        })
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    Estimate { value, low: percentile(&values, 0.025), high: percentile(&values, 0.975), n }
}

/// Linear interpolation between the two nearest ranks of sorted values.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let (below, part) = (rank as usize, rank.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] * (1.0 - part) + sorted[above] * part
}

/// The mean of `values`; NaN if there are none.
pub fn mean_estimate(values: &[f64], seed: u64) -> Estimate {
    bootstrap(values.len(), seed, |drawn| {
        drawn.iter().map(|index| values[*index]).sum::<f64>() / drawn.len() as f64
    })
}

/// The mean of `a - b` over units that both measured, paired.
///
/// # Panics
/// If the lists differ in length.
pub fn mean_difference(a: &[f64], b: &[f64], seed: u64) -> Estimate {
    assert_eq!(a.len(), b.len(), "paired measurements");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    mean_estimate(&differences, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_covers_the_truth_about_95_times_in_100() {
        let mut rng = Rng::new(11);
        let trials = 200;
        let covered = (0..trials)
            .filter(|trial| {
                let values: Vec<f64> = (0..50).map(|_| rng.next_f64()).collect();
                let estimate = mean_estimate(&values, *trial);
                estimate.low <= 0.5 && 0.5 <= estimate.high
            })
            .count();
        // Binomial with share 0.95 has a deviation of 3; the percentile interval is slightly narrow at n = 50.
        assert!((178..=199).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn a_seed_repeats_its_interval_and_constants_have_none() {
        let values = [1.0, 2.0, 5.0];
        assert_eq!(mean_estimate(&values, 1), mean_estimate(&values, 1));
        let constant = mean_estimate(&[2.0; 9], 1);
        assert_eq!((constant.value, constant.low, constant.high, constant.n), (2.0, 2.0, 2.0, 9));
    }

    #[test]
    fn pairing_removes_what_units_share() {
        let a: Vec<f64> = (0..40).map(|unit| f64::from(unit) + 0.5).collect();
        let b: Vec<f64> = (0..40).map(f64::from).collect();
        let difference = mean_difference(&a, &b, 3);
        assert_eq!((difference.low, difference.high), (0.5, 0.5));
        assert!(difference.excludes_zero());
        assert!(!mean_estimate(&[-1.0, 1.0, -1.0, 1.0], 3).excludes_zero());
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[0.0, 10.0], 0.25), 2.5);
        assert_eq!(percentile(&[7.0], 0.975), 7.0);
    }
}
