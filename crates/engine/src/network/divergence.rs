//! How far the predictions of one model are from those of another: Kullback-Leibler divergence, token by token.
//!
//! `KL(p || q) = sum_v p(v) (ln p(v) - ln q(v))` in nats, `p` of the reference, `q` of the model measured; exact over the
//! whole vocabulary, summed in f64.

use super::{Network, ScoredWindow, batches};
use crate::EngineError;

/// Rows whose scores are held at once, times two.
const ROWS: usize = 64;

impl Network {
    /// Summed `KL(reference || self)` of each window, in nats over its scored ids.
    ///
    /// # Errors
    /// Vocabularies of different sizes, ids outside of them.
    pub fn divergences(
        &self,
        reference: &Network,
        windows: &[ScoredWindow<'_>],
    ) -> Result<Vec<f64>, EngineError> {
        let (ids, known) = (reference.config().vocab_size, self.config().vocab_size);
        if ids != known {
            return Err(EngineError::Vocabulary { ids, known });
        }
        let mut sums = Vec::with_capacity(windows.len());
        for batch in batches(windows, |window| window.ids.len()) {
            let inputs: Vec<&[u32]> = batch.iter().map(ScoredWindow::input).collect();
            let hidden = [reference, self].map(|network| network.hidden(&network.weights(), &inputs));
            let [p, q] = hidden;
            let (p, q) = (p?, q?);
            let mut first_row = 0;
            for (window, input) in batch.iter().zip(&inputs) {
                let from = (window.scored_from.max(1) - 1).min(input.len());
                let rows = first_row + from..first_row + input.len();
                sums.push(self.divergence(reference, (&p, &q), rows));
                first_row += input.len();
            }
        }
        Ok(sums)
    }

    /// The sum over some rows of hidden states, the reference's first.
    fn divergence(&self, reference: &Network, (p, q): (&[f32], &[f32]), rows: std::ops::Range<usize>) -> f64 {
        let logits = |network: &Network, hidden: &[f32], rows: &std::ops::Range<usize>| {
            let width = network.config().hidden_size;
            let hidden = &hidden[rows.start * width..rows.end * width];
            network.decoder.logits(network.compute(), &network.weights(), hidden)
        };
        let vocab_size = self.config().vocab_size;
        let mut sum = 0.0;
        for start in rows.clone().step_by(ROWS) {
            let rows = start..(start + ROWS).min(rows.end);
            let (p, q) = (logits(reference, p, &rows), logits(self, q, &rows));
            sum += p.chunks(vocab_size).zip(q.chunks(vocab_size)).map(|(p, q)| divergence(p, q)).sum::<f64>();
        }
        sum
    }
}

/// `KL(softmax(p) || softmax(q))` of two rows of scores, in nats.
pub fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |scores: &[f32]| {
        let most = scores.iter().fold(f32::NEG_INFINITY, |most, score| most.max(*score));
        let sum: f64 = scores.iter().map(|score| f64::from(score - most).exp()).sum();
        f64::from(most) + sum.ln()
    };
    let (of_p, of_q) = (log_sum(p), log_sum(q));
    let term = |(p, q): (&f32, &f32)| {
        let (p, q) = (f64::from(*p) - of_p, f64::from(*q) - of_q);
        p.exp() * (p - q)
    };
    p.iter().zip(q).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::divergence;

    #[test]
    fn the_divergence_is_that_of_the_formula() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): 0.5 ln 2 + 0.25 ln 0.5 = 0.25 ln 2.
        let scores = |p: [f32; 3]| p.map(|p| p.ln() + 7.0);
        let sum = divergence(&scores([0.5, 0.25, 0.25]), &scores([0.25, 0.5, 0.25]));
        assert!((sum - 0.25 * std::f64::consts::LN_2).abs() < 1e-6, "{sum}");
        let row = scores([0.1, 0.2, 0.7]);
        assert!(divergence(&row, &row.map(|score| score - 5.0)).abs() < 1e-6);
    }
}
