//! Every loss and its gradients against PyTorch and TRL (`reference/make_objective_goldens.py`).

use super::*;
use crate::objectives::golden::{close, golden, list};

fn section(loss: PreferenceLoss, golden: &serde_json::Value) -> DpoSection {
    let number = |key: &str| golden[key].as_f64().expect("a number");
    DpoSection {
        loss,
        beta: number("beta"),
        label_smoothing: 0.0,
        simpo_gamma: number("simpo_gamma"),
        kto_good_weight: 1.5,
        kto_bad_weight: 0.7,
    }
}

fn answers(golden: &serde_json::Value) -> Vec<[Answer; 2]> {
    let side = |name: &str| {
        let lists =
            [list(&golden[name]), list(&golden[format!("ref_{name}")]), list(&golden[format!("len_{name}")])];
        let [sums, references, lens] = lists;
        let all = sums.into_iter().zip(references).zip(lens);
        all.map(|((sum, reference), len)| Answer { sum, reference, len }).collect::<Vec<_>>()
    };
    side("chosen").into_iter().zip(side("rejected")).map(|(chosen, rejected)| [chosen, rejected]).collect()
}

#[test]
fn losses_and_gradients_are_those_of_pytorch_and_trl() {
    let golden = golden("preference");
    let smoothing = golden["label_smoothing"].as_f64().expect("a number");
    let cases = [
        ("sigmoid", PreferenceLoss::Sigmoid, 0.0),
        ("sigmoid_smoothed", PreferenceLoss::Sigmoid, smoothing),
        ("ipo", PreferenceLoss::Ipo, 0.0),
        ("simpo", PreferenceLoss::Simpo, smoothing),
        ("orpo", PreferenceLoss::Orpo, 0.0),
    ];
    for (name, loss, label_smoothing) in cases {
        let section = DpoSection { label_smoothing, ..section(loss, &golden) };
        let expected = &golden["losses"][name];
        let (losses, chosen, rejected) =
            (list(&expected["loss"]), list(&expected["gradients"][0]), list(&expected["gradients"][1]));
        for (i, both) in answers(&golden).into_iter().enumerate() {
            let found = pair(&section, both);
            close(found.loss, losses[i], name);
            close(found.gradient[0], chosen[i], name);
            close(found.gradient[1], rejected[i], name);
        }
    }
}

#[test]
fn kto_is_that_of_trl() {
    let golden = golden("preference");
    let z = golden["kto_z"].as_f64().expect("a number");
    for (name, good) in [("kto_good", true), ("kto_bad", false)] {
        let section = section(PreferenceLoss::Kto, &golden);
        let expected = &golden["losses"][name];
        let (losses, gradients) = (list(&expected["loss"]), list(&expected["gradients"][0]));
        for (i, [answer, _]) in answers(&golden).into_iter().enumerate() {
            let (loss, gradient, _) = rated(&section, (answer, good), z);
            close(loss, losses[i], name);
            close(gradient, gradients[i], name);
        }
    }
}

#[test]
fn rewards_are_log_ratios_or_mean_log_probabilities_times_beta() {
    let golden = golden("preference");
    let [chosen, rejected] = answers(&golden)[0];
    let of = |loss| pair(&section(loss, &golden), [chosen, rejected]).reward;
    close(of(PreferenceLoss::Sigmoid)[0], 0.3 * (chosen.sum - chosen.reference), "sigmoid");
    close(of(PreferenceLoss::Simpo)[1], 0.3 * rejected.sum / rejected.len, "simpo");
}

#[test]
fn extreme_numbers_stay_finite() {
    let golden = golden("preference");
    for loss in [PreferenceLoss::Sigmoid, PreferenceLoss::Ipo, PreferenceLoss::Simpo, PreferenceLoss::Orpo] {
        for sum in [-1e5, -1e-30, 0.0] {
            let far = Answer { sum, reference: -1e5, len: 4.0 };
            let near = Answer { sum: -3.0, reference: -2.0, len: 4.0 };
            let found = pair(&section(loss, &golden), [far, near]);
            let numbers = [found.loss, found.gradient[0], found.gradient[1]];
            assert!(numbers.iter().all(|number| number.is_finite()), "{loss:?} at {sum}: {found:?}");
        }
    }
}
