//! Rollouts: the same bits for any batch size, number of threads and neighbours; log-probabilities that are the trainer's.

mod sessions;

use std::ops::ControlFlow;
use std::sync::Arc;

use sessions::{VOCAB, bounded, config, load, random_ids};
use shakti_engine::{
    DType, EngineError, KvType, Network, Rollout, RolloutOptions, SamplerOptions, argmax, rollouts,
};
use shakti_kernels::{Cpu, KernelSet, Precision};
use shakti_model::{
    Batch, Compute, Decoder, LayerType, Layout, ModelConfig, ModelError, Parameters, Targets, Weights,
};

use LayerType::{BlockSparseAttention as Sparse, FullAttention as Full, SlidingAttention as Sliding};

fn options(group: usize, max_new_tokens: usize) -> RolloutOptions {
    let sampler = SamplerOptions { temperature: 1.0, seed: 11, ..SamplerOptions::greedy() };
    // Frequent enough that samples end at many different steps.
    let stop_ids = (0..5).collect();
    RolloutOptions { group, max_new_tokens, sampler, stop_ids, batch_size: 8 }
}

fn best() -> &'static KernelSet {
    KernelSet::best().expect("a kernel set")
}

fn network(config: &ModelConfig, threads: usize) -> Arc<Network> {
    Arc::new(load(config, best(), threads).with_kv_type(KvType::F32))
}

fn run(network: &Arc<Network>, prompts: &[Vec<u32>], options: &RolloutOptions) -> Vec<Rollout> {
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    rollouts(network, &prompts, options, &mut |_| ControlFlow::Continue(())).expect("rollouts")
}

fn some_prompts() -> Vec<Vec<u32>> {
    // One longer than a chunk of a prefill, one a single id.
    [(5, 1), (200, 2), (1, 3), (64, 4)].map(|(len, seed)| random_ids(len, seed)).to_vec()
}

#[test]
fn a_sample_does_not_depend_on_batch_size_threads_or_neighbours() {
    let (config, prompts) = (config(&[Full, Sliding, Sparse], 50), some_prompts());
    let one = network(&config, 1);
    let expected = run(&one, &prompts, &options(3, 30));
    let lens: Vec<usize> = expected.iter().map(|rollout| rollout.ids.len()).collect();
    assert!(lens.iter().any(|len| *len < 30) && lens.iter().any(|len| *len > 10), "{lens:?}");
    for batch_size in [1, 2, 5, 100] {
        let found = run(&one, &prompts, &RolloutOptions { batch_size, ..options(3, 30) });
        assert_eq!(found, expected, "batch size {batch_size}");
    }
    for threads in [2, 3] {
        assert_eq!(run(&network(&config, threads), &prompts, &options(3, 30)), expected, "{threads} threads");
    }
    let larger = run(&one, &prompts, &options(5, 30));
    let same = |rollouts: &[Rollout], prompt: usize, group: usize| rollouts[prompt * group..][..3].to_vec();
    let mut others = prompts.clone();
    others[1] = random_ids(90, 77);
    let beside_others = run(&one, &others, &options(3, 30));
    for prompt in 0..prompts.len() {
        assert_eq!(same(&larger, prompt, 5), same(&expected, prompt, 3), "prompt {prompt}, larger group");
        let unchanged = same(&beside_others, prompt, 3) == same(&expected, prompt, 3);
        assert_eq!(unchanged, prompt != 1, "prompt {prompt} beside others");
    }
}

#[test]
fn a_rollout_ends_at_a_stop_id_or_at_the_length() {
    let options = options(6, 20);
    let found = run(&network(&config(&[Full], 50), 2), &some_prompts(), &options);
    for (index, rollout) in found.iter().enumerate() {
        assert_eq!(rollout.prompt, index / 6);
        assert_eq!(rollout.ids.len(), rollout.log_probs.len());
        let (last, before) = rollout.ids.split_last().expect("a token");
        assert!(!before.iter().any(|id| options.stop_ids.contains(id)));
        assert_eq!(rollout.ended, options.stop_ids.contains(last));
        assert!(rollout.ended || rollout.ids.len() == 20);
    }
    assert!(found.iter().any(|rollout| rollout.ended) && found.iter().any(|rollout| !rollout.ended));
}

