//! Overlap of training records with the items of test sets, as word 13-grams: the contamination check of GPT-3 (arXiv
//! 2005.14165, appendix C), with the normalisation of [`crate::grams`].
//!
//! - A gram is 13 words in a row of one text of an item. A text of 8 to 12 words is one gram as a whole; shorter texts
//!   are not looked for. An item of such texts alone is counted as not checked.
//! - A gram that more training records hold than the limit (10) is a standing phrase and says nothing by itself.
//! - A record is contaminated if it holds a gram that is no standing phrase, or at least half of the grams of an item
//!   that has 4 or more, standing phrases or not.
//!
//! Memory: 16 bytes a gram of the test sets, and 4 for each one found in a training record.

use super::Place;
use super::test_set::for_each_item;
use crate::error::{DataError, ErrorKind};
use crate::grams::{self, Filter, GRAM_WORDS};
use crate::input::ReaderSettings;
use crate::record::Record;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Fewest words of a text that is looked for as a whole.
pub const SHORT_WORDS: usize = 8;
/// Fewest grams of an item of which half contaminate, whatever they are.
const ITEM_GRAMS: u32 = 4;
/// Default of the most training records that hold a gram which is no standing phrase.
pub const COMMON_RECORDS: usize = 10;

/// One test set: a file.
#[derive(Debug)]
struct TestSet {
    path: PathBuf,
    /// Its items in `TestSets::items`.
    items: std::ops::Range<usize>,
}

/// Line of an item in its file and number of its grams.
#[derive(Clone, Copy, Debug)]
struct ItemGrams {
    line: u64,
    grams: u32,
}

/// The grams of several test sets.
#[derive(Debug)]
pub struct TestSets {
    sets: Vec<TestSet>,
    items: Vec<ItemGrams>,
    /// (hash of a gram, item), sorted, each once.
    grams: Vec<(u64, u32)>,
    filter: Filter,
    /// Lengths of grams that occur, in words.
    sizes: Vec<usize>,
}

impl TestSets {
    /// Reads test sets; what is an item depends on the kind of file, see the guide.
    ///
    /// # Errors
    /// A file that cannot be read as a test set, one that holds no item.
    pub fn read<P: AsRef<Path>>(paths: &[P], settings: &ReaderSettings) -> Result<Self, DataError> {
        let (mut sets, mut items, mut grams) = (Vec::<TestSet>::new(), Vec::new(), Vec::new());
        let mut has_size = [false; GRAM_WORDS + 1];
        for path in paths.iter().map(AsRef::as_ref) {
            if sets.iter().any(|set| set.path == path) {
                continue;
            }
            let first = items.len();
            for_each_item(path, settings, |item| {
                let mut hashes = Vec::new();
                for text in &item.texts {
                    let words = grams::words(text);
                    let size = gram_size(words.len());
                    grams::for_each_run(&words, size, |hash| hashes.push(hash));
                    has_size[size] = true;
                }
                hashes.sort_unstable();
                hashes.dedup();
                let index = items.len() as u32;
                items.push(ItemGrams { line: item.line, grams: hashes.len() as u32 });
                grams.extend(hashes.into_iter().map(|hash| (hash, index)));
            })?;
            if items.len() == first {
                return Err(DataError::in_file(ErrorKind::Empty, path));
            }
            sets.push(TestSet { path: path.into(), items: first..items.len() });
        }
        grams.sort_unstable();
        let filter = Filter::new(grams.iter().map(|(hash, _)| *hash));
        let sizes = (SHORT_WORDS..=GRAM_WORDS).filter(|&size| has_size[size]).collect();
        Ok(Self { sets, items, grams, filter, sizes })
    }

    /// The positions in `grams` of what a record holds, sorted; the first one of each hash.
    pub(crate) fn hits(&self, record: &Record) -> Vec<u32> {
        let mut hits = Vec::new();
        for text in record.texts() {
            let words = grams::words(text);
            for &size in &self.sizes {
                grams::for_each_run(&words, size, |hash| {
                    if self.filter.may_hold(hash) {
                        hits.extend(self.find(hash));
                    }
                });
            }
        }
        hits.sort_unstable();
        hits.dedup();
        hits
    }

    fn find(&self, hash: u64) -> Option<u32> {
        let at = self.grams.partition_point(|(other, _)| *other < hash);
        self.grams.get(at).filter(|(other, _)| *other == hash).map(|_| at as u32)
    }

    /// The items that hold the gram at a position that [`TestSets::hits`] gave.
    fn items_of(&self, hit: u32) -> impl Iterator<Item = u32> + '_ {
        let from = &self.grams[hit as usize..];
        from.iter().take_while(move |(hash, _)| *hash == from[0].0).map(|(_, item)| *item)
    }

    fn set_of(&self, item: u32) -> usize {
        self.sets.partition_point(|set| set.items.end <= item as usize)
    }
}

/// Words of the grams of a text of so many words: 13, or all of them if they are fewer. Below 8, 13 find none.
fn gram_size(words: usize) -> usize {
    if words < SHORT_WORDS { GRAM_WORDS } else { words.min(GRAM_WORDS) }
}

/// A training record that holds grams of test sets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ContaminatedRecord {
    /// The record.
    #[serde(flatten)]
    pub place: Place,
    /// Grams of test sets in it, standing phrases not counted.
    pub grams: usize,
    /// The test sets that they are from.
    pub test_sets: Vec<PathBuf>,
}

/// An item that contaminated records hold a part of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HitItem {
    /// Number of the item in its file, from 0.
    pub item: usize,
    /// The line it begins on.
    pub line: u64,
    /// Its grams.
    pub grams: u32,
    /// Those that contaminated records hold, all together.
    pub found: u32,
    /// Contaminated records that hold one.
    pub records: usize,
    /// The first of them.
    pub first: Place,
}

