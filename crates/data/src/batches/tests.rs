//! Packing invariants, exact resumption, shares of a mixture.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn settings(sequence_length: usize, batch_tokens: usize, seed: u64) -> BatchSettings {
    BatchSettings { sequence_length, batch_tokens, seed }
}

/// Documents of these lengths; token `i` of document `d` is `1000 d + i`. Odd documents have a mask if asked.
fn source(lengths: &[usize], with_masks: bool) -> TokenSource {
    let mut source = TokenSource::new();
    for (document, &len) in lengths.iter().enumerate() {
        let ids: Vec<u32> = (0..len).map(|index| (1000 * document + index) as u32).collect();
        if with_masks && document % 2 == 1 {
            source.push_masked(&ids, &(0..len).map(|index| index % 4 >= 2).collect::<Vec<_>>());
        } else {
            source.push_text(&ids);
        }
    }
    source
}

fn loader(source: TokenSource, settings: BatchSettings) -> BatchLoader {
    let part = MixturePart { name: "s".into(), source: Arc::new(source), weight: 1.0 };
    BatchLoader::new(vec![part], settings).unwrap()
}

/// Checks one batch by the token values that `source` chose; counts how often each token is a counted target.
fn check(batch: &Batch, settings: BatchSettings, source: &TokenSource, seen: &mut BTreeMap<u32, usize>) {
    let n = batch.tokens.len();
    assert!(n > 0 && n <= settings.batch_tokens);
    assert_eq!((batch.targets.len(), batch.weights.len()), (n, n));
    let mut row = 0;
    for segment in &batch.segments {
        assert_eq!(segment.start, row);
        assert!((1..=settings.sequence_length).contains(&segment.len));
        let rows = row..row + segment.len;
        let first = batch.tokens[row];
        for (offset, at) in rows.clone().enumerate() {
            assert_eq!(batch.tokens[at], first + offset as u32, "consecutive tokens of one document");
            assert_eq!(batch.targets[at], batch.tokens[at] + 1);
            let (document, index) =
                ((batch.targets[at] / 1000) as usize, (batch.targets[at] % 1000) as usize);
            assert_eq!((batch.tokens[at] / 1000) as usize, document);
            let expected = f32::from(u8::from(source.document(document).is_target(index)));
            assert_eq!(batch.weights[at], expected);
            if batch.weights[at] != 0.0 {
                *seen.entry(batch.targets[at]).or_default() += 1;
            }
        }
        assert!(batch.weights[rows].contains(&1.0), "every segment teaches");
        row += segment.len;
    }
    assert_eq!(row, n, "segments cover the batch");
}

/// Every target of an epoch, once each.
fn expected_targets(source: &TokenSource, sequence_length: usize) -> BTreeMap<u32, usize> {
    let mut expected = BTreeMap::new();
    for document in 0..source.num_documents() {
        let tokens = source.document(document);
        let inputs = tokens.ids.len().saturating_sub(1);
        let kept = if tokens.mask.is_some() { inputs.min(sequence_length) } else { inputs };
        for at in (1..=kept).filter(|&at| tokens.is_target(at)) {
            expected.insert(tokens.ids[at], 1);
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_target_once_an_epoch_and_no_segment_crosses_documents(
        lengths in proptest::collection::vec(0usize..60, 1..30),
        with_masks in any::<bool>(),
        sequence_length in 1usize..40,
        extra in 0usize..80,
        seed in any::<u64>(),
    ) {
        let source = source(&lengths, with_masks);
        let settings = settings(sequence_length, sequence_length + extra, seed);
        let expected = expected_targets(&source, sequence_length);
        let mut seen = BTreeMap::new();
        one_epoch(&source, settings).unwrap().for_each(|batch| check(&batch, settings, &source, &mut seen));
        prop_assert_eq!(&seen, &expected);
        if expected.is_empty() {
            return Ok(());
        }
        // Batches of the loader may run into the next epoch: after k whole epochs every target was seen
        // k times, and those of the last batch's next epoch once more.
        let epoch_tokens = Pieces::new(&source, sequence_length).report().tokens;
        let mut loader = loader(source.clone(), settings);
        let (mut tokens, mut seen) = (0, BTreeMap::new());
        while tokens < 3 * epoch_tokens {
            let batch = loader.next_batch();
            tokens += batch.tokens.len();
            check(&batch, settings, &source, &mut seen);
        }
        let position = loader.position();
        let epochs = position.parts[0].epoch as usize;
        prop_assert_eq!(position.parts[0].tokens as usize, tokens);
        prop_assert!(epochs >= 3);
        prop_assert_eq!(seen.len(), expected.len());
        prop_assert!(seen.values().all(|&count| count == epochs || count == epochs + 1));
    }

    #[test]
    fn resuming_anywhere_gives_the_same_batches(
        lengths in proptest::collection::vec(2usize..50, 3..20),
        cut in 0usize..30,
        seed in any::<u64>(),
    ) {
        let parts = || {
            let part = |name: &str, weight, masks, lengths: &[usize]| MixturePart {
                name: name.into(), source: Arc::new(source(lengths, masks)), weight,
            };
            vec![part("a", 0.7, false, &lengths), part("b", 0.2, true, &lengths[1..]), part("c", 1.3, false, &lengths[2..])]
        };
        let settings = settings(16, 50, seed);
        let mut whole = BatchLoader::new(parts(), settings).unwrap();
        (0..cut).for_each(|_| drop(whole.next_batch()));
        let json = serde_json::to_string(&whole.position()).unwrap();
        let mut resumed = BatchLoader::new(parts(), settings).unwrap();
        resumed.restore(&serde_json::from_str(&json).unwrap()).unwrap();
        let mut reused = Batch::default();
        for _ in 0..20 {
            resumed.next_batch_into(&mut reused);
            prop_assert_eq!(&whole.next_batch(), &reused);
            prop_assert_eq!(whole.position(), resumed.position());
        }
        prop_assert_eq!(resumed.position().batches, cut as u64 + 20);
    }
}

#[test]
fn epochs_and_seeds_shuffle_anew_and_a_seed_repeats_itself() {
    let lengths: Vec<usize> = (0..50).map(|index| 3 + index % 7).collect();
    let order = |seed, epoch: usize| {
        let settings = settings(16, 16, seed);
        let mut loader = loader(source(&lengths, false), settings);
        let mut firsts = Vec::new();
        while firsts.len() < 50 * (epoch + 1) {
            let batch = loader.next_batch();
            firsts.extend(batch.segments.iter().map(|segment| batch.tokens[segment.start]));
        }
        firsts[50 * epoch..50 * (epoch + 1)].to_vec()
    };
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
    let mut sorted = order(1, 1);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).map(|document| document * 1000).collect::<Vec<_>>());
}

