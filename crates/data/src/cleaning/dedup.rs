//! Exact and near duplicates: the first record of each kind stays.
//!
//! Exact: the same content, white space aside, as [`crate::Corpus`] drops it. Near: the Jaccard similarity of the sets
//! of shingles reaches the threshold. Which records are compared says MinHash (`minhash`); what is dropped is
//! decided by the similarity itself, computed on the sets, against an earlier record **that stays**. So every dropped
//! record has a record in the output that it is a duplicate of, and no collision of hashes drops anything; what
//! MinHash can do is to miss a pair, with a probability that the report states.
//!
//! Two passes over the files. Memory: 40 bytes a record and 8 a band (21 bands unless set otherwise), 12 a record
//! between the passes, and 8 bytes a shingle of those kept records that share a band with another.

use super::minhash::{Bands, MinHash, jaccard};
use super::pass::{Input, Item, Watch, pass};
use super::{FileCount, Place};
use crate::error::{DataError, ErrorKind};
use crate::grams::Shingles;
use crate::input::{RecordReader, SourceRecord};
use crate::record::Record;
use std::collections::HashMap;

/// What counts as a near duplicate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DedupSettings {
    /// Least Jaccard similarity of near duplicates, above 0 and at most 1; `None` looks for exact ones only.
    pub threshold: Option<f64>,
    /// What the sets are made of.
    pub shingles: Shingles,
    /// Most minima a record; they are cut into bands.
    pub hashes: usize,
    /// Seed of the hash functions.
    pub seed: u64,
}

impl Default for DedupSettings {
    fn default() -> Self {
        Self { threshold: Some(0.8), shingles: Shingles::Words(5), hashes: 128, seed: 0 }
    }
}

/// Why a record went.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Duplicate {
    /// The record.
    #[serde(flatten)]
    pub place: Place,
    /// Whether its content is that of an earlier record, white space aside.
    pub exact: bool,
    /// Its similarity to the record that stays (of an exact duplicate: that of the record whose content it has).
    pub jaccard: f64,
}

/// A record that stays and those that went because of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Cluster {
    /// The first of them, which stays.
    pub kept: Place,
    /// The others, in order.
    pub dropped: Vec<Duplicate>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DedupReport {
    /// Least similarity of near duplicates, absent if none were looked for.
    pub threshold: Option<f64>,
    /// What the sets are made of.
    pub shingles: Shingles,
    /// Shape of the signatures.
    pub bands: Bands,
    /// Seed of the hash functions.
    pub seed: u64,
    /// Probability that two records at the threshold were compared.
    pub recall_at_threshold: f64,
    /// Records of all files.
    pub total: FileCount<DedupCount>,
    /// Each file.
    pub files: Vec<FileCount<DedupCount>>,
    /// Records that share a band with another.
    pub candidates: usize,
    /// Pairs whose similarity was computed.
    pub comparisons: u64,
    /// Records that stay and have duplicates, in order.
    pub clusters: Vec<Cluster>,
}

/// Records of a file that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DedupCount {
    /// White space only.
    pub blank: usize,
    /// The content of an earlier record.
    pub exact: usize,
    /// Nearly that of an earlier record.
    pub near: usize,
}

/// Finds duplicates in files that are read as one, and calls `keep` with the file's index and every record that stays,
/// in order.
///
/// # Errors
/// A setting out of range; the first thing wrong in any file; a file that changed between the passes; what `keep` says.
pub fn dedup(
    input: Input<'_>,
    settings: &DedupSettings,
    watch: Watch<'_>,
    keep: impl FnMut(usize, &SourceRecord) -> Result<(), DataError>,
) -> Result<DedupReport, DataError> {
    check(settings)?;
    let bands = Bands::choose(settings.threshold.unwrap_or(1.0), settings.hashes);
    let scanned = Scanned::scan(input, settings, bands, watch)?;
    let candidates = scanned.candidates();
    let mut decisions = Decisions {
        threshold: settings.threshold.unwrap_or(1.0),
        buckets: HashMap::new(),
        sets: HashMap::new(),
        comparisons: 0,
        fates: Vec::with_capacity(scanned.records.len()),
    };
    let work = |item: &Item<SourceRecord>| -> Option<(u64, Option<Vec<u64>>)> {
        let is_candidate = *candidates.get(item.index)?;
        let record = &item.record.record;
        Some((record.content_hash() as u64, is_candidate.then(|| set(record, settings.shingles))))
    };
    let doing = "deciding on duplicates";
    let mut keep = keep;
    pass::<RecordReader, _>(input, doing, watch, work, |item, worked| {
        let changed =
            || DataError::at_line(ErrorKind::Changed, &item.record.record.file, item.record.record.line);
        let (content, set) = worked.ok_or_else(changed)?;
        let scanned_record = &scanned.records[item.index];
        if content != scanned_record.content {
            return Err(changed());
        }
        if decisions.stays(item.index, &scanned, set) { keep(item.file, &item.record) } else { Ok(()) }
    })?;
    if decisions.fates.len() != scanned.records.len() {
        return Err(DataError::in_file(ErrorKind::Changed, input.paths.last().expect("records were read")));
    }
    let candidates = candidates.iter().filter(|&&is| is).count();
    Ok(report(input, settings, &scanned, &decisions, (bands, candidates)))
}

