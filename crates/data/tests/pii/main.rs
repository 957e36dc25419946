//! Precision and recall of the detector on labelled texts about invented persons, and texts that only look like them.
//!
//! `labelled.jsonl` was written for this test, misses included: a number in words, an address with "at" and "dot", a year
//! of birth. Names are not labelled; nothing here looks for them.

use shakti_data::cleaning::{PiiDetector, PiiKind};
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Labelled {
    text: String,
    spans: Vec<(String, String)>,
}

/// Found and right, found and wrong, missed.
#[derive(Clone, Copy, Default)]
struct Counts {
    right: usize,
    wrong: usize,
    missed: usize,
}

impl Counts {
    fn precision(self) -> f64 {
        self.right as f64 / (self.right + self.wrong).max(1) as f64
    }

    fn recall(self) -> f64 {
        self.right as f64 / (self.right + self.missed).max(1) as f64
    }
}

#[test]
fn what_is_labelled_is_found_and_little_else() {
    let lines: Vec<Labelled> =
        include_str!("labelled.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let detector = PiiDetector::new(&PiiKind::ALL);
    let mut kinds: BTreeMap<&str, Counts> = BTreeMap::new();
    for line in &lines {
        let mut expected = line.spans.clone();
        for finding in detector.find(&line.text) {
            let found = (finding.kind.name().to_owned(), line.text[finding.range].to_owned());
            let counts = kinds.entry(finding.kind.name()).or_default();
            match expected.iter().position(|span| *span == found) {
                Some(at) => {
                    expected.remove(at);
                    counts.right += 1;
                }
                None => {
                    println!("wrong: {found:?} in {:?}", line.text);
                    counts.wrong += 1;
                }
            }
        }
        for (kind, text) in expected {
            println!("missed: {kind} {text:?} in {:?}", line.text);
            let name = PiiKind::ALL.map(PiiKind::name).into_iter().find(|name| *name == kind).unwrap();
            kinds.entry(name).or_default().missed += 1;
        }
    }
    let mut all = Counts::default();
    for (kind, counts) in &kinds {
        println!(
            "{kind:<22} right {:>3}, wrong {:>2}, missed {:>2}",
            counts.right, counts.wrong, counts.missed
        );
        all.right += counts.right;
        all.wrong += counts.wrong;
        all.missed += counts.missed;
    }
    println!("{} texts: precision {:.3}, recall {:.3}", lines.len(), all.precision(), all.recall());
    assert_eq!(kinds.len(), PiiKind::ALL.len(), "every kind occurs");
    assert!(all.precision() >= 0.98 && all.recall() >= 0.93, "{} {}", all.precision(), all.recall());
    for (kind, counts) in kinds {
        assert!(counts.recall() >= 0.7 && counts.right >= 3, "{kind}");
    }
}
