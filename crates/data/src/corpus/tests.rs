//! De-duplication, splits by document across files, and the overlap check.

use super::*;
use crate::record::RecordKind;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

struct Files(tempfile::TempDir, Vec<PathBuf>);

/// Writes the files `0.jsonl`, `1.jsonl`, ... with these lines.
fn files(contents: &[String]) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let paths = contents
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let path = dir.path().join(format!("{index}.jsonl"));
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    Files(dir, paths)
}

fn halves(seed: u64) -> CorpusSettings {
    CorpusSettings { seed, validation: 0.3, test: 0.3, ..Default::default() }
}

/// Text and split of every kept record.
fn kept(corpus: &Corpus) -> Vec<(String, Split)> {
    Split::ALL
        .iter()
        .flat_map(|&split| corpus.records(split, None).map(move |record| (record.unwrap(), split)))
        .map(|(record, split)| (record.texts().collect::<Vec<_>>().join(" | "), split))
        .collect()
}

fn text_line(text: &str, document: &str) -> String {
    format!("{{\"text\":\"{text}\",\"document\":\"{document}\"}}\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However records spread over files: no document in two splits, no content twice, and neither the
    /// order of the files nor of the records matters.
    #[test]
    fn no_document_is_in_two_splits(
        records in proptest::collection::vec((0usize..3, 0u32..40, 0u32..12), 1..80),
        seed in any::<u64>(),
    ) {
        let mut contents = vec![String::from("{\"text\":\"always\",\"document\":\"one\"}\n"); 3];
        for &(file, text, document) in &records {
            contents[file] += &text_line(&format!("text {text}"), &format!("d{document}"));
        }
        let Files(_dir, paths) = files(&contents);
        let corpus = Corpus::scan(&paths, &halves(seed)).unwrap();
        let mut split_of_document: HashMap<String, Split> = HashMap::new();
        let mut texts = BTreeSet::new();
        for split in Split::ALL {
            for record in corpus.records(split, None) {
                let record = record.unwrap();
                let text = record.texts().next().unwrap().to_owned();
                prop_assert!(texts.insert(text.clone()), "{text} twice");
                let document = record.source_documents[0].clone();
                let before = split_of_document.insert(document.clone(), split);
                prop_assert!(before.is_none_or(|before| before == split), "{document}");
            }
        }
        let distinct: BTreeSet<String> =
            records.iter().map(|record| format!("text {}", record.1)).chain(["always".into()]).collect();
        prop_assert_eq!(texts, distinct);
        prop_assert_eq!(corpus.report().records(), records.len() + 3);
        let report = corpus.report();
        let sum: usize = report.splits.iter().map(|split| split.records).sum();
        prop_assert_eq!(sum + report.duplicates(), records.len() + 3);
    }
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let mut contents = vec![String::new(); 4];
    for index in 0..400 {
        contents[index % 4] += &text_line(&format!("text {index}"), &format!("d{}", index / 3));
    }
    let Files(_dir, mut paths) = files(&contents);
    let sorted = |paths: &[PathBuf]| {
        let mut kept = kept(&Corpus::scan(paths, &halves(5)).unwrap());
        kept.sort_unstable();
        kept
    };
    let forward = sorted(&paths);
    paths.reverse();
    assert_eq!(sorted(&paths), forward);
    let doubled: Vec<_> = paths.iter().chain(&paths).cloned().collect();
    assert_eq!(sorted(&doubled), forward);
    let other_seed = {
        let mut kept = kept(&Corpus::scan(&paths, &halves(6)).unwrap());
        kept.sort_unstable();
        kept
    };
    assert_ne!(other_seed, forward);
}

#[test]
fn shares_are_close_to_what_was_asked() {
    let text: String =
        (0..10_000).map(|index| text_line(&format!("t {index}"), &format!("{index}"))).collect();
    let Files(_dir, paths) = files(&[text]);
    let settings = CorpusSettings { validation: 0.1, test: 0.05, ..Default::default() };
    let report = Corpus::scan(&paths, &settings).unwrap().report().clone();
    assert_eq!(report.documents, 10_000);
    // Five standard deviations of a binomial: 150 and 109.
    assert!(report.splits[1].groups.abs_diff(1000) < 150, "{:?}", report.splits);
    assert!(report.splits[2].groups.abs_diff(500) < 109, "{:?}", report.splits);
}

#[test]
fn duplicates_are_dropped_and_counted_across_files_and_layouts() {
    let Files(_dir, paths) = files(&[
        "{\"text\":\"a  b\"}\n{\"text\":\" a b \"}\n{\"text\":\"  \"}\n{\"text\":\"A b\"}\n".into(),
        "{\"prompt\":\"q\",\"completion\":\"x\"}\n{\"prompt\":\"q x\",\"completion\":\"\"}\n".into(),
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"x\"}]}\n"
            .into(),
    ]);
    let corpus = Corpus::scan(&paths, &halves(1)).unwrap();
    let report = corpus.report();
    let counts: Vec<_> = report.files.iter().map(|f| (f.records, f.duplicates, f.blank)).collect();
    assert_eq!(counts, [(4, 1, 1), (2, 0, 0), (1, 1, 0)]);
    let texts: BTreeSet<_> = kept(&corpus).into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["a  b", "A b", "q | x", "q x | "].map(String::from).into());
}