fn check(settings: &DedupSettings) -> Result<(), DataError> {
    let refuse = |name, expected, found: String| Err(ErrorKind::Setting { name, expected, found }.into());
    match settings.threshold {
        Some(threshold) if !(threshold > 0.0 && threshold <= 1.0) => {
            return refuse("threshold", "a similarity above 0 and at most 1", threshold.to_string());
        }
        _ => {}
    }
    if !(1..=1000).contains(&settings.shingles.size()) {
        return refuse("shingles", "1 to 1000 words or characters", settings.shingles.size().to_string());
    }
    if !(1..=4096).contains(&settings.hashes) {
        return refuse("hashes", "1 to 4096", settings.hashes.to_string());
    }
    Ok(())
}

/// The set of a record's shingles, sorted; shingles do not cross from one message to the next.
fn set(record: &Record, shingles: Shingles) -> Vec<u64> {
    let mut set = Vec::new();
    record.texts().for_each(|text| shingles.for_each(text, |hash| set.push(hash)));
    set.sort_unstable();
    set.dedup();
    set
}

/// What the first pass remembers of a record.
struct Seen {
    file: u32,
    line: u64,
    /// Low half of the content hash.
    content: u64,
    first: First,
}

/// Whether the first pass already knows what becomes of a record.
#[derive(Clone, Copy, PartialEq)]
enum First {
    /// White space only.
    Blank,
    /// The content of this earlier record.
    CopyOf(u32),
    /// Punctuation only, or near duplicates are not looked for: nothing to compare.
    Alone,
    /// The keys at this place.
    Keys(u32),
}

struct Scanned {
    records: Vec<Seen>,
    bands: usize,
    /// `bands` keys a record that has them.
    keys: Vec<u64>,
}

impl Scanned {
    fn scan(
        input: Input<'_>,
        settings: &DedupSettings,
        bands: Bands,
        watch: Watch<'_>,
    ) -> Result<Self, DataError> {
        let minhash = MinHash::new(bands, settings.seed);
        let mut scanned = Self { records: Vec::new(), bands: bands.bands, keys: Vec::new() };
        let mut contents: HashMap<u128, u32> = HashMap::new();
        let work = |item: &Item<SourceRecord>| {
            let record = &item.record.record;
            let set = match settings.threshold {
                Some(_) => set(record, settings.shingles),
                None => Vec::new(),
            };
            let keys = if set.is_empty() { Vec::new() } else { minhash.keys(&set) };
            (record.content_hash(), record.is_blank(), keys)
        };
        pass::<RecordReader, _>(input, "reading", watch, work, |item, (content, blank, keys)| {
            let index = item.index as u32;
            let earlier = *contents.entry(content).or_insert(index);
            let first = if blank {
                First::Blank
            } else if earlier != index {
                First::CopyOf(earlier)
            } else if keys.is_empty() {
                First::Alone
            } else {
                scanned.keys.extend(&keys);
                First::Keys((scanned.keys.len() / scanned.bands - 1) as u32)
            };
            let line = item.record.record.line;
            scanned.records.push(Seen { file: item.file as u32, line, content: content as u64, first });
            Ok(())
        })?;
        Ok(scanned)
    }

    fn keys(&self, place: u32) -> &[u64] {
        &self.keys[place as usize * self.bands..][..self.bands]
    }

    /// Which records share a key with another.
    fn candidates(&self) -> Vec<bool> {
        let owners: Vec<u32> = (0u32..)
            .zip(&self.records)
            .filter(|(_, record)| matches!(record.first, First::Keys(_)))
            .map(|(index, _)| index)
            .collect();
        let mut candidates = vec![false; self.records.len()];
        for band in 0..self.bands {
            let keys = self.keys.iter().skip(band).step_by(self.bands);
            let mut keys: Vec<(u64, u32)> = keys.copied().zip(owners.iter().copied()).collect();
            keys.sort_unstable();
            for same in keys.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
                same.iter().for_each(|(_, index)| candidates[*index as usize] = true);
            }
        }
        candidates
    }

    fn place(&self, input: Input<'_>, index: u32) -> Place {
        let record = &self.records[index as usize];
        Place { file: input.paths[record.file as usize].clone(), line: record.line }
    }
}

