//! Equivalences of sessions, each on random tiny models and on every kernel set this CPU can run: one prefill and many
//! decodes, batched and alone, windows and block patterns that cover the text, endless streams in flat memory.

mod sessions;

use std::sync::Arc;

use sessions::{VOCAB, bounded, config, load, random_ids};
use shakti_engine::{CacheMode, Network, Rng, ScoredWindow, Session, feed_batch};
use shakti_kernels::{Buffer, KernelSet, KvType};
use shakti_model::{LayerType, ModelConfig, NormType};

use LayerType::{BlockSparseAttention as Sparse, FullAttention as Full, SlidingAttention as Sliding};

fn network(config: &ModelConfig, kernels: &'static KernelSet, threads: usize) -> Arc<Network> {
    Arc::new(load(config, kernels, threads))
}

fn on_every_kernel_set(config: &ModelConfig, test: impl Fn(&Arc<Network>)) {
    for kernels in KernelSet::available() {
        eprintln!("kernel set {}", kernels.name());
        test(&network(config, kernels, 1));
    }
}

fn one_by_one(session: &mut Session, ids: &[u32]) -> Buffer {
    ids.iter().map(|id| session.feed(&[*id]).expect("room for a token")).last().expect("at least one token")
}

#[test]
fn a_prefill_equals_single_decodes_bit_for_bit() {
    for layer_types in [[Full, Sliding, Sparse], [Sparse, Sparse, Full]] {
        // Beyond the window, beyond 8 blocks of 64, and not at a block's end.
        let ids = random_ids(613, 1);
        on_every_kernel_set(&config(&layer_types, 100), |network| {
            let whole = bounded(network, 700).feed(&ids).expect("room");
            let single = one_by_one(&mut bounded(network, 700), &ids);
            assert_eq!(whole, single, "{layer_types:?}");
        });
    }
}