#[test]
fn documents_that_share_a_long_text_stay_together_unless_it_is_boilerplate() {
    let shared = "the same long answer ".repeat(12);
    let mut pages = String::new();
    let mut answers = String::new();
    for index in 0..60 {
        // Page i and answer i have no document in common, only the answer's text.
        let own = format!("answer number {index} ").repeat(15);
        writeln!(pages, "{{\"text\":\"Title {index}\\n{own}\\nmore {index}\",\"document\":\"p{index}\"}}")
            .unwrap();
        writeln!(answers, "{{\"prompt\":\"{index}?\",\"completion\":\"{own}\",\"document\":\"a{index}\"}}")
            .unwrap();
        writeln!(
            answers,
            "{{\"prompt\":\"b{index}?\",\"completion\":\"{shared}\",\"document\":\"b{index}\"}}"
        )
        .unwrap();
    }
    let Files(_dir, paths) = files(&[pages, answers]);
    let corpus = Corpus::scan(&paths, &halves(3)).unwrap();
    let mut split_of = HashMap::new();
    for split in Split::ALL {
        for record in corpus.records(split, None) {
            split_of.insert(record.unwrap().source_documents[0].clone(), split);
        }
    }
    for index in 0..60 {
        assert_eq!(split_of[&format!("p{index}")], split_of[&format!("a{index}")], "{index}");
    }
    let splits_of_boilerplate: BTreeSet<_> = (0..60).map(|index| split_of[&format!("b{index}")]).collect();
    assert_eq!(splits_of_boilerplate.len(), 3);
    let report = corpus.report();
    assert_eq!((report.shared_texts, report.boilerplate_texts), (60, 1));
    assert_eq!((report.documents, report.largest_group), (180, 2));
    let generous = CorpusSettings { boilerplate_documents: 60, ..halves(3) };
    assert_eq!(Corpus::scan(&paths, &generous).unwrap().report().largest_group, 60);
}

#[test]
fn several_document_fields_tie_documents_together() {
    let text: String = (0..30)
        .map(|i| format!("{{\"text\":\"t{i}\",\"document\":\"d{i}\",\"url\":\"u{}\"}}\n", i / 10))
        .collect();
    let Files(_dir, paths) = files(&[text]);
    let corpus = Corpus::scan(&paths, &halves(3)).unwrap();
    assert_eq!((corpus.report().documents, corpus.report().largest_group), (33, 11));
}

#[test]
fn a_tiny_collection_still_gets_every_split() {
    let contents =
        |n: usize| (0..n).map(|i| text_line(&format!("t{i}"), &format!("d{i}"))).collect::<String>();
    for (documents, groups) in [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (4, [2, 1, 1])] {
        let Files(_dir, paths) = files(&[contents(documents)]);
        let settings = CorpusSettings { validation: 1e-6, test: 1e-6, ..Default::default() };
        let corpus = Corpus::scan(&paths, &settings).unwrap();
        assert_eq!(corpus.report().splits.map(|split| split.groups), groups, "{documents}");
        let none = CorpusSettings { validation: 0.0, test: 0.0, ..Default::default() };
        let corpus = Corpus::scan(&paths, &none).unwrap();
        assert_eq!(corpus.report().splits.map(|split| split.groups), [documents, 0, 0]);
    }
}

