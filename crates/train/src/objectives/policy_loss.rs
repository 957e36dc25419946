//! What a policy's tokens lose, with derivatives: PPO and GRPO, advantages, and the divergence from the first policy.

use crate::recipe::{Advantage, PpoSection};

/// A loss of one token and its derivative with respect to the token's log-probability.
pub(crate) type TokenLoss = (f64, f64);

/// `max(-a ratio, -a clamp(ratio, 1 - clip, 1 + clip))`, `ratio = exp(new - old)` (arXiv 1707.06347, equation 7); and whether
/// the clamp decided.
pub(crate) fn clipped(new: f64, old: f64, advantage: f64, clip: f64) -> (TokenLoss, bool) {
    let ratio = (new - old).exp();
    let (free, bound) = (-advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip));
    if bound > free { ((bound, 0.0), true) } else { ((free, free), false) }
}

/// `exp(d) - d - 1` with `d = reference - new`: estimates the divergence from the reference without bias and is never
/// negative (the third of Schulman's estimators, as in arXiv 2402.03300, equation 4).
pub(crate) fn divergence(new: f64, reference: f64) -> TokenLoss {
    let d = reference - new;
    (d.exp_m1() - d, -d.exp_m1())
}

/// `max((v - return)^2, (v' - return)^2) / 2`, `v'` held within `clip` of the old value; and the derivative.
pub(crate) fn value_loss(value: f64, old: f64, target: f64, clip: f64) -> (f64, f64) {
    let held = value.clamp(old - clip, old + clip);
    let (free, bound) = ((value - target).powi(2), (held - target).powi(2));
    // Where the clamp holds it does not move with the value.
    if bound > free {
        (0.5 * bound, if held == value { value - target } else { 0.0 })
    } else {
        (0.5 * free, value - target)
    }
}

/// Generalised advantages (arXiv 1506.02438) of one sample's tokens, and what its values should have been.
pub(crate) fn advantages(section: &PpoSection, rewards: &[f64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let mut later = 0.0;
    for t in (0..rewards.len()).rev() {
        let next = values.get(t + 1).copied().unwrap_or(0.0);
        let delta = rewards[t] + section.gamma * next - values[t];
        later = delta + section.gamma * section.lambda * later;
        advantages[t] = later;
    }
    let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    (advantages, returns)
}

/// Least deviation that numbers are divided by.
const LEAST_DEVIATION: f64 = 1e-4;

/// Mean 0 and variance 1 over everything given.
pub(crate) fn whiten(numbers: &mut [f64]) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + 1e-8).sqrt();
    numbers.iter_mut().for_each(|number| *number = (*number - mean) * scale);
}

/// What each reward of a group is worth beside the others; the standard deviation is that of a sample.
pub(crate) fn group_advantages(kind: Advantage, rewards: &[f64]) -> Vec<f64> {
    let count = rewards.len() as f64;
    let (sum, mean) = (rewards.iter().sum::<f64>(), rewards.iter().sum::<f64>() / count);
    let scale = match kind {
        Advantage::Group => 1.0 / (deviation(rewards) + LEAST_DEVIATION),
        Advantage::GroupMean | Advantage::LeaveOneOut => 1.0,
    };
    let beside = |reward: f64| match kind {
        Advantage::LeaveOneOut => (sum - reward) / (count - 1.0),
        Advantage::Group | Advantage::GroupMean => mean,
    };
    rewards.iter().map(|reward| (reward - beside(*reward)) * scale).collect()
}

/// Standard deviation of a sample; 0 of fewer than two.
pub(crate) fn deviation(numbers: &[f64]) -> f64 {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    if count < 2.0 { 0.0 } else { (squares / (count - 1.0)).sqrt() }
}

/// The coefficient of the divergence after a round (arXiv 1909.08593, section 2.2).
pub(crate) fn steered(section: &PpoSection, coefficient: f64, divergence: f64, samples: f64) -> f64 {
    if section.kl_target == 0.0 {
        return coefficient;
    }
    let error = (divergence / section.kl_target - 1.0).clamp(-0.2, 0.2);
    coefficient * (1.0 + error * samples / section.kl_horizon)
}

#[cfg(test)]
mod tests;
