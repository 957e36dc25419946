//! What held-out records share with other splits: word 13-grams, as the usual contamination check.
//!
//! What a word is says [`crate::grams`]; a 13-gram does not cross from one message to the next. A held-out record touches if at least one of its 13-grams occurs in the other split. Grams are
//! compared as 64-bit hashes. Memory: 16 bytes a held-out gram in each comparison; the
//! other split is streamed.

use super::{Corpus, Kept, Split};
use crate::error::DataError;
use crate::grams::{self, Filter, GRAM_WORDS};
use crate::record::Record;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Examples kept for each pair of splits.
const EXAMPLES: usize = 5;

/// Two records that share a gram: file and line of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The held-out record.
    pub held_out: (Arc<Path>, u64),
    /// The first record of the other split that shares a gram with it.
    pub against: (Arc<Path>, u64),
}

/// Overlap of a held-out split with another split.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PairOverlap {
    /// The held-out split.
    pub held_out: Split,
    /// The split it is compared with.
    pub against: Split,
    /// Records of the held-out split.
    pub records: usize,
    /// Those that share at least one gram.
    pub records_touching: usize,
    /// Those that share at least half of their grams: near copies rather than a standing phrase.
    pub records_half_shared: usize,
    /// Grams of the held-out split, repeated ones counted.
    pub grams: usize,
    /// Those that the other split holds.
    pub grams_shared: usize,
    /// Where to look, without text.
    #[serde(skip)]
    pub examples: Vec<Example>,
}

impl PairOverlap {
    /// Share of the held-out records that touch, 0 to 1.
    pub fn record_share(&self) -> f64 {
        self.records_touching as f64 / self.records.max(1) as f64
    }
}

/// One line for people.
impl fmt::Display for PairOverlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{GRAM_WORDS}-gram overlap of {} with {}: {} of {} records touch ({:.1}%), {} share half of their text or more",
            self.held_out.name(),
            self.against.name(),
            self.records_touching,
            self.records,
            100.0 * self.record_share(),
            self.records_half_shared,
        )
    }
}

/// Overlap of every pair of splits: validation and test against training, test against validation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OverlapReport {
    /// Words in a gram.
    pub words: usize,
    /// The pairs.
    pub pairs: Vec<PairOverlap>,
}

/// A held-out gram, its record, and the record of the other split that holds it too.
struct Gram {
    hash: u64,
    record: u32,
    found: u32,
}

const NOT_FOUND: u32 = u32::MAX;

/// File and line of a record.
type Site = (Arc<Path>, u64);

/// One comparison under way.
struct Comparison {
    held_out: Split,
    against: Split,
    /// Grams of the held-out split, sorted.
    grams: Vec<Gram>,
    filter: Filter,
    /// Records of the held-out split.
    sites: Vec<Site>,
    /// Records of the other split that share a gram.
    found_sites: Vec<Site>,
}

/// Two passes over the files: one for the grams of the held-out splits, one to look all others up.
pub(super) fn measure(corpus: &Corpus) -> Result<OverlapReport, DataError> {
    use Split::{Test, Train, Validation};
    let pairs = [(Validation, Train), (Test, Train), (Test, Validation)];
    let mut comparisons = pairs.map(|(held_out, against)| Comparison::new(held_out, against));
    for record in corpus.kept_records() {
        let Kept { record, split, .. } = record?;
        comparisons.iter_mut().filter(|one| one.held_out == split).for_each(|one| one.hold_out(&record));
    }
    comparisons.iter_mut().for_each(Comparison::sort);
    let mut hashes = Vec::new();
    for record in corpus.kept_records() {
        let Kept { record, split, .. } = record?;
        hashes.clear();
        for_each_gram(&record, |hash| hashes.push(hash));
        let asked = comparisons.iter_mut().filter(|one| one.against == split);
        asked.for_each(|one| one.look_up(&record, &hashes));
    }
    Ok(OverlapReport { words: GRAM_WORDS, pairs: comparisons.iter().map(Comparison::report).collect() })
}

impl Comparison {
    fn new(held_out: Split, against: Split) -> Self {
        let filter = Filter::new([].into_iter());
        Self { held_out, against, grams: Vec::new(), filter, sites: Vec::new(), found_sites: Vec::new() }
    }

    fn hold_out(&mut self, record: &Record) {
        let index = self.sites.len() as u32;
        for_each_gram(record, |hash| self.grams.push(Gram { hash, record: index, found: NOT_FOUND }));
        self.sites.push((record.file.clone(), record.line));
    }

    fn sort(&mut self) {
        self.grams.sort_unstable_by_key(|gram| (gram.hash, gram.record));
        self.filter = Filter::new(self.grams.iter().map(|gram| gram.hash));
    }

    fn look_up(&mut self, record: &Record, hashes: &[u64]) {
        let mut hit = false;
        for &hash in hashes.iter().filter(|&&hash| self.filter.may_hold(hash)) {
            for gram in matches(&mut self.grams, hash) {
                if gram.found == NOT_FOUND {
                    gram.found = self.found_sites.len() as u32;
                    hit = true;
                }
            }
        }
        if hit {
            self.found_sites.push((record.file.clone(), record.line));
        }
    }

    fn report(&self) -> PairOverlap {
        // Of each held-out record: grams, shared grams, first record that shares one.
        let mut records = vec![(0usize, 0usize, NOT_FOUND); self.sites.len()];
        for gram in &self.grams {
            let (all, shared, first) = &mut records[gram.record as usize];
            *all += 1;
            *shared += usize::from(gram.found != NOT_FOUND);
            *first = gram.found.min(*first);
        }
        let touching = || records.iter().zip(&self.sites).filter(|((_, shared, _), _)| *shared > 0);
        PairOverlap {
            held_out: self.held_out,
            against: self.against,
            records: self.sites.len(),
            records_touching: touching().count(),
            records_half_shared: touching().filter(|((all, shared, _), _)| 2 * shared >= *all).count(),
            grams: self.grams.len(),
            grams_shared: records.iter().map(|(_, shared, _)| shared).sum(),
            examples: touching()
                .take(EXAMPLES)
                .map(|((_, _, first), site)| Example {
                    held_out: site.clone(),
                    against: self.found_sites[*first as usize].clone(),
                })
                .collect(),
        }
    }
}

/// The grams with this hash, in sorted grams.
fn matches(grams: &mut [Gram], hash: u64) -> &mut [Gram] {
    let start = grams.partition_point(|gram| gram.hash < hash);
    let len = grams[start..].iter().take_while(|gram| gram.hash == hash).count();
    &mut grams[start..start + len]
}

/// Calls `f` with the hash of every 13-gram of the record.
fn for_each_gram(record: &Record, mut f: impl FnMut(u64)) {
    record.texts().for_each(|text| grams::for_each_gram(text, GRAM_WORDS, &mut f));
}
