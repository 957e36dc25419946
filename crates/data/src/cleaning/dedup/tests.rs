//! Against a brute-force comparison of all pairs, and what holds whatever the files.

use super::*;
use crate::hash::mix;
use crate::input::ReaderSettings;
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;

struct Outcome {
    report: DedupReport,
    kept: Vec<(usize, u64)>,
}

fn run(paths: &[PathBuf], settings: &DedupSettings, threads: usize) -> Result<Outcome, DataError> {
    let mut kept = Vec::new();
    let reader = ReaderSettings::default();
    let input = Input { paths, reader: &reader, threads };
    let report = dedup(input, settings, &mut |_| ControlFlow::Continue(()), |file, source| {
        kept.push((file, source.record.line));
        Ok(())
    })?;
    Ok(Outcome { report, kept })
}

fn texts(folder: &std::path::Path, name: &str, texts: &[String]) -> PathBuf {
    let path = folder.join(name);
    let lines: String =
        texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    std::fs::write(&path, lines).unwrap();
    path
}

fn text_set(text: &str, shingles: Shingles) -> Vec<u64> {
    let mut set = Vec::new();
    shingles.for_each(text, |hash| set.push(hash));
    set.sort_unstable();
    set.dedup();
    set
}

/// Keeps a record unless an earlier kept one is similar enough: every pair compared.
fn brute_force(texts: &[String], threshold: f64, shingles: Shingles) -> Vec<u64> {
    let mut kept: Vec<(u64, Vec<u64>)> = Vec::new();
    for (line, text) in (1u64..).zip(texts) {
        let set = text_set(text, shingles);
        if text.trim().is_empty() || kept.iter().any(|(_, other)| jaccard(&set, other) >= threshold) {
            continue;
        }
        kept.push((line, set));
    }
    kept.into_iter().map(|(line, _)| line).collect()
}

/// Texts of families: each family a base text, its members with some words replaced.
fn families(seed: u64, families: usize, members: usize) -> Vec<String> {
    let word = |n: u64| format!("w{}", mix(n) % 5000);
    let mut all = Vec::new();
    for member in 0..members as u64 {
        for family in 0..families as u64 {
            let id = mix(seed) ^ (family << 20);
            let changed = mix(id ^ (member << 40)) % 12;
            let text: Vec<String> = (0..60u64)
                .map(|at| {
                    word(if member > 0 && at % 12 < changed && at % 5 == 0 {
                        id ^ at ^ (member << 32)
                    } else {
                        id ^ at
                    })
                })
                .collect();
            all.push(text.join(" "));
        }
    }
    all
}

#[test]
fn all_pairs_compared_decide_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for threshold in [0.5f64, 0.8, 0.9] {
        let texts_ = families(threshold.to_bits(), 60, 6);
        let path = texts(folder.path(), "a.jsonl", &texts_);
        let settings =
            DedupSettings { threshold: Some(threshold), shingles: Shingles::Words(3), ..Default::default() };
        let found = run(&[path], &settings, 2).unwrap();
        let kept: Vec<u64> = found.kept.iter().map(|(_, line)| *line).collect();
        let expected = brute_force(&texts_, threshold, Shingles::Words(3));
        assert!(expected.len() > 60 && expected.len() < 350, "a mixture: {}", expected.len());
        // At the threshold a pair is missed once in a hundred times, above it almost never.
        let missed = kept.iter().filter(|line| !expected.contains(line)).count();
        assert!(missed <= 2, "{threshold}: {missed} of {}", expected.len());
        assert!(missed > 0 || kept == expected);
    }
}

#[test]
fn exact_copies_go_without_a_threshold_and_clusters_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let base = "the heart pumps blood through the vessels of the body all day and all night long";
    let near = base.replace("body", "legs");
    let first = texts(folder.path(), "a.jsonl", &[base.into(), " ".into(), near.clone(), "other".into()]);
    let second =
        texts(folder.path(), "b.jsonl", &[near.replace(' ', "  "), base.to_uppercase(), "...".into()]);
    let paths = [first.clone(), second.clone()];
    let exact = run(&paths, &DedupSettings { threshold: None, ..Default::default() }, 1).unwrap();
    assert_eq!(exact.kept, [(0, 1), (0, 3), (0, 4), (1, 2), (1, 3)]);
    assert_eq!(exact.report.total.found, DedupCount { blank: 1, exact: 1, near: 0 });

    let settings = DedupSettings { threshold: Some(0.3), ..Default::default() };
    let all = run(&paths, &settings, 1).unwrap();
    assert_eq!(all.kept, [(0, 1), (0, 4), (1, 3)], "`...` has no words and stays");
    assert_eq!(all.report.total.found, DedupCount { blank: 1, exact: 1, near: 2 });
    let [cluster] = all.report.clusters.as_slice() else { panic!("{:?}", all.report.clusters) };
    assert_eq!(cluster.kept, Place { file: first, line: 1 });
    let dropped: Vec<(u64, bool)> = cluster.dropped.iter().map(|one| (one.place.line, one.exact)).collect();
    assert_eq!(
        dropped,
        [(3, false), (1, true), (2, false)],
        "the copy of a dropped record names the one that stays"
    );
    assert_eq!(cluster.dropped[2].jaccard, 1.0, "case does not count");
    assert_eq!(cluster.dropped[0].jaccard, cluster.dropped[1].jaccard);
    assert_eq!(cluster.dropped[2].place.file, second);
}

