//! Property tests of each filter against its definition, and of the sampler as a whole.

use super::*;
use proptest::prelude::*;

fn candidates(logits: &[f32]) -> Vec<Candidate> {
    logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }).collect()
}

fn ids(candidates: &[Candidate]) -> Vec<u32> {
    let mut ids: Vec<u32> = candidates.iter().map(|candidate| candidate.id).collect();
    ids.sort_unstable();
    ids
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Ids from the most to the least probable, ties by id.
fn ranking(logits: &[f32]) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
    ranked.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    ranked
}

/// Scores with many ties, as quantized models have.
fn scores() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-40i32..40).prop_map(|steps| steps as f32 / 4.0), 1..700)
}

fn options() -> impl Strategy<Value = SamplerOptions> {
    (0.05f32..3.0, 0usize..50, 0.05f32..=1.0, 0.0f32..0.9, 0.5f32..2.0, any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, repetition_penalty, seed)| SamplerOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
        },
    )
}

proptest! {
    #[test]
    fn top_k_keeps_the_k_highest(logits in scores(), k in 0usize..800) {
        let mut kept = Vec::new();
        collect_top_k(&mut kept, &logits, k);
        let expected = if k == 0 { logits.len() } else { k.min(logits.len()) };
        let mut best = ranking(&logits)[..expected].to_vec();
        best.sort_unstable();
        prop_assert_eq!(ids(&kept), best);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_the_mass(logits in scores(), top_p in 0.01f32..0.999) {
        let mut kept = candidates(&logits);
        keep_top_p(&mut kept, top_p);
        let probabilities = softmax(&logits);
        let mut best = ranking(&logits)[..kept.len()].to_vec();
        let mass: f64 = best.iter().map(|id| probabilities[*id as usize]).sum();
        let without_last = mass - probabilities[best[best.len() - 1] as usize];
        best.sort_unstable();
        prop_assert_eq!(ids(&kept), best);
        prop_assert!(mass >= f64::from(top_p) - 1e-9, "{mass} reaches {top_p}");
        prop_assert!(without_last < f64::from(top_p) + 1e-9, "one fewer, {without_last}, does not reach {top_p}");
    }

    #[test]
    fn min_p_keeps_exactly_those_near_the_best(logits in scores(), min_p in 0.001f32..0.999) {
        let mut kept = candidates(&logits);
        keep_min_p(&mut kept, min_p);
        let probabilities = softmax(&logits);
        let best = probabilities.iter().fold(0.0f64, |a, b| a.max(*b));
        for (id, probability) in probabilities.iter().enumerate() {
            let ratio = probability / best;
            if (ratio - f64::from(min_p)).abs() > 1e-9 {
                prop_assert_eq!(ids(&kept).contains(&(id as u32)), ratio > f64::from(min_p));
            }
        }
    }

    #[test]
    fn a_repetition_penalty_lowers_each_seen_score_once(
        logits in scores(), context in prop::collection::vec(0u32..900, 0..20), penalty in 1.01f32..3.0,
    ) {
        let mut scores = logits.clone();
        penalize_repetition(&mut scores, &mut context.clone(), penalty);
        for (id, (before, after)) in logits.iter().zip(&scores).enumerate() {
            let expected = match (context.contains(&(id as u32)), *before > 0.0) {
                (false, _) => *before,
                (true, true) => before / penalty,
                (true, false) => before * penalty,
            };
            prop_assert_eq!(*after, expected);
        }
    }

    #[test]
    fn temperature_0_is_the_first_of_the_highest(logits in scores()) {
        let mut sampler = Sampler::new(SamplerOptions::greedy()).expect("valid options");
        prop_assert_eq!(sampler.sample(&logits, &[]).expect("finite scores"), ranking(&logits)[0]);
    }

    #[test]
    fn top_k_1_and_a_tiny_top_p_are_greedy(logits in scores(), seed in any::<u64>()) {
        let base = SamplerOptions { temperature: 1.0, seed, ..SamplerOptions::greedy() };
        for options in [SamplerOptions { top_k: 1, ..base.clone() }, SamplerOptions { top_p: 1e-6, ..base }] {
            let mut sampler = Sampler::new(options).expect("valid options");
            prop_assert_eq!(sampler.sample(&logits, &[]).expect("finite scores"), argmax(&logits));
        }
    }

    #[test]
    fn filters_that_remove_nothing_change_nothing(logits in scores(), seed in any::<u64>()) {
        let open = SamplerOptions { temperature: 0.9, seed, ..SamplerOptions::greedy() };
        let wide = SamplerOptions { top_k: logits.len(), top_p: 1.0, min_p: 1e-30, ..open.clone() };
        let draws = |options: SamplerOptions| -> Vec<u32> {
            let mut sampler = Sampler::new(options).expect("valid options");
            (0..20).map(|_| sampler.sample(&logits, &[]).expect("finite scores")).collect()
        };
        prop_assert_eq!(draws(open), draws(wide));
    }

    #[test]
    fn a_seed_repeats_its_draws_and_every_draw_is_a_candidate(logits in scores(), options in options()) {
        let context = [1, 2, 3];
        let draws = || -> Vec<u32> {
            let mut sampler = Sampler::new(options.clone()).expect("valid options");
            (0..10).map(|_| sampler.sample(&logits, &context).expect("finite scores")).collect()
        };
        let drawn = draws();
        prop_assert_eq!(&drawn, &draws());
        prop_assert!(drawn.iter().all(|id| (*id as usize) < logits.len()));
    }
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0f32, 1.0, 2.0, -1.0];
    let expected = softmax(&logits);
    let mut sampler = Sampler::new(SamplerOptions { temperature: 1.0, seed: 3, ..SamplerOptions::greedy() })
        .expect("valid options");
    let mut counts = [0u32; 4];
    let n = 20_000;
    for _ in 0..n {
        counts[sampler.sample(&logits, &[]).expect("finite scores") as usize] += 1;
    }
    for (count, probability) in counts.iter().zip(expected) {
        // Five standard deviations of a binomial share.
        let tolerance = 5.0 * (probability * (1.0 - probability) / f64::from(n)).sqrt();
        assert!((f64::from(*count) / f64::from(n) - probability).abs() < tolerance, "{counts:?}");
    }
}