#[test]
fn greedy_is_the_highest_score_of_a_session_fed_token_by_token() {
    let network = network(&config(&[Full, Sliding], 50), 2);
    let greedy = RolloutOptions { sampler: SamplerOptions::greedy(), stop_ids: vec![], ..options(2, 12) };
    let prompts = some_prompts();
    let found = run(&network, &prompts, &greedy);
    for (rollout, prompt) in found.iter().zip([0, 0, 1, 1, 2, 2, 3, 3]) {
        let mut session = bounded(&network, 300);
        let mut scores = session.feed(&prompts[prompt]).expect("room");
        for (id, log_prob) in rollout.ids.iter().zip(&rollout.log_probs) {
            assert_eq!(*id, argmax(&scores));
            let sum: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
            let expected = f64::from(scores[*id as usize]) - sum.ln();
            assert!((f64::from(*log_prob) - expected).abs() < 1e-5, "{log_prob}, expected {expected}");
            scores = session.feed(&[*id]).expect("room");
        }
    }
}

#[test]
fn samples_of_a_group_are_drawn_with_the_models_probabilities() {
    let (network, prompt) = (network(&config(&[Full], 50), 2), random_ids(7, 8));
    let found =
        run(&network, std::slice::from_ref(&prompt), &RolloutOptions { batch_size: 500, ..options(4000, 1) });
    let scores = bounded(&network, 10).feed(&prompt).expect("room");
    let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
    let mut counts = [0.0; VOCAB];
    found.iter().for_each(|rollout| counts[rollout.ids[0] as usize] += 1.0);
    let expected = scores.iter().map(|score| 4000.0 * f64::from(*score).exp() / total);
    let chi: f64 = expected.zip(counts).map(|(mean, count)| (count - mean).powi(2) / mean).sum();
    // 96 degrees of freedom: mean 96, deviation 13.9.
    assert!(chi < 96.0 + 5.0 * 13.9, "{chi}");
}

/// The trainer's loss of the sampled ids after the prompt, in nats.
fn trainer_loss(config: &ModelConfig, params: &Parameters, ids: &[u32], prompt: usize) -> f64 {
    let decoder = Decoder::new(config.clone()).expect("a valid model");
    let cpu = Cpu::new(best(), 2);
    let (tokens, targets) = (&ids[..ids.len() - 1], &ids[1..]);
    let weights: Vec<f32> = (1..ids.len()).map(|at| if at < prompt { 0.0 } else { 1.0 }).collect();
    let batch = Batch { tokens, rows: &[0..tokens.len()] };
    let compute = Compute { cpu: &cpu, precision: Precision::F32 };
    let targets = Targets { targets, weights: &weights };
    decoder.loss(compute, &Weights::dense(params), batch, targets).expect("a loss").nats
}

