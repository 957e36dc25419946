//! Losses over pairs of answers, as functions of sums of log-probabilities; each with its derivatives.
//!
//! `c` and `r` are the sums over the chosen and the rejected answer, `n_c` and `n_r` their lengths in tokens, the same with a
//! bar those of the reference, `b` is beta.

use crate::recipe::{DpoSection, PreferenceLoss};

/// What is known of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Sum of log-probabilities over its tokens.
    pub sum: f64,
    /// The same by the reference; not looked at where the loss needs none.
    pub reference: f64,
    /// Number of its tokens.
    pub len: f64,
}

impl Answer {
    fn mean(&self) -> f64 {
        self.sum / self.len
    }

    fn log_ratio(&self) -> f64 {
        self.sum - self.reference
    }
}

/// A loss, its derivatives with respect to the sums of the two answers, and the implicit reward of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PairLoss {
    pub loss: f64,
    /// Of the chosen answer, then the rejected one.
    pub gradient: [f64; 2],
    pub reward: [f64; 2],
}

/// The loss of one pair; KTO looks at single answers, see [`rated`].
pub(crate) fn pair(section: &DpoSection, [chosen, rejected]: [Answer; 2]) -> PairLoss {
    let beta = section.beta;
    let by_length = [1.0 / chosen.len, -1.0 / rejected.len];
    let ratios = [chosen.log_ratio(), rejected.log_ratio()].map(|ratio| beta * ratio);
    let means = [chosen.mean(), rejected.mean()].map(|mean| beta * mean);
    match section.loss {
        // -log sigmoid(b ((c - r) - (c' - r')))
        PreferenceLoss::Sigmoid | PreferenceLoss::Kto => {
            let (loss, slope) = smoothed(ratios[0] - ratios[1], section.label_smoothing);
            PairLoss { loss, gradient: [beta * slope, -beta * slope], reward: ratios }
        }
        // ((c - c') / n_c - (r - r') / n_r - 1 / 2b)^2
        PreferenceLoss::Ipo => {
            let difference = chosen.log_ratio() / chosen.len - rejected.log_ratio() / rejected.len;
            let over = difference - 1.0 / (2.0 * beta);
            let reward = [ratios[0] / chosen.len, ratios[1] / rejected.len];
            PairLoss { loss: over * over, gradient: by_length.map(|share| 2.0 * over * share), reward }
        }
        // -log sigmoid(b (c / n_c - r / n_r) - gamma)
        PreferenceLoss::Simpo => {
            let (loss, slope) = smoothed(means[0] - means[1] - section.simpo_gamma, section.label_smoothing);
            PairLoss { loss, gradient: by_length.map(|share| beta * slope * share), reward: means }
        }
        // -c / n_c - b log sigmoid(log odds of c / n_c - log odds of r / n_r)
        PreferenceLoss::Orpo => {
            let (odds, rejected_odds) = (log_odds(chosen.mean()), log_odds(rejected.mean()));
            let (loss, slope) = smoothed(odds.0 - rejected_odds.0, 0.0);
            let chosen_slope = beta * slope * odds.1 - 1.0;
            let gradient = [chosen_slope * by_length[0], beta * slope * rejected_odds.1 * by_length[1]];
            PairLoss { loss: beta * loss - chosen.mean(), gradient, reward: means }
        }
    }
}

/// KTO of one answer: `w (1 - sigmoid(b (log ratio - z)))` if it is good, else `w (1 - sigmoid(b (z - log ratio)))`; `z` is
/// the reference point, the mean log ratio of answers to other prompts or 0 if that is less, and counts as a constant.
/// Loss, derivative with respect to the sum, implicit reward.
pub(crate) fn rated(section: &DpoSection, (answer, good): (Answer, bool), z: f64) -> (f64, f64, f64) {
    let (sign, weight) = if good { (1.0, section.kto_good_weight) } else { (-1.0, section.kto_bad_weight) };
    let probability = sigmoid(sign * section.beta * (answer.log_ratio() - z));
    let slope = -weight * sign * section.beta * probability * (1.0 - probability);
    (weight * (1.0 - probability), slope, section.beta * answer.log_ratio())
}

/// `-(1 - e) log sigmoid(x) - e log sigmoid(-x)` and its derivative.
fn smoothed(x: f64, e: f64) -> (f64, f64) {
    let loss = (1.0 - e) * softplus(-x) + e * softplus(x);
    (loss, (1.0 - e) * (sigmoid(x) - 1.0) + e * sigmoid(x))
}

/// `log(p / (1 - p))` of a probability given by its logarithm, and the derivative with respect to that logarithm.
fn log_odds(log_p: f64) -> (f64, f64) {
    // A probability of one has no odds; no answer comes this near.
    let log_p = log_p.min(-1e-7);
    let rest = -log_p.exp_m1();
    (log_p - rest.ln(), 1.0 / rest)
}

/// `log(1 + exp x)`.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp -x)`.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests;
