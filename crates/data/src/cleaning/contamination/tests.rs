//! What counts as contaminated, against sets of words computed another way, and the files that come out.

use super::*;
use crate::cleaning::{DecontaminateReport, Input, decontaminate};
use crate::corpus::{Corpus, CorpusSettings, Split};
use proptest::prelude::*;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// `count` words that no other part has.
fn words(name: &str, count: usize) -> String {
    (0..count).map(|n| format!("{name}{n}")).collect::<Vec<_>>().join(" ")
}

fn write(folder: &Path, name: &str, texts: &[String]) -> PathBuf {
    let path = folder.join(name);
    let lines: String =
        texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    std::fs::write(&path, lines).unwrap();
    path
}

struct Outcome {
    kept: Vec<u64>,
    report: DecontaminateReport,
}

fn run(folder: &Path, train: &[String], test: &[String], common: usize, threads: usize) -> Outcome {
    let (train, test) = (write(folder, "train.jsonl", train), write(folder, "test.jsonl", test));
    let reader = ReaderSettings::default();
    let sets = TestSets::read(&[test], &reader).unwrap();
    let paths = [train];
    let input = Input { paths: &paths, reader: &reader, threads };
    let mut kept = Vec::new();
    let report = decontaminate(input, &sets, common, &mut |_| ControlFlow::Continue(()), |_, source| {
        kept.push(source.record.line);
        Ok(())
    });
    Outcome { kept, report: report.unwrap() }
}

#[test]
fn thirteen_words_contaminate_and_twelve_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let item = words("q", 20);
    let part = |count: usize| item.split(' ').skip(4).take(count).collect::<Vec<_>>().join(" ");
    let train = [
        words("a", 50),
        format!("{} {} {}", words("b", 9), part(13).to_uppercase().replace(' ', ", "), words("c", 9)),
        format!("{} {} {}", words("d", 9), part(12), words("e", 9)),
    ];
    let found = run(folder.path(), &train, &[words("z", 30), item], 10, 2);
    assert_eq!(found.kept, [1, 3]);
    let report = &found.report;
    assert_eq!((report.total.records, report.total.kept, report.total.found.contaminated), (3, 2, 1));
    let [record] = report.found.contaminated.as_slice() else { panic!("{report:?}") };
    assert_eq!((record.place.line, record.grams), (2, 1));
    let set = &report.found.test_sets[0];
    assert_eq!((set.items, set.checked, set.hit, set.half, set.records), (2, 2, 1, 0, 1));
    let [hit] = set.hits.as_slice() else { panic!("{set:?}") };
    assert_eq!((hit.item, hit.line, hit.grams, hit.found, hit.records), (1, 2, 8, 1, 1));
    assert_eq!(hit.first, record.place);
}

#[test]
fn short_texts_count_as_a_whole_and_very_short_ones_not() {
    let folder = tempfile::tempdir().unwrap();
    let (eight, seven) = (words("e", 8), words("s", 7));
    let train = [format!("so {eight} it is"), format!("so {seven} it is"), words("a", 40)];
    let found = run(folder.path(), &train, &[eight, seven], 10, 1);
    assert_eq!(found.kept, [2, 3]);
    let set = &found.report.found.test_sets[0];
    assert_eq!((set.items, set.checked, set.hit, set.half), (2, 1, 1, 1));
}

#[test]
fn a_standing_phrase_drops_nothing_and_a_copy_of_an_item_always_does() {
    let folder = tempfile::tempdir().unwrap();
    let phrase = words("phrase", 13);
    let item = format!("{phrase} {}", words("rest", 20));
    let mut train: Vec<String> =
        (0..4).map(|n| format!("{phrase} {}", words(&format!("r{n}x"), 9))).collect();
    train.extend((0..4).map(|n| format!("{} {item}", words(&format!("i{n}x"), 9))));
    let found = run(folder.path(), &train, &[item.clone(), format!("{phrase} end")], 3, 1);
    // The phrase is in 8 records, the item in 4: all grams are held by more than 3.
    assert_eq!(found.kept, [1, 2, 3, 4]);
    assert_eq!(found.report.found.standing_phrases, 21);
    let set = &found.report.found.test_sets[0];
    assert_eq!((set.hit, set.half, set.records), (1, 1, 4), "the second item shares the phrase alone");
    let found = run(folder.path(), &train, &[item], 8, 1);
    assert_eq!((found.kept.len(), found.report.found.standing_phrases), (0, 0));
}