#[test]
fn a_colder_temperature_prefers_the_best() {
    let logits = [0.0f32, 1.0, 2.0];
    let share = |temperature: f32| {
        let options = SamplerOptions { temperature, seed: 5, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).expect("valid options");
        (0..2000).filter(|_| sampler.sample(&logits, &[]).expect("finite scores") == 2).count()
    };
    assert!(share(0.3) > share(1.0) && share(1.0) > share(3.0));
}

#[test]
fn options_out_of_range_are_named() {
    let base = SamplerOptions::greedy();
    let cases = [
        ("temperature", SamplerOptions { temperature: -0.1, ..base.clone() }),
        ("temperature", SamplerOptions { temperature: 1e-6, ..base.clone() }),
        ("temperature", SamplerOptions { temperature: f32::NAN, ..base.clone() }),
        ("top_p", SamplerOptions { top_p: 0.0, ..base.clone() }),
        ("min_p", SamplerOptions { min_p: 1.0, ..base.clone() }),
        ("repetition_penalty", SamplerOptions { repetition_penalty: 0.0, ..base }),
    ];
    for (name, options) in cases {
        match Sampler::new(options) {
            Err(EngineError::Sampling { option, .. }) => assert_eq!(option, name),
            other => panic!("expected `{name}` to be refused, got {other:?}"),
        }
    }
}

#[test]
fn a_score_that_is_not_a_number_is_an_error() {
    let mut sampler = Sampler::new(SamplerOptions::greedy()).expect("valid options");
    let error = sampler.sample(&[0.0, f32::NAN], &[]).expect_err("not finite");
    assert!(matches!(error, EngineError::NotFinite { id: 1, .. }), "{error}");
}