#[test]
fn shares_out_of_range_are_refused() {
    let Files(_dir, paths) = files(&[text_line("t", "d")]);
    for (validation, test) in [(-0.1, 0.0), (1.0, 0.0), (0.5, 0.5), (f64::NAN, 0.0)] {
        let settings = CorpusSettings { validation, test, ..Default::default() };
        let error = Corpus::scan(&paths, &settings).unwrap_err().to_string();
        assert!(error.starts_with("validation and test: expected shares"), "{error}");
    }
}

#[test]
fn a_file_that_changed_after_the_scan_is_refused() {
    let text: String = (0..20).map(|i| text_line(&format!("t{i}"), &format!("d{i}"))).collect();
    for changed in [text.replace("t1\"", "u1\""), text.clone() + "{\"text\":\"z\"}\n", text[..200].to_owned()]
    {
        let Files(_dir, paths) = files(std::slice::from_ref(&text));
        let settings = CorpusSettings { validation: 0.0, test: 0.0, ..Default::default() };
        let corpus = Corpus::scan(&paths, &settings).unwrap();
        let end = changed.rfind('\n').unwrap() + 1;
        std::fs::write(&paths[0], &changed[..end]).unwrap();
        let error = corpus.records(Split::Train, None).find_map(Result::err).unwrap();
        assert!(matches!(error.kind(), ErrorKind::Changed), "{error}");
    }
}

#[test]
fn records_of_one_file_are_those_of_that_file() {
    let text = |name: &str| (0..9).map(|i| text_line(&format!("{name}{i}"), &format!("d{i}"))).collect();
    let Files(_dir, paths) = files(&[text("a"), text("b")]);
    let corpus = Corpus::scan(&paths, &halves(0)).unwrap();
    for (index, name) in ["a", "b"].iter().enumerate() {
        let mut count = 0;
        for record in Split::ALL.iter().flat_map(|&split| corpus.records(split, Some(index))) {
            let RecordKind::Text(text) = record.unwrap().kind else { unreachable!() };
            assert!(text.starts_with(name));
            count += 1;
        }
        assert_eq!(count, 9);
    }
    assert_eq!(corpus.records(Split::Train, Some(7)).count(), 0);
}

/// `n` words that occur nowhere else.
fn unique_words(tag: &str, n: usize) -> String {
    (0..n).map(|i| format!("{tag}{i} ")).collect()
}

#[test]
fn the_overlap_check_counts_thirteen_words_in_any_case_and_punctuation() {
    let thirteen = "One, two; three four five six seven eight nine ten eleven twelve thirteen.";
    let same = thirteen.to_lowercase().replace([',', ';', '.'], " ");
    let twelve = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu";
    let mut text = String::new();
    for i in 0..200 {
        let body = match i {
            0..100 => unique_words(&format!("w{i}x"), 20),
            100..150 => format!(
                "{} {same} {}",
                unique_words(&format!("w{i}x"), 9),
                unique_words(&format!("v{i}x"), 3)
            ),
            _ => format!("{} {thirteen} y{i} {twelve}", unique_words(&format!("w{i}x"), 5)),
        };
        text += &text_line(body.trim(), &format!("d{i}"));
    }
    let Files(_dir, paths) = files(&[text]);
    let corpus = Corpus::scan(&paths, &halves(11)).unwrap();
    let sharing = |split| {
        corpus
            .records(split, None)
            .filter(|r| r.as_ref().unwrap().texts().any(|t| t.contains("thirteen")))
            .count()
    };
    let report = corpus.overlap().unwrap();
    assert_eq!(report.words, 13);
    let pairs: Vec<_> = report.pairs.iter().map(|pair| (pair.held_out, pair.against)).collect();
    use Split::{Test, Train, Validation};
    assert_eq!(pairs, [(Validation, Train), (Test, Train), (Test, Validation)]);
    for pair in &report.pairs {
        assert_eq!(pair.records, corpus.report().splits[pair.held_out as usize].records);
        assert_eq!(pair.records_touching, sharing(pair.held_out), "{pair:?}");
        // The one shared 13-gram, once a record.
        assert_eq!(pair.grams_shared, pair.records_touching);
        // 9 + 13 + 3 words make 13 grams, 5 + 13 + 13 words 19: one shared gram is never half of them.
        assert_eq!(pair.records_half_shared, 0);
        assert_eq!(pair.examples.len(), 5);
        assert!((pair.record_share() - pair.records_touching as f64 / pair.records as f64).abs() < 1e-12);
        for example in &pair.examples {
            // Line i + 1 holds document i; the first 100 share nothing.
            assert!(example.held_out.1 > 100 && example.against.1 > 100, "{example:?}");
        }
    }
}