#[test]
fn messages_are_compared_one_by_one_and_records_are_handed_on_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let lines = [
        r#"{"question": "what is asthma", "answer": "a disease of the lungs", "id": 1.50}"#,
        r#"{"question": "What is asthma?", "answer": "A disease of the lungs.", "id": 2}"#,
        r#"{"question": "what is asthma a", "answer": "disease of the lungs", "id": 3}"#,
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let mut kept = Vec::new();
    let reader = ReaderSettings::default();
    let input = Input { paths: &[path], reader: &reader, threads: 1 };
    dedup(input, &DedupSettings::default(), &mut |_| ControlFlow::Continue(()), |_, source| {
        kept.push(source.source().to_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(kept, [lines[0], lines[2]]);
}

#[test]
fn wrong_settings_and_files_that_change_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = texts(folder.path(), "a.jsonl", &["one two three".into(), "four five six".into()]);
    for threshold in [0.0, 1.1, f64::NAN] {
        let settings = DedupSettings { threshold: Some(threshold), ..Default::default() };
        assert!(run(std::slice::from_ref(&path), &settings, 1).is_err(), "{threshold}");
    }
    for settings in [
        DedupSettings { hashes: 0, ..Default::default() },
        DedupSettings { shingles: Shingles::Characters(0), ..Default::default() },
    ] {
        assert!(run(std::slice::from_ref(&path), &settings, 1).is_err(), "{settings:?}");
    }
    let paths = [path.clone()];
    let reader = ReaderSettings::default();
    let input = Input { paths: &paths, reader: &reader, threads: 1 };
    let mut passes = 0;
    let change = &mut |_: super::super::Progress| {
        passes += 1;
        if passes == 1 {
            texts(folder.path(), "a.jsonl", &["one two three".into(), "something else".into()]);
        }
        ControlFlow::Continue(())
    };
    let error = dedup(input, &DedupSettings::default(), change, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Changed), "{error}");
    assert_eq!(error.line(), Some(2));
    let stop = &mut |_: super::super::Progress| ControlFlow::Break(());
    let error = dedup(input, &DedupSettings::default(), stop, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stopped), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every dropped record is as similar as the report says to a record that stays, and threads change nothing.
    #[test]
    fn nothing_is_dropped_without_a_duplicate_that_stays(seed in any::<u64>(), threshold in 0.2f64..1.0) {
        let folder = tempfile::tempdir().unwrap();
        let all = families(seed, 20, 4);
        let path = texts(folder.path(), "a.jsonl", &all);
        let settings = DedupSettings { threshold: Some(threshold), hashes: 32, seed, ..Default::default() };
        let one = run(std::slice::from_ref(&path), &settings, 1).unwrap();
        let three = run(std::slice::from_ref(&path), &settings, 3).unwrap();
        prop_assert_eq!(&one.report, &three.report);
        prop_assert_eq!(&one.kept, &three.kept);
        for cluster in &one.report.clusters {
            prop_assert!(one.kept.contains(&(0, cluster.kept.line)));
            for dropped in &cluster.dropped {
                let set = |line: u64| text_set(&all[line as usize - 1], settings.shingles);
                let similarity = jaccard(&set(cluster.kept.line), &set(dropped.place.line));
                prop_assert_eq!(similarity, dropped.jaccard);
                prop_assert!(similarity >= threshold);
                prop_assert!(dropped.place.line > cluster.kept.line);
            }
        }
        let total = &one.report.total;
        let gone = total.found.blank + total.found.exact + total.found.near;
        prop_assert_eq!(total.kept + gone, all.len());
    }
}