#[test]
fn log_probs_are_the_trainers_in_f32_and_near_in_bf16() {
    let config = config(&[Full, Sliding, Sparse], 50);
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 17);
    let cpu = Arc::new(Cpu::new(best(), 2));
    let of = |dtype| {
        let network = match dtype {
            DType::F32 => Network::load(config.clone(), &params, cpu.clone()),
            _ => Network::load_as(config.clone(), &params, dtype, cpu.clone()),
        };
        Arc::new(network.expect("a valid model").with_kv_type(KvType::F32))
    };
    let (prompts, options) = (some_prompts(), options(4, 25));
    for dtype in [DType::F32, DType::BF16] {
        let mut off: Vec<f64> = Vec::new();
        for rollout in run(&of(dtype), &prompts, &options) {
            let prompt = &prompts[rollout.prompt];
            // One token more each time, so that each has its own loss.
            let mut before = 0.0;
            for (at, log_prob) in rollout.log_probs.iter().enumerate() {
                let ids = [&prompt[..], &rollout.ids[..=at]].concat();
                let nats = trainer_loss(&config, &params, &ids, prompt.len());
                off.push((nats - before + f64::from(*log_prob)).abs());
                before = nats;
            }
        }
        let (mean, worst) =
            (off.iter().sum::<f64>() / off.len() as f64, off.iter().copied().fold(0.0, f64::max));
        eprintln!("{dtype}: off by {mean} in the mean, {worst} at most");
        match dtype {
            DType::F32 => assert!(worst < 1e-4, "{worst}"),
            // The weights are large, so scores are far apart and rounding shows.
            _ => assert!(mean < 0.05 && worst > 1e-4, "{mean}, {worst}"),
        }
    }
    let (f32, bf16) = (of(DType::F32).weight_bytes(), of(DType::BF16).weight_bytes());
    assert!(bf16 < f32 * 51 / 100, "{bf16} of {f32} bytes");
}

#[test]
fn what_cannot_be_sampled_is_named_before_anything_is_computed() {
    let network = network(&config(&[Full], 50), 1);
    let (good, long) = (random_ids(5, 1), random_ids(4090, 2));
    let fail = |prompts: &[&[u32]], options: &RolloutOptions| {
        let mut never = |_| -> ControlFlow<()> { panic!("a step was computed") };
        rollouts(&network, prompts, options, &mut never).expect_err("refused")
    };
    let fine = options(2, 7);
    let of_prompt = |error| match error {
        EngineError::Prompt { index: 1, source } => *source,
        other => panic!("{other:?}"),
    };
    let error = of_prompt(fail(&[&good, &long], &fine));
    assert!(
        matches!(error, EngineError::ContextOverflow { found: 4090, reserved: 7, max_seq_len: 4096, .. }),
        "{error:?}"
    );
    assert!(matches!(of_prompt(fail(&[&good, &[]], &fine)), EngineError::EmptyPrompt));
    let error = of_prompt(fail(&[&good, &[3, 97]], &fine));
    assert!(
        matches!(error, EngineError::Model(ModelError::TokenId { id: 97, index: 1, vocab_size: 97 })),
        "{error:?}"
    );
    let zero = |option: &str, options: RolloutOptions| {
        let error = fail(&[&good], &options);
        assert!(matches!(error, EngineError::Sampling { option: found, .. } if found == option), "{error:?}");
    };
    zero("group", RolloutOptions { group: 0, ..fine.clone() });
    zero("max_new_tokens", RolloutOptions { max_new_tokens: 0, ..fine.clone() });
    zero("batch_size", RolloutOptions { batch_size: 0, ..fine.clone() });
    zero("top_p", RolloutOptions { sampler: SamplerOptions { top_p: 0.0, ..fine.sampler.clone() }, ..fine });
    assert_eq!(run(&network, &[], &options(2, 7)), []);
}

#[test]
fn progress_is_told_at_every_step_and_can_stop_the_rest() {
    let network = network(&config(&[Full], 50), 1);
    let prompts = some_prompts();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut told = Vec::new();
    let found = rollouts(&network, &prompts, &options(3, 30), &mut |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    });
    let tokens = found.expect("rollouts").iter().map(|rollout| rollout.ids.len()).sum::<usize>();
    let last = *told.last().expect("a step");
    assert_eq!((last.finished, last.total, last.tokens), (12, 12, tokens));
    assert!(told.is_sorted_by(|a, b| a.finished <= b.finished && a.tokens < b.tokens));
    let mut steps = 0;
    let stopped = rollouts(&network, &prompts, &options(3, 30), &mut |_| {
        steps += 1;
        if steps == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let finished = told[3].finished;
    assert!(
        matches!(stopped, Err(EngineError::Stopped { finished: at, total: 12 }) if at == finished),
        "{stopped:?}"
    );
}