/// What became of a record.
#[derive(Clone, Copy)]
enum Fate {
    Stays,
    Blank,
    /// Dropped for this record that stays.
    DuplicateOf {
        kept: u32,
        exact: bool,
        jaccard: f64,
    },
}

/// The second pass: records in order, against those that stay.
struct Decisions {
    threshold: f64,
    /// Key of a band -> candidates that stay.
    buckets: HashMap<u64, Vec<u32>>,
    /// Their sets.
    sets: HashMap<u32, Vec<u64>>,
    comparisons: u64,
    fates: Vec<Fate>,
}

impl Decisions {
    /// Decides on the next record; `set` are its shingles if it is a candidate.
    fn stays(&mut self, index: usize, scanned: &Scanned, set: Option<Vec<u64>>) -> bool {
        let fate = match (scanned.records[index].first, set) {
            (First::Blank, _) => Fate::Blank,
            (First::CopyOf(earlier), _) => match self.fates[earlier as usize] {
                Fate::DuplicateOf { kept, jaccard, .. } => Fate::DuplicateOf { kept, exact: true, jaccard },
                Fate::Stays | Fate::Blank => Fate::DuplicateOf { kept: earlier, exact: true, jaccard: 1.0 },
            },
            (First::Keys(place), Some(set)) => self.compare(index as u32, scanned.keys(place), set),
            (First::Alone | First::Keys(_), _) => Fate::Stays,
        };
        self.fates.push(fate);
        matches!(fate, Fate::Stays)
    }

    /// The earliest record that stays and is similar enough; without one, the record stays and joins them.
    fn compare(&mut self, index: u32, keys: &[u64], set: Vec<u64>) -> Fate {
        let others = keys.iter().filter_map(|key| self.buckets.get(key)).flatten();
        let mut others: Vec<u32> = others.copied().collect();
        others.sort_unstable();
        others.dedup();
        for kept in others {
            let other = &self.sets[&kept];
            // The similarity is at most the ratio of the sizes.
            let (small, large) = (set.len().min(other.len()), set.len().max(other.len()));
            if (small as f64) < self.threshold * large as f64 {
                continue;
            }
            self.comparisons += 1;
            let jaccard = jaccard(&set, other);
            if jaccard >= self.threshold {
                return Fate::DuplicateOf { kept, exact: false, jaccard };
            }
        }
        keys.iter().for_each(|key| self.buckets.entry(*key).or_default().push(index));
        self.sets.insert(index, set);
        Fate::Stays
    }
}

fn report(
    input: Input<'_>,
    settings: &DedupSettings,
    scanned: &Scanned,
    decisions: &Decisions,
    (bands, candidates): (Bands, usize),
) -> DedupReport {
    let mut files: Vec<FileCount<DedupCount>> = input.paths.iter().map(|path| FileCount::new(path)).collect();
    let mut clusters: HashMap<u32, Cluster> = HashMap::new();
    for (index, (record, fate)) in (0u32..).zip(scanned.records.iter().zip(&decisions.fates)) {
        let file = &mut files[record.file as usize];
        file.records += 1;
        match *fate {
            Fate::Stays => file.kept += 1,
            Fate::Blank => file.found.blank += 1,
            Fate::DuplicateOf { kept, exact, jaccard } => {
                *if exact { &mut file.found.exact } else { &mut file.found.near } += 1;
                let new = || Cluster { kept: scanned.place(input, kept), dropped: Vec::new() };
                let dropped = Duplicate { place: scanned.place(input, index), exact, jaccard };
                clusters.entry(kept).or_insert_with(new).dropped.push(dropped);
            }
        }
    }
    let mut clusters: Vec<(u32, Cluster)> = clusters.into_iter().collect();
    clusters.sort_unstable_by_key(|(kept, _)| *kept);
    let sum = |of: fn(&DedupCount) -> usize| files.iter().map(|file| of(&file.found)).sum();
    let found = DedupCount {
        blank: sum(|count| count.blank),
        exact: sum(|count| count.exact),
        near: sum(|count| count.near),
    };
    DedupReport {
        threshold: settings.threshold,
        shingles: settings.shingles,
        bands,
        seed: settings.seed,
        recall_at_threshold: settings.threshold.map_or(1.0, |threshold| bands.probability(threshold)),
        total: FileCount::total(&files, found),
        files,
        candidates,
        comparisons: decisions.comparisons,
        clusters: clusters.into_iter().map(|(_, cluster)| cluster).collect(),
    }
}

#[cfg(test)]
mod tests;