#[test]
fn grams_do_not_cross_messages() {
    let words = "one two three four five six seven eight nine ten eleven twelve thirteen";
    let (head, tail) = words.split_at(words.find("seven").unwrap());
    let mut text = String::new();
    for i in 0..40 {
        let line = if i % 2 == 0 {
            format!("{{\"prompt\":\"{i} {head}\",\"completion\":\"{tail} {i}\"}}\n")
        } else {
            format!("{{\"prompt\":\"{i}\",\"completion\":\"{words} {i}\"}}\n")
        };
        text += &line;
    }
    let Files(_dir, paths) = files(&[text]);
    let corpus = Corpus::scan(&paths, &halves(2)).unwrap();
    for pair in corpus.overlap().unwrap().pairs {
        // A touching record holds two grams: the shared one and one with its own number.
        assert_eq!(pair.records_half_shared, pair.records_touching);
        assert!(pair.records_touching > 0 && pair.records_touching < pair.records, "{pair:?}");
    }
}

#[test]
fn case_punctuation_and_line_breaks_do_not_hide_an_overlap_in_any_alphabet() {
    let mut text = String::new();
    for pair in 0..150 {
        let words = unique_words(&format!("pair{pair}wörtслово"), 13);
        text += &text_line(words.trim(), &format!("{pair}"));
        text += &text_line(&words.to_uppercase().replace(' ', ",\\r\\n"), &format!("{pair} again"));
    }
    let Files(_dir, paths) = files(&[text]);
    let corpus = Corpus::scan(&paths, &halves(4)).unwrap();
    let documents = |split| -> BTreeSet<String> {
        corpus.records(split, None).map(|record| record.unwrap().source_documents[0].clone()).collect()
    };
    for pair in corpus.overlap().unwrap().pairs {
        let others = documents(pair.against);
        let twin = |document: &String| match document.strip_suffix(" again") {
            Some(first) => first.to_owned(),
            None => format!("{document} again"),
        };
        let expected =
            documents(pair.held_out).iter().filter(|document| others.contains(&twin(document))).count();
        assert_eq!((pair.records_touching, pair.records_half_shared), (expected, expected));
        assert_eq!(pair.grams, pair.records, "13 words are one gram");
        assert!(expected > 10, "{pair:?}");
    }
}

#[test]
fn rows_of_one_prompt_stay_together_whatever_documents_they_name() {
    let mut lines = String::new();
    for prompt in 0..60 {
        for row in 0..3 {
            let document = if row == 2 { format!(",\"document\":\"d{prompt}\"") } else { String::new() };
            let _ = writeln!(
                lines,
                "{{\"prompt\":\"q {prompt}\",\"chosen\":\"a{row}\",\"rejected\":\"b\"{document}}}"
            );
        }
    }
    // The same rows again are duplicates; the same answers the other way round are not.
    lines += &lines.clone();
    lines += "{\"prompt\":\"q 0\",\"chosen\":\"b\",\"rejected\":\"a0\"}\n";
    let labels = "{\"prompt\":\"q 1\",\"completion\":\"a0\",\"label\":true}\n{\"prompt\":\"q 1\",\"completion\":\"a0\",\"label\":false}\n";
    let Files(_dir, paths) = files(&[lines, labels.to_owned()]);
    let corpus = Corpus::scan(&paths, &halves(3)).unwrap();
    assert_eq!((corpus.report().duplicates(), corpus.report().records()), (180, 363));
    let mut split_of: HashMap<String, Split> = HashMap::new();
    for (text, split) in kept(&corpus) {
        let prompt = text.split(" | ").next().unwrap().to_owned();
        let before = split_of.insert(prompt, split);
        assert!(before.is_none_or(|before| before == split), "{text}");
    }
    assert_eq!(split_of.len(), 60);
    assert!(corpus.report().splits.iter().all(|split| split.records > 10), "{:?}", corpus.report().splits);
}
