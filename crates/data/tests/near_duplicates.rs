//! Near duplicates of real text against a search over all pairs that shares nothing with the program but the definition.

use shakti_data::cleaning::{DedupSettings, Input, dedup};
use shakti_data::{ReaderSettings, Record, RecordReader};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const THRESHOLD: f64 = 0.8;
const WORDS: usize = 5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every run of five words of each message, as text.
fn shingles(record: &Record) -> HashSet<String> {
    let mut set = HashSet::new();
    for text in record.texts() {
        let text = text.to_lowercase().replace(['\'', '\u{2019}'], "");
        let words: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        if !words.is_empty() {
            set.extend(words.windows(WORDS.min(words.len())).map(|run| run.join(" ")));
        }
    }
    set
}

/// Lines of the records that have an earlier, kept record with a similarity of at least the threshold; exact copies
/// included. Overlaps are counted through an index of all shingles, so no pair is left out.
fn all_pairs(path: &Path) -> Vec<u64> {
    let mut index: HashMap<String, Vec<usize>> = HashMap::new();
    let (mut sizes, mut dropped) = (Vec::new(), Vec::new());
    for record in RecordReader::open(path, &ReaderSettings::default()).unwrap() {
        let record = record.unwrap();
        let set = shingles(&record);
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for kept in set.iter().filter_map(|shingle| index.get(shingle)).flatten() {
            *shared.entry(*kept).or_default() += 1;
        }
        let is_near = |(&kept, &shared): (&usize, &usize)| {
            shared as f64 / (set.len() + sizes[kept] - shared) as f64 >= THRESHOLD
        };
        if shared.iter().any(is_near) {
            dropped.push(record.line);
            continue;
        }
        let kept = sizes.len();
        sizes.push(set.len());
        set.into_iter().for_each(|shingle| index.entry(shingle).or_default().push(kept));
    }
    dropped
}

fn recall_and_precision(path: &Path) -> (usize, f64, f64) {
    let expected = all_pairs(path);
    let (reader, paths) = (ReaderSettings::default(), [path.to_owned()]);
    let input = Input { paths: &paths, reader: &reader, threads: 2 };
    let settings = DedupSettings { threshold: Some(THRESHOLD), ..DedupSettings::default() };
    let report = dedup(input, &settings, &mut |_| ControlFlow::Continue(()), |_, _| Ok(())).unwrap();
    let found: HashSet<u64> =
        report.clusters.iter().flat_map(|cluster| &cluster.dropped).map(|one| one.place.line).collect();
    let both = expected.iter().filter(|line| found.contains(line)).count() as f64;
    let share = |of: usize| if of == 0 { 1.0 } else { both / of as f64 };
    println!(
        "{}: all pairs drop {}, MinHash drops {}, both {both}",
        path.display(),
        expected.len(),
        found.len()
    );
    (expected.len(), share(expected.len()), share(found.len()))
}

#[test]
fn nearly_all_near_duplicates_are_found_and_no_others() {
    let mut files = vec![(root().join("data/quickstart/medical_qa.jsonl.zst"), 10)];
    let shared = root().join("../shared/data/instruct/medical/medquad_qa.jsonl.zst");
    if shared.exists() {
        files.push((shared, 500));
    } else {
        println!("skipped: {} is absent", shared.display());
    }
    for (path, least) in files {
        let (duplicates, recall, precision) = recall_and_precision(&path);
        assert!(duplicates >= least, "{}: {duplicates}", path.display());
        // A record may go for another than in the search over all pairs once a pair was missed.
        assert!(recall >= 0.99 && precision >= 0.99, "{}: {recall}, {precision}", path.display());
    }
}
