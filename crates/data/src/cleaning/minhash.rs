//! MinHash signatures cut into bands: which records are worth comparing (Broder 1997; Leskovec, Rajaraman and
//! Ullman, Mining of Massive Datasets, chapter 3).
//!
//! Two sets with Jaccard similarity s agree in one minimum with probability s, in all `rows` minima of a band with
//! s^rows, and in at least one of `bands` bands with 1 - (1 - s^rows)^bands: the S-curve.

use crate::hash::mix;

/// Bands and rows of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bands {
    /// Number of bands.
    pub bands: usize,
    /// Minima in a band.
    pub rows: usize,
}

/// Least probability with which two records at the threshold are compared.
pub const RECALL_AT_THRESHOLD: f64 = 0.99;

impl Bands {
    /// The most rows, so the fewest comparisons, that still reach [`RECALL_AT_THRESHOLD`] at `threshold` with at most
    /// `hashes` minima; one row a band if none does.
    pub fn choose(threshold: f64, hashes: usize) -> Self {
        let shapes = (1..=hashes).map(|rows| Self { bands: hashes / rows, rows });
        let enough = shapes.rev().find(|shape| shape.probability(threshold) >= RECALL_AT_THRESHOLD);
        enough.unwrap_or(Self { bands: hashes, rows: 1 })
    }

    /// The probability that two records of this similarity are compared.
    pub fn probability(self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powi(self.rows as i32)).powi(self.bands as i32)
    }
}

/// The hash functions of a signature: h_i(x) = (a_i x + b_i) mod 2^64 >> 32 for 32-bit x, strongly universal
/// (Dietzfelbinger 1996).
pub(super) struct MinHash {
    bands: Bands,
    functions: Vec<(u64, u64)>,
}

impl MinHash {
    pub(super) fn new(bands: Bands, seed: u64) -> Self {
        let draw = |n: u64| mix(mix(seed) ^ n);
        let count = (bands.bands * bands.rows) as u64;
        Self { bands, functions: (0..count).map(|i| (draw(2 * i), draw(2 * i + 1))).collect() }
    }

    /// One key a band; two sets whose minima of a band agree have the same key. `shingles` must not be empty.
    pub(super) fn keys(&self, shingles: &[u64]) -> Vec<u64> {
        let elements: Vec<u64> = shingles.iter().map(|shingle| shingle >> 32).collect();
        let minimum = |&(a, b): &(u64, u64)| {
            let hashes = elements.iter().map(|&x| a.wrapping_mul(x).wrapping_add(b) >> 32);
            hashes.min().unwrap_or(u64::MAX)
        };
        let bands = self.functions.chunks_exact(self.bands.rows).enumerate();
        bands
            .map(|(band, functions)| functions.iter().fold(band as u64, |key, f| mix(key ^ minimum(f))))
            .collect()
    }
}

/// Size of the intersection over size of the union, of two sorted lists without repetitions; 1 for two empty ones.
pub(super) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let union = a.len() + b.len() - shared;
    if union == 0 { 1.0 } else { shared as f64 / union as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_reaches_the_recall_asked_for() {
        for threshold in [0.5, 0.7, 0.8, 0.9, 0.95] {
            let bands = Bands::choose(threshold, 128);
            assert!(bands.bands * bands.rows <= 128);
            assert!(bands.probability(threshold) >= RECALL_AT_THRESHOLD, "{threshold}: {bands:?}");
            let wider = Bands { rows: bands.rows + 1, bands: 128 / (bands.rows + 1) };
            assert!(wider.probability(threshold) < RECALL_AT_THRESHOLD, "{threshold}: {wider:?} would do");
        }
        // By hand: 1 - (1 - 0.8^6)^21 = 0.9983.
        let bands = Bands::choose(0.8, 128);
        assert_eq!((bands.bands, bands.rows), (21, 6));
        assert!((bands.probability(0.8) - 0.9983).abs() < 1e-4);
        assert_eq!(Bands::choose(0.01, 4), Bands { bands: 4, rows: 1 });
    }

    #[test]
    fn minima_agree_as_often_as_the_sets_do() {
        // One row a band: the share of equal keys estimates the similarity, here of n and n of 2n + shared elements.
        let minhash = MinHash::new(Bands { bands: 4000, rows: 1 }, 7);
        for shared in [100u64, 300, 900] {
            let set = |from: u64| -> Vec<u64> {
                let mut set: Vec<u64> = (0..shared).chain(from..from + 100).map(mix).collect();
                set.sort_unstable();
                set
            };
            let (a, b) = (set(10_000), set(20_000));
            let agree = minhash.keys(&a).iter().zip(minhash.keys(&b)).filter(|(x, y)| **x == *y).count();
            let (estimate, truth) = (agree as f64 / 4000.0, shared as f64 / (shared + 200) as f64);
            assert_eq!(jaccard(&a, &b), truth);
            // Standard deviation sqrt(s (1 - s) / 4000) is below 0.008.
            assert!((estimate - truth).abs() < 0.03, "{shared}: {estimate} for {truth}");
        }
    }

    #[test]
    fn bands_agree_as_the_curve_says() {
        let bands = Bands { bands: 8, rows: 4 };
        let mut found = 0;
        for pair in 0..2000u64 {
            let minhash = MinHash::new(bands, pair);
            let set = |from: u64| {
                (pair * 1000..pair * 1000 + 40).chain(from..from + 10).map(mix).collect::<Vec<_>>()
            };
            let (a, b) = (minhash.keys(&set(1 << 40)), minhash.keys(&set(1 << 50)));
            found += usize::from(a.iter().zip(&b).any(|(x, y)| x == y));
        }
        let (share, expected) = (found as f64 / 2000.0, bands.probability(40.0 / 60.0));
        assert!((share - expected).abs() < 0.035, "{share} for {expected}");
    }

    #[test]
    fn jaccard_of_small_sets() {
        assert_eq!(jaccard(&[], &[]), 1.0);
        assert_eq!(jaccard(&[1], &[]), 0.0);
        assert_eq!(jaccard(&[1, 2, 3], &[2, 3, 4]), 0.5);
        assert_eq!(jaccard(&[5, 9], &[5, 9]), 1.0);
    }
}