/// What was found of one test set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TestSetReport {
    /// The file.
    pub file: PathBuf,
    /// Its items.
    pub items: usize,
    /// Those that have a gram: the others are too short to be looked for.
    pub checked: usize,
    /// Those that contaminated records hold a gram of.
    pub hit: usize,
    /// Those of whose grams contaminated records hold at least half.
    pub half: usize,
    /// Contaminated records that hold a gram of it.
    pub records: usize,
    /// The items that were hit.
    pub hits: Vec<HitItem>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ContaminationReport {
    /// Words in a gram.
    pub words: usize,
    /// Fewest words of a text that is looked for as a whole.
    pub short_words: usize,
    /// A gram that more records hold is a standing phrase.
    pub common_records: usize,
    /// Grams that were standing phrases.
    pub standing_phrases: usize,
    /// Training records looked at.
    pub records: usize,
    /// The contaminated ones, in order.
    pub contaminated: Vec<ContaminatedRecord>,
    /// Each test set.
    pub test_sets: Vec<TestSetReport>,
}

/// Takes the hits of all training records, then decides.
pub(crate) struct Findings<'a> {
    sets: &'a TestSets,
    common_records: usize,
    records: usize,
    /// Records with hits: number, place, hits.
    found: Vec<(usize, Place, Vec<u32>)>,
    counts: HashMap<u32, usize>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(sets: &'a TestSets, common_records: usize) -> Self {
        Self { sets, common_records, records: 0, found: Vec::new(), counts: HashMap::new() }
    }

    /// Records taken in.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Takes in the next record, with what [`TestSets::hits`] says of it.
    pub(crate) fn add(&mut self, file: &Path, line: u64, hits: Vec<u32>) {
        hits.iter().for_each(|hit| *self.counts.entry(*hit).or_default() += 1);
        if !hits.is_empty() {
            self.found.push((self.records, Place { file: file.into(), line }, hits));
        }
        self.records += 1;
    }

    /// The numbers of the contaminated records, in order, and the report.
    pub(crate) fn decide(self) -> (Vec<usize>, ContaminationReport) {
        let mut report = ContaminationReport {
            words: GRAM_WORDS,
            short_words: SHORT_WORDS,
            common_records: self.common_records,
            standing_phrases: self.counts.values().filter(|&&count| count > self.common_records).count(),
            records: self.records,
            contaminated: Vec::new(),
            test_sets: Vec::new(),
        };
        let mut numbers = Vec::new();
        // Of each hit item: positions of its grams found, records, first record.
        let mut items: BTreeMap<u32, (Vec<u32>, usize, &Place)> = BTreeMap::new();
        for (number, place, hits) in &self.found {
            let held = self.held_items(hits);
            let telling = hits.iter().filter(|hit| !self.is_common(**hit)).count();
            if held.is_empty() {
                continue;
            }
            numbers.push(*number);
            let mut sets: Vec<usize> = held.keys().map(|item| self.sets.set_of(*item)).collect();
            sets.dedup();
            let test_sets = sets.into_iter().map(|set| self.sets.sets[set].path.clone()).collect();
            report.contaminated.push(ContaminatedRecord { place: place.clone(), grams: telling, test_sets });
            for (item, grams) in held {
                let (found, records, _) = items.entry(item).or_insert_with(|| (Vec::new(), 0, place));
                found.extend(grams);
                *records += 1;
            }
        }
        report.test_sets =
            (0..self.sets.sets.len()).map(|set| self.set_report(set, &items, &report)).collect();
        (numbers, report)
    }

    fn is_common(&self, hit: u32) -> bool {
        self.counts[&hit] > self.common_records
    }

    /// The items that these grams contaminate with, in order, and which grams: an item of which only standing phrases
    /// are held is none, unless they are half of it.
    fn held_items(&self, hits: &[u32]) -> BTreeMap<u32, Vec<u32>> {
        let mut held: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &hit in hits {
            self.sets.items_of(hit).for_each(|item| held.entry(item).or_default().push(hit));
        }
        held.retain(|item, grams| {
            let all = self.sets.items[*item as usize].grams;
            let is_copy = all >= ITEM_GRAMS && 2 * grams.len() as u32 >= all;
            is_copy || grams.iter().any(|hit| !self.is_common(*hit))
        });
        held
    }

    fn set_report(
        &self,
        set: usize,
        items: &BTreeMap<u32, (Vec<u32>, usize, &Place)>,
        report: &ContaminationReport,
    ) -> TestSetReport {
        let TestSet { path, items: range } = &self.sets.sets[set];
        let mut hits = Vec::new();
        for (&item, (grams, records, first)) in items.range(range.start as u32..range.end as u32) {
            let mut found = grams.clone();
            found.sort_unstable();
            found.dedup();
            let ItemGrams { line, grams } = self.sets.items[item as usize];
            let item = item as usize - range.start;
            hits.push(HitItem {
                item,
                line,
                grams,
                found: found.len() as u32,
                records: *records,
                first: (*first).clone(),
            });
        }
        TestSetReport {
            file: path.clone(),
            items: range.len(),
            checked: self.sets.items[range.clone()].iter().filter(|item| item.grams > 0).count(),
            hit: hits.len(),
            half: hits.iter().filter(|hit| 2 * hit.found >= hit.grams).count(),
            records: report.contaminated.iter().filter(|record| record.test_sets.contains(path)).count(),
            hits,
        }
    }
}

#[cfg(test)]
mod tests;
