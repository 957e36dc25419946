//! Policies' losses against PyTorch (`reference/make_objective_goldens.py`).

use super::*;
use crate::objectives::golden::{close, golden, list};

/// Ranges of the samples' tokens.
fn samples(lengths: &[f64]) -> Vec<std::ops::Range<usize>> {
    let ends: Vec<usize> = lengths
        .iter()
        .scan(0, |end, len| {
            *end += *len as usize;
            Some(*end)
        })
        .collect();
    ends.iter().zip(lengths).map(|(end, len)| end - *len as usize..*end).collect()
}

fn section(ppo: &serde_json::Value) -> PpoSection {
    let number = |key: &str| ppo[key].as_f64().expect("a number");
    PpoSection {
        clip: number("clip"),
        value_clip: number("value_clip"),
        value_coef: number("value_coef"),
        gamma: number("gamma"),
        lambda: number("lambda"),
        kl_coef: number("kl_coef"),
        ..PpoSection::default()
    }
}

#[test]
fn ppo_is_that_of_pytorch() {
    let golden = golden("policy");
    let (ppo, read) = (&golden["ppo"], |key: &str| list(&golden[key]));
    let section = section(ppo);
    let (old, new, reference, values_old, values) =
        (read("old"), read("new"), read("reference"), read("values_old"), read("values"));
    let (mut white, mut returns) = (Vec::new(), Vec::new());
    for (tokens, score) in samples(&read("lengths")).into_iter().zip(read("scores")) {
        let mut rewards: Vec<f64> =
            tokens.clone().map(|i| -section.kl_coef * (old[i] - reference[i])).collect();
        *rewards.last_mut().expect("a token") += score;
        let (advantages, aims) = advantages(&section, &rewards, &values_old[tokens]);
        white.extend(advantages);
        returns.extend(aims);
    }
    let expected = |key: &str| list(&ppo[key]);
    let same = |found: &[f64], key: &str| {
        found.iter().zip(expected(key)).for_each(|(found, expected)| close(*found, expected, key));
    };
    same(&white, "advantages");
    same(&returns, "returns");
    whiten(&mut white);
    same(&white, "whitened");
    let n = white.len() as f64;
    let policy: Vec<TokenLoss> =
        (0..white.len()).map(|i| clipped(new[i], old[i], white[i], section.clip).0).collect();
    let value: Vec<(f64, f64)> = (0..white.len())
        .map(|i| value_loss(values[i], values_old[i], returns[i], section.value_clip))
        .collect();
    let loss: f64 = policy.iter().zip(&value).map(|(p, v)| p.0 + section.value_coef * v.0).sum::<f64>() / n;
    close(loss, ppo["loss"].as_f64().expect("a number"), "loss");
    same(&policy.iter().map(|loss| loss.1 / n).collect::<Vec<_>>(), "log_prob_gradients");
    same(&value.iter().map(|loss| section.value_coef * loss.1 / n).collect::<Vec<_>>(), "value_gradients");
}

#[test]
fn grpo_and_rloo_are_those_of_pytorch() {
    let golden = golden("policy");
    let (grpo, read) = (&golden["grpo"], |key: &str| list(&golden[key]));
    let (beta, clip) = (grpo["beta"].as_f64().expect("beta"), grpo["clip"].as_f64().expect("clip"));
    let (old, new, reference, scores) = (read("old"), read("new"), read("reference"), read("scores"));
    let found = group_advantages(Advantage::Group, &scores);
    found.iter().zip(list(&grpo["advantages"])).for_each(|(f, e)| close(*f, e, "advantages"));
    let others = group_advantages(Advantage::LeaveOneOut, &scores);
    others.iter().zip(list(&grpo["leave_one_out"])).for_each(|(f, e)| close(*f, e, "leave one out"));
    let means = group_advantages(Advantage::GroupMean, &scores);
    assert!(means.iter().sum::<f64>().abs() < 1e-12 && (means[0] - 0.3125).abs() < 1e-12, "{means:?}");
    let (mut loss, gradients) = (0.0, list(&grpo["log_prob_gradients"]));
    for (tokens, advantage) in samples(&read("lengths")).into_iter().zip(found) {
        let share = 1.0 / (4.0 * tokens.len() as f64);
        for i in tokens {
            let ((policy, slope), _) = clipped(new[i], old[i], advantage, clip);
            let (apart, apart_slope) = divergence(new[i], reference[i]);
            loss += share * (policy + beta * apart);
            close(share * (slope + beta * apart_slope), gradients[i], "gradient");
        }
    }
    close(loss, grpo["loss"].as_f64().expect("a number"), "loss");
}

#[test]
fn a_group_of_equals_teaches_nothing() {
    for kind in [Advantage::Group, Advantage::GroupMean, Advantage::LeaveOneOut] {
        assert!(group_advantages(kind, &[0.5; 4]).iter().all(|advantage| *advantage == 0.0), "{kind:?}");
    }
}

#[test]
fn the_coefficient_follows_the_target() {
    let section = PpoSection { kl_target: 0.1, kl_horizon: 100.0, ..PpoSection::default() };
    assert!((steered(&section, 0.05, 0.11, 10.0) - 0.05 * 1.01).abs() < 1e-12);
    assert!((steered(&section, 0.05, 9.0, 10.0) - 0.05 * 1.02).abs() < 1e-12, "held at a fifth");
    assert!(steered(&section, 0.05, 0.0, 10.0) < 0.05);
    assert_eq!(steered(&PpoSection::default(), 0.05, 9.0, 10.0), 0.05);
}
