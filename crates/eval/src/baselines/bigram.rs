//! An interpolated bigram model over token ids.
//!
//! Witten-Bell interpolation (Witten and Bell 1991; Chen and Goodman, "An Empirical Study of Smoothing Techniques"),
//! which has no parameters to tune. With `c(v w)` the count of `w` after `v`, `c(v)` the count of any id after `v`,
//! `t(v)` the number of distinct ids after `v`, `N` the number of ids, `t` of distinct ids, `V` the vocabulary:
//!
//! `p(w | v) = (c(v w) + t(v) p(w)) / (c(v) + t(v))`, `p(w) = (c(w) + t / V) / (N + t)`.

use std::collections::HashMap;

use crate::loss::UnitLoss;

/// Counts of a training split.
#[derive(Clone, Debug)]
pub struct BigramModel {
    pairs: HashMap<(u32, u32), u32>,
    /// For each id: how many ids followed it, and how many distinct ones.
    followers: HashMap<u32, (u32, u32)>,
    /// How often each id was predicted, i.e. stood anywhere but first.
    counts: HashMap<u32, u32>,
    total: u64,
    vocab_size: usize,
}

impl BigramModel {
    /// Counts documents; none reaches into the next.
    pub fn train<'a>(documents: impl IntoIterator<Item = &'a [u32]>, vocab_size: usize) -> Self {
        let mut model = Self {
            pairs: HashMap::new(),
            followers: HashMap::new(),
            counts: HashMap::new(),
            total: 0,
            vocab_size,
        };
        for document in documents {
            for pair in document.windows(2) {
                let count = model.pairs.entry((pair[0], pair[1])).or_default();
                *count += 1;
                let followers = model.followers.entry(pair[0]).or_default();
                followers.0 += 1;
                followers.1 += u32::from(*count == 1);
                *model.counts.entry(pair[1]).or_default() += 1;
                model.total += 1;
            }
        }
        model
    }

    /// Probability that `next` follows `previous`.
    pub fn probability(&self, previous: u32, next: u32) -> f64 {
        let distinct = self.counts.len() as f64;
        let count = f64::from(self.counts.get(&next).copied().unwrap_or(0));
        // Without training data every id is as likely as another.
        let unigram = if self.total == 0 {
            1.0 / self.vocab_size as f64
        } else {
            (count + distinct / self.vocab_size as f64) / (self.total as f64 + distinct)
        };
        match self.followers.get(&previous) {
            None => unigram,
            Some(&(followed, kinds)) => {
                let pair = f64::from(self.pairs.get(&(previous, next)).copied().unwrap_or(0));
                let (followed, kinds) = (f64::from(followed), f64::from(kinds));
                (pair + kinds * unigram) / (followed + kinds)
            }
        }
    }

    /// Summed nats of `ids[scored_from..]`, each given the id before it.
    pub fn nats(&self, ids: &[u32], scored_from: usize) -> f64 {
        let scored = ids.windows(2).skip(scored_from.max(1) - 1);
        scored.map(|pair| -self.probability(pair[0], pair[1]).ln()).sum()
    }

    /// The same units as a model's, measured by this one: `ids` of each unit's document from its first scored id on.
    ///
    /// # Panics
    /// If a unit does not belong to `documents`.
    pub fn measure_like(&self, units: &[UnitLoss], documents: &[crate::Document<'_>]) -> Vec<UnitLoss> {
        let mut scored: Vec<usize> = documents.iter().map(|document| document.scored_from.max(1)).collect();
        let measure = |unit: &UnitLoss| {
            let from = &mut scored[unit.document];
            let end = *from + unit.tokens;
            let nats = self.nats(&documents[unit.document].ids[..end], *from);
            *from = end;
            UnitLoss { nats, ..*unit }
        };
        units.iter().map(measure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    const DOCUMENTS: [&[u32]; 2] = [&[0, 1, 2, 1, 2], &[0, 1, 3]];

    #[test]
    fn the_probability_is_witten_bells() {
        let model = BigramModel::train(DOCUMENTS, 5);
        // After 1: 2, 2, 3, so c = 3 and t = 2. Predicted ids: 1 2 1 2 1 3, so N = 6 and t = 3.
        let unigram = (2.0 + 3.0 / 5.0) / 9.0;
        assert!((model.probability(1, 2) - (2.0 + 2.0 * unigram) / 5.0).abs() < 1e-12);
        // Id 4 never stood anywhere; nothing followed 3.
        assert!((model.probability(3, 4) - 3.0 / 5.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn probabilities_sum_to_one_after_any_id() {
        let empty: [&[u32]; 0] = [];
        for model in [BigramModel::train(DOCUMENTS, 5), BigramModel::train(empty, 5)] {
            for previous in 0..5 {
                let sum: f64 = (0..5).map(|next| model.probability(previous, next)).sum();
                assert!((sum - 1.0).abs() < 1e-12, "after {previous}: {sum}");
            }
        }
    }

    #[test]
    fn units_of_a_long_document_follow_one_another() {
        let model = BigramModel::train(DOCUMENTS, 5);
        let document = Document { ids: &[0, 1, 2, 1, 3], scored_from: 1 };
        let unit = |tokens| UnitLoss { document: 0, nats: 0.0, tokens, bytes: tokens };
        let units = model.measure_like(&[unit(3), unit(1)], &[document]);
        let expected = [(0, 1), (1, 2), (2, 1), (1, 3)].map(|(a, b)| -model.probability(a, b).ln());
        assert!((units[0].nats - expected[..3].iter().sum::<f64>()).abs() < 1e-12);
        assert!((units[1].nats - expected[3]).abs() < 1e-12);
        assert!((model.nats(document.ids, 1) - expected.iter().sum::<f64>()).abs() < 1e-12);
    }

    #[test]
    fn what_was_seen_is_cheaper_than_what_was_not() {
        let model = BigramModel::train(DOCUMENTS, 5);
        assert!(model.nats(&[0, 1, 2], 1) < model.nats(&[0, 3, 4], 1));
    }
}