#[test]
fn long_texts_are_cut_evenly_and_long_conversations_lose_their_end() {
    let mut source = TokenSource::new();
    source.push_text(&(0..12).collect::<Vec<u32>>());
    let mask = |first: usize| (0..12).map(|index| index >= first).collect::<Vec<_>>();
    source.push_masked(&(1000..1012).collect::<Vec<u32>>(), &mask(3));
    source.push_masked(&(2000..2012).collect::<Vec<u32>>(), &mask(6));
    source.push_text(&[3000]);
    let batches: Vec<Batch> = one_epoch(&source, settings(5, 100, 0)).unwrap().collect();
    assert_eq!(batches.len(), 1);
    let segments: Vec<&[u32]> =
        batches[0].segments.iter().map(|s| &batches[0].tokens[s.start..s.start + s.len]).collect();
    assert_eq!(segments, [&[0u32, 1, 2, 3][..], &[4, 5, 6, 7], &[8, 9, 10], &[1000, 1001, 1002, 1003, 1004]]);
    assert_eq!(batches[0].weights[11..], [0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_eq!((batches[0].num_targets(), batches[0].targets[3]), (14, 4));
    let report = Pieces::new(&source, 5).report();
    let expected = PackingReport { pieces: 4, tokens: 16, cut: 1, truncated: 1, left_out: 2 };
    assert_eq!(report, expected);
}

#[test]
fn a_mixture_keeps_its_shares_at_every_moment() {
    let part = |name: &str, weight, lengths: &[usize]| MixturePart {
        name: name.into(),
        source: Arc::new(source(lengths, false)),
        weight,
    };
    let parts = vec![part("small", 3.0, &[9; 4]), part("large", 1.0, &[40; 200]), part("rare", 0.1, &[7, 8])];
    let mut loader = BatchLoader::new(parts, settings(32, 64, 9)).unwrap();
    for _ in 0..2000 {
        loader.next_batch();
        let position = loader.position();
        let total: u64 = position.parts.iter().map(|part| part.tokens).sum();
        for (part, weight) in position.parts.iter().zip([3.0, 1.0, 0.1]) {
            let expected = total as f64 * weight / 4.1;
            assert!((part.tokens as f64 - expected).abs() <= 3.0 * 32.0, "{part:?} of {total}");
        }
    }
    let position = loader.position();
    assert!(position.parts[0].epoch > 1000 && position.parts[1].epoch < 20, "{position:?}");
}

#[test]
fn a_position_of_other_data_or_settings_is_refused() {
    let base = || source(&[9, 12, 30], true);
    let position = loader(base(), settings(8, 16, 1)).position();
    let others = [
        loader(base(), settings(9, 16, 1)),
        loader(base(), settings(8, 17, 1)),
        loader(base(), settings(8, 16, 2)),
        loader(source(&[9, 12, 31], true), settings(8, 16, 1)),
        loader(source(&[9, 12, 30], false), settings(8, 16, 1)),
    ];
    for mut other in others {
        let error = other.restore(&position).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Position { .. }), "{error}");
    }
    let mut same = loader(base(), settings(8, 16, 1));
    let mut damaged = position.clone();
    damaged.parts[0].piece = 1 << 40;
    assert!(same.restore(&damaged).is_err());
    damaged.parts.clear();
    assert!(same.restore(&damaged).is_err());
    same.restore(&position).unwrap();
}

#[test]
fn settings_out_of_range_and_empty_sources_are_refused() {
    let part = |weight, lengths: &[usize]| {
        vec![MixturePart { name: "s".into(), source: Arc::new(source(lengths, false)), weight }]
    };
    let error = |parts, settings| BatchLoader::new(parts, settings).err().unwrap().to_string();
    let good = settings(4, 8, 0);
    assert_eq!(error(vec![], good), "sources: expected at least one, found none");
    assert_eq!(error(part(0.0, &[5]), good), "weight: expected a number above 0, found 0 for `s`");
    assert!(error(part(f64::NAN, &[5]), good).contains("found NaN"));
    assert_eq!(error(part(1.0, &[1, 0]), good), "source `s` holds no target tokens");
    assert_eq!(error(part(1.0, &[5]), settings(0, 8, 0)), "sequence_length: expected at least 1, found 0");
    assert_eq!(
        error(part(1.0, &[5]), settings(9, 8, 0)),
        "batch_tokens: expected at least sequence_length, found 8 with sequence_length 9"
    );
    assert!(one_epoch(&source(&[5], false), settings(9, 8, 0)).is_err());
}