#[test]
fn a_cache_of_any_type_is_near_to_floats_and_the_same_for_any_split() {
    // Two spans of keys, so that threads share the keys of a row.
    let (ids, config) = (random_ids(700, 18), config(&[Full, Sliding, Sparse], 600));
    for kernels in KernelSet::available() {
        let of = |kind, threads| Arc::new(load(&config, kernels, threads).with_kv_type(kind));
        let run = |network: &Arc<Network>| bounded(network, 700).feed(&ids).expect("room");
        let exact = run(&of(KvType::F32, 1));
        let scale = exact.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let mut sizes = vec![bounded(&of(KvType::F32, 1), 700).cache_bytes()];
        for (kind, tolerance) in [(KvType::F16, 5e-3), (KvType::Q8_0, 5e-2)] {
            let network = of(kind, 1);
            let found = run(&network);
            let far = found.iter().zip(&*exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
            let place = format!("{}, {}", kernels.name(), kind.name());
            assert!(far > 0.0 && far < tolerance, "{place}: {far}");
            assert_eq!(found, one_by_one(&mut bounded(&network, 700), &ids), "{place}: one by one");
            assert_eq!(found, run(&of(kind, 3)), "{place}: on three threads");
            sizes.push(bounded(&network, 700).cache_bytes());
        }
        // Heads of 16 fill half of a group of 32: one scale for 16 values.
        assert_eq!((sizes[0], 8 * sizes[0]), (2 * sizes[1], 4 * 8 * sizes[2] * 8 / 9), "{sizes:?}");
    }
}

#[test]
fn batched_equals_alone_bit_for_bit() {
    on_every_kernel_set(&config(&[Sliding, Sparse, Full], 50), |network| {
        let prompts = [random_ids(1, 2), random_ids(600, 3), random_ids(63, 4), random_ids(1500, 5)];
        let mut together: Vec<Session> = prompts.iter().map(|_| bounded(network, 2000)).collect();
        let mut alone: Vec<Session> = prompts.iter().map(|_| bounded(network, 2000)).collect();
        for step in 0..3 {
            let ids: Vec<Vec<u32>> = match step {
                0 => prompts.to_vec(),
                _ => (0..4).map(|index| random_ids(index + step, (10 * step + index) as u64)).collect(),
            };
            // A session without a turn must not be touched.
            let active: Vec<usize> = (0..4).filter(|index| !ids[*index].is_empty()).collect();
            let slices: Vec<&[u32]> = active.iter().map(|index| ids[*index].as_slice()).collect();
            let mut borrowed: Vec<&mut Session> =
                together.iter_mut().enumerate().filter(|(i, _)| active.contains(i)).map(|(_, s)| s).collect();
            let logits = feed_batch(&mut borrowed, &slices).expect("room");
            for (row, index) in active.iter().enumerate() {
                let expected = alone[*index].feed(&ids[*index]).expect("room");
                assert_eq!(
                    logits[row * VOCAB..(row + 1) * VOCAB],
                    *expected,
                    "step {step}, sequence {index}"
                );
                assert_eq!(together[*index].tokens(), alone[*index].tokens());
            }
        }
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let config = config(&[Full, Sliding, Sparse], 100);
    let ids = random_ids(300, 6);
    for kernels in KernelSet::available() {
        let run = |threads| bounded(&network(&config, kernels, threads), 300).feed(&ids).expect("room");
        let one = run(1);
        assert!((2..5).all(|threads| run(threads) == one), "kernel set {}", kernels.name());
    }
}

#[test]
fn a_window_as_long_as_the_text_is_full_attention() {
    let ids = random_ids(300, 7);
    for kernels in KernelSet::available() {
        let run = |kind, window| {
            bounded(&network(&config(&[kind; 3], window), kernels, 1), 300).feed(&ids).expect("room")
        };
        let full = run(Full, 1);
        assert_eq!(run(Sliding, 300), full);
        assert_eq!(run(Sliding, 4000), full);
        assert_ne!(run(Sliding, 299), full, "one key less is another function");
    }
}

#[test]
fn block_sparse_is_dense_up_to_512_tokens_and_not_beyond() {
    for kernels in KernelSet::available() {
        let (sparse, full) =
            (network(&config(&[Sparse; 3], 1), kernels, 1), network(&config(&[Full; 3], 1), kernels, 1));
        let ids = random_ids(640, 8);
        for len in [1, 64, 65, 449, 511, 512] {
            let run = |network| bounded(network, 640).feed(&ids[..len]).expect("room");
            assert_eq!(run(&sparse), run(&full), "{len} tokens");
        }
        let run = |network| bounded(network, 640).feed(&ids).expect("room");
        assert_ne!(run(&sparse), run(&full), "640 tokens");
    }
}

#[test]
fn a_stream_equals_a_bounded_session_until_its_window_is_full() {
    let (window, len) = (128, 128);
    let ids = random_ids(len, 9);
    on_every_kernel_set(&config(&[Full, Sliding, Sparse], 4000), |network| {
        let mut stream = Session::new(network, CacheMode::Streaming { window });
        let mut whole = bounded(network, len);
        for id in &ids {
            let (stream, whole) = (stream.feed(&[*id]).expect("endless"), whole.feed(&[*id]).expect("room"));
            assert_eq!(stream, whole);
        }
    });
}

#[test]
fn a_stream_goes_on_in_flat_memory() {
    let ids = random_ids(600, 10);
    on_every_kernel_set(&config(&[Full, Sparse], 64), |network| {
        let mut stream = Session::new(network, CacheMode::Streaming { window: 96 });
        let bytes = stream.cache_bytes();
        let logits = stream.feed(&ids).expect("endless");
        assert!(logits.iter().all(|logit| logit.is_finite()));
        let single = one_by_one(&mut Session::new(network, CacheMode::Streaming { window: 96 }), &ids);
        assert_eq!(logits, single, "prefill and decode agree past the window");
        for _ in 0..3 {
            one_by_one(&mut stream, &ids);
        }
        assert_eq!(stream.position(), 4 * ids.len());
        assert_eq!(stream.cache_bytes(), bytes);
        assert!(stream.tokens().len() <= 2048, "remembered {}", stream.tokens().len());
    });
}

#[test]
fn a_stream_depends_on_its_sinks_and_its_window_alone() {
    // One layer: with several, older tokens live on in the keys of newer ones.
    let base = random_ids(400, 11);
    on_every_kernel_set(&config(&[Full], 1), |network| {
        let run = |ids: &[u32]| {
            Session::new(network, CacheMode::Streaming { window: 100 }).feed(ids).expect("endless")
        };
        let expected = run(&base);
        let changed = |range: std::ops::Range<usize>| {
            let mut ids = base.clone();
            ids[range].iter_mut().for_each(|id| *id = (*id + 1) % VOCAB as u32);
            run(&ids)
        };
        assert_eq!(changed(4..300), expected, "what left the window is forgotten");
        assert_ne!(changed(3..4), expected, "the last sink is seen");
        assert_ne!(changed(300..301), expected, "the oldest of the window is seen");
    });
}

#[test]
fn going_back_equals_never_having_gone() {
    let ids = random_ids(1200, 12);
    let config = config(&[Sliding, Full, Sparse], 64);
    let network = network(&config, KernelSet::best().expect("a kernel set"), 2);
    let mut rng = Rng::new(13);
    let (mut kept, mut refused) = (0, 0);
    for _ in 0..40 {
        let mut session = bounded(&network, 1200);
        let mut now = 200 + rng.below(900);
        session.feed(&ids[..now]).expect("room");
        // Twice, because the second step back must know what the first one's tokens overwrote.
        for _ in 0..2 {
            let to = rng.below(now);
            if session.truncate(to).is_ok() {
                now = to;
                kept += 1;
            } else {
                refused += 1;
            }
        }
        let logits = session.feed(&ids[now..now + 1]).expect("room");
        let expected = bounded(&network, 1200).feed(&ids[..=now]).expect("room");
        assert_eq!(logits, expected, "back to {now}");
    }
    assert!(kept > 5 && refused > 5, "both happen: {kept} kept, {refused} refused");
}

#[test]
fn a_shared_beginning_is_reused_with_the_same_result() {
    let config = config(&[Sliding, Full, Sparse], 64);
    let network = network(&config, KernelSet::best().expect("a kernel set"), 2);
    let (first, other) = (random_ids(300, 14), random_ids(40, 15));
    let mut session = bounded(&network, 500);
    session.feed(&first).expect("room");
    for shared in [300, 299, 250, 10, 0] {
        let ids = [&first[..shared], &other[..]].concat();
        let (logits, kept) = session.feed_reusing(&ids, None).expect("room");
        assert!(kept <= shared);
        assert_eq!(logits, bounded(&network, 500).feed(&ids).expect("room"), "{shared} shared");
    }
    let again = session.tokens().to_vec();
    let (_, kept) = session.feed_reusing(&again, None).expect("room");
    assert_eq!(kept, again.len() - 1, "all but the last token, whose scores are asked for");
}

#[test]
fn losses_of_windows_equal_those_of_sessions() {
    on_every_kernel_set(&config(&[Full, Sliding, Sparse], 100), |network| {
        let texts: Vec<Vec<u32>> =
            [2usize, 400, 65, 2100, 1].iter().map(|len| random_ids(*len, *len as u64)).collect();
        let windows: Vec<ScoredWindow<'_>> = texts
            .iter()
            .zip([1, 350, 1, 2000, 1])
            .map(|(ids, scored_from)| ScoredWindow { ids, scored_from })
            .collect();
        let losses = network.losses(&windows).expect("valid ids");
        for (window, loss) in windows.iter().zip(losses) {
            let mut session = bounded(network, 2200);
            let mut nats = 0.0;
            let mut fed = 0;
            for next in window.scored_from..window.ids.len() {
                let logits = session.feed(&window.ids[fed..next]).expect("room");
                nats += nats_of(&logits, window.ids[next]);
                fed = next;
            }
            let scored = window.ids.len() - window.scored_from;
            assert_eq!(loss.weight, scored as f64);
            assert!((loss.nats - nats).abs() <= 1e-4 * scored as f64, "{} and {nats}", loss.nats);
        }
    });
}

fn nats_of(logits: &[f32], target: u32) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let total: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    total.ln() - f64::from(logits[target as usize] - max)
}

#[test]
fn layer_norm_and_an_untied_head_run_too() {
    let mut config = config(&[Full, Sliding], 64);
    config.norm_type = NormType::LayerNorm;
    config.tie_word_embeddings = false;
    let ids = random_ids(150, 16);
    on_every_kernel_set(&config, |network| {
        let whole = bounded(network, 200).feed(&ids).expect("room");
        assert_eq!(whole, one_by_one(&mut bounded(network, 200), &ids));
    });
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_and_changes_nothing() {
    let config = config(&[Full], 1);
    let network = network(&config, KernelSet::best().expect("a kernel set"), 1);
    let mut session = bounded(&network, 10);
    session.feed(&random_ids(8, 1)).expect("room");
    let message = session.feed(&random_ids(3, 2)).expect_err("no room").to_string();
    assert!(message.contains("11 tokens") && message.contains("10"), "{message}");
    assert_eq!(session.position(), 8);
    assert!(session.feed(&[]).is_err());
    assert!(session.feed(&[VOCAB as u32]).expect_err("unknown id").to_string().contains("vocabulary"));
    session.feed(&random_ids(2, 2)).expect("room for two");
}
