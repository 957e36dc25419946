//! The one pass over all files that finds duplicates, documents and the texts that documents share.

use super::split::{Group, Groups, assign};
use super::{Corpus, CorpusReport, CorpusSettings, Entry, FileReport, ScannedFile, Split};
use crate::error::DataError;
use crate::hash::{bytes_hash, text_hash};
use crate::input::RecordReader;
use crate::record::Record;
use std::collections::{HashMap, HashSet};
use std::path::Path;

#[derive(Default)]
struct Scan {
    /// Document hash -> index in `groups`.
    documents: HashMap<u128, u32>,
    /// Smallest known hash of each document, by index: the document's own.
    hashes: Vec<u64>,
    groups: Groups,
    contents: HashSet<u128>,
    /// (hash of a long text, document it stands in).
    texts: Vec<(u64, u32)>,
    /// Characters of every kept record, beside its entry.
    characters: Vec<Vec<u32>>,
}

pub(super) fn scan(paths: &[&Path], settings: &CorpusSettings) -> Result<Corpus, DataError> {
    let mut scan = Scan::default();
    let mut report = CorpusReport::default();
    let mut files = Vec::new();
    for &path in paths {
        let mut reader = RecordReader::open(path, &settings.reader)?;
        let mut file = FileReport {
            path: path.into(),
            format: reader.format(),
            records: 0,
            duplicates: 0,
            blank: 0,
            contaminated: 0,
        };
        let mut entries = Vec::new();
        scan.characters.push(Vec::new());
        for record in &mut reader {
            entries.push(scan.add(&record?, settings, &mut file));
        }
        report.files.push(file);
        files.push(ScannedFile { path: path.into(), entries });
    }
    scan.join_documents_that_share_texts(settings, &mut report);
    scan.decide(&mut files, settings, &mut report);
    Ok(Corpus { settings: settings.clone(), files, report })
}

impl Scan {
    /// Takes one record in; a kept record's entry says `Train` until the splits are decided.
    fn add(&mut self, record: &Record, settings: &CorpusSettings, file: &mut FileReport) -> Entry {
        file.records += 1;
        let content = record.content_hash();
        let mut entry = Entry { content: content as u64, group: 0, split: None };
        let blank = record.is_blank();
        let duplicate = !blank && !self.contents.insert(content);
        file.blank += usize::from(blank);
        file.duplicates += usize::from(duplicate);
        let characters = if blank || duplicate { 0 } else { record.num_characters() };
        self.characters.last_mut().expect("one list a file").push(characters.min(u32::MAX as usize) as u32);
        if blank || duplicate {
            return entry;
        }
        entry.split = Some(Split::Train);
        entry.group = self.document_of(record, content);
        let long = settings.shared_text_characters;
        for line in record.texts().flat_map(str::lines) {
            // Bytes are never fewer than characters: a cheap first test.
            if line.len() >= long && line.trim().chars().count() >= long {
                self.texts.push((text_hash(line) as u64, entry.group));
            }
        }
        entry
    }

    /// The document of a record; all the documents it names become one group, a pair's opening with them.
    fn document_of(&mut self, record: &Record, content: u128) -> u32 {
        let mut document = None;
        let named = record.source_documents.iter().map(|id| bytes_hash(id.as_bytes()));
        for hash in named.chain(record.opening_hash()) {
            let index = self.document(hash);
            if let Some(first) = document {
                self.groups.union(first, index);
            }
            document = Some(index);
        }
        document.unwrap_or_else(|| self.document(content))
    }

    fn document(&mut self, hash: u128) -> u32 {
        let (groups, hashes) = (&mut self.groups, &mut self.hashes);
        *self.documents.entry(hash).or_insert_with(|| {
            hashes.push(hash as u64);
            groups.add()
        })
    }

    fn join_documents_that_share_texts(&mut self, settings: &CorpusSettings, report: &mut CorpusReport) {
        self.texts.sort_unstable();
        self.texts.dedup();
        for same in self.texts.chunk_by(|a, b| a.0 == b.0) {
            if same.len() > settings.boilerplate_documents {
                report.boilerplate_texts += 1;
            } else if same.len() > 1 {
                report.shared_texts += 1;
                same.windows(2).for_each(|pair| self.groups.union(pair[0].1, pair[1].1));
            }
        }
        self.texts = Vec::new();
    }

    fn decide(&mut self, files: &mut [ScannedFile], settings: &CorpusSettings, report: &mut CorpusReport) {
        let mut groups = vec![Group { key: u64::MAX, used: false }; self.groups.len()];
        let mut sizes = vec![0usize; self.groups.len()];
        for document in 0..self.groups.len() {
            let root = self.groups.find(document as u32) as usize;
            groups[root].key = groups[root].key.min(self.hashes[document]);
            sizes[root] += 1;
        }
        for entry in files.iter_mut().flat_map(|file| &mut file.entries).filter(|entry| entry.split.is_some())
        {
            entry.group = self.groups.find(entry.group);
            groups[entry.group as usize].used = true;
        }
        let splits = assign(&groups, settings);
        for (file, characters) in files.iter_mut().zip(&self.characters) {
            for (entry, &characters) in file.entries.iter_mut().zip(characters) {
                if entry.split.is_none() {
                    continue;
                }
                entry.split = splits[entry.group as usize];
                if let Some(split) = entry.split {
                    report.splits[split as usize].records += 1;
                    report.splits[split as usize].characters += u64::from(characters);
                }
            }
        }
        splits.iter().flatten().for_each(|&split| report.splits[split as usize].groups += 1);
        report.documents = self.groups.len();
        report.largest_group = sizes.into_iter().max().unwrap_or(0);
    }
}