#[test]
fn the_training_split_of_a_corpus_loses_them_and_held_out_records_stay() {
    let folder = tempfile::tempdir().unwrap();
    let items: Vec<String> = (0..200).map(|n| words(&format!("i{n}x"), 20)).collect();
    let train = write(folder.path(), "train.jsonl", &items);
    let settings = CorpusSettings { validation: 0.2, test: 0.2, ..Default::default() };
    let mut corpus = Corpus::scan(&[train], &settings).unwrap();
    let before = corpus.report().clone();
    let lines = |corpus: &Corpus, split| -> HashSet<u64> {
        corpus.records(split, None).map(|record| record.unwrap().line).collect()
    };
    let held_out = [lines(&corpus, Split::Validation), lines(&corpus, Split::Test)];
    let train_before = lines(&corpus, Split::Train);
    let sets = TestSets::read(&[write(folder.path(), "test.jsonl", &items[..50])], &settings.reader).unwrap();
    let report = corpus.decontaminate(&sets, COMMON_RECORDS).unwrap();
    let expected: HashSet<u64> = train_before.into_iter().filter(|line| *line > 50).collect();
    assert_eq!(lines(&corpus, Split::Train), expected);
    assert_eq!([lines(&corpus, Split::Validation), lines(&corpus, Split::Test)], held_out);
    let after = corpus.report();
    let gone = before.splits[0].records - expected.len();
    assert!(gone > 10 && report.contaminated.len() == gone && after.files[0].contaminated == gone);
    let characters: usize = expected.iter().map(|line| items[*line as usize - 1].len()).sum();
    let train = after.splits[0];
    assert_eq!(
        (train.records, train.characters, train.groups),
        (expected.len(), characters as u64, expected.len())
    );
    assert_eq!(after.splits[1..], before.splits[1..]);
}

/// The grams of a text as words, by the rules above.
fn gram_words(text: &str, sizes: &[usize]) -> HashSet<Vec<String>> {
    let words: Vec<String> = text.split(' ').map(String::from).collect();
    sizes.iter().flat_map(|&size| words.windows(size)).map(<[String]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Texts of few different words, so that runs are shared by chance, against sets of runs of words.
    #[test]
    fn hashes_decide_as_words_do(seed in any::<u64>(), items in 1usize..8, records in 1usize..40) {
        let folder = tempfile::tempdir().unwrap();
        let text = |n: usize, count: usize| -> String {
            let word = |at: usize| crate::hash::mix(seed ^ ((n as u64) << 32) ^ (at as u64 / 7)) % 6 * 7 + at as u64 % 7;
            (0..count).map(|at| format!("w{}", word(at))).collect::<Vec<_>>().join(" ")
        };
        let test: Vec<String> = (0..items).map(|n| text(n, 4 + 5 * n)).collect();
        let train: Vec<String> = (0..records).map(|n| text(1000 + n, 60)).collect();
        let found = run(folder.path(), &train, &test, 1000, 2);
        let mut expected = Vec::new();
        for (line, text) in (1u64..).zip(&train) {
            let touches = test.iter().any(|item| {
                let count = item.split(' ').count();
                let size = if count < SHORT_WORDS { GRAM_WORDS } else { count.min(GRAM_WORDS) };
                !gram_words(item, &[size]).is_disjoint(&gram_words(text, &[size]))
            });
            if !touches {
                expected.push(line);
            }
        }
        prop_assert_eq!(found.kept, expected);
    }
}
