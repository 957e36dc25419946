//! One pass over the records of several files: read in order, worked on by several threads, handed on in order.

use crate::error::{DataError, ErrorKind};
use crate::input::{RawReader, RawRecord, ReaderSettings, RecordReader, SourceRecord};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Text that is worked on together; twice of it is in memory.
const BATCH_BYTES: usize = 4 << 20;
/// Records that are worked on together.
const BATCH_RECORDS: usize = 8192;

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What the pass does, a verb in the present participle.
    pub doing: &'static str,
    /// Bytes of the files read in this pass.
    pub bytes: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// Called every few megabytes; `Break` ends the command with [`ErrorKind::Stopped`].
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// The files of a command and how they are read.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The files, each once.
    pub paths: &'a [PathBuf],
    /// How they are read.
    pub reader: &'a ReaderSettings,
    /// Threads that work, at least one.
    pub threads: usize,
}

/// A record on its way through a pass.
pub(super) struct Item<R> {
    /// Index of its file.
    pub(super) file: usize,
    /// Number of the record in all files.
    pub(super) index: usize,
    pub(super) record: R,
}

/// A way to read a file: with its layout, or as it stands.
pub(super) trait Reader: Sized {
    type Record: Send + Sync;
    fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError>;
    fn read(&mut self) -> Option<Result<Self::Record, DataError>>;
    fn bytes_read(&self) -> u64;
    /// Length of a record's text in bytes.
    fn len(record: &Self::Record) -> usize;
}

impl Reader for RecordReader {
    type Record = SourceRecord;

    fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        RecordReader::open(path, settings)
    }

    fn read(&mut self) -> Option<Result<SourceRecord, DataError>> {
        self.next_source()
    }

    fn bytes_read(&self) -> u64 {
        RecordReader::bytes_read(self)
    }

    fn len(record: &SourceRecord) -> usize {
        record.source().len()
    }
}

impl Reader for RawReader {
    type Record = RawRecord;

    fn open(path: &Path, settings: &ReaderSettings) -> Result<Self, DataError> {
        RawReader::open(path, settings)
    }

    fn read(&mut self) -> Option<Result<RawRecord, DataError>> {
        self.next()
    }

    fn bytes_read(&self) -> u64 {
        RawReader::bytes_read(self)
    }

    fn len(record: &RawRecord) -> usize {
        record.text.len()
    }
}

/// Reads every record, calls `work` for it on some thread, and `take` with it and the result, in order, on this one.
pub(super) fn pass<R: Reader, T: Send>(
    input: Input<'_>,
    doing: &'static str,
    watch: Watch<'_>,
    work: impl Fn(&Item<R::Record>) -> T + Sync,
    mut take: impl FnMut(Item<R::Record>, T) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut reading = Reading::<R>::new(input.paths, input.reader);
    let mut batch = reading.batch()?;
    while !batch.is_empty() {
        let (next, results) = work_and_read(&batch, &work, input.threads, &mut reading);
        for (item, result) in batch.into_iter().zip(results) {
            take(item, result)?;
        }
        if watch(Progress { doing, bytes: reading.bytes(), total: reading.total }).is_break() {
            return Err(ErrorKind::Stopped.into());
        }
        batch = next?;
    }
    Ok(())
}

/// Works on a batch while this thread reads the next one and then helps.
fn work_and_read<R: Reader, T: Send>(
    batch: &[Item<R::Record>],
    work: &(impl Fn(&Item<R::Record>) -> T + Sync),
    threads: usize,
    reading: &mut Reading<'_, R>,
) -> (Result<Batch<R>, DataError>, Vec<T>) {
    let next_index = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(batch.len()));
    let share = || {
        let mut done = Vec::new();
        loop {
            let index = next_index.fetch_add(1, Ordering::Relaxed);
            let Some(item) = batch.get(index) else { break };
            done.push((index, work(item)));
        }
        results.lock().unwrap_or_else(PoisonError::into_inner).extend(done);
    };
    let next = std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(share)));
        let next = reading.batch();
        share();
        next
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    (next, results.into_iter().map(|(_, result)| result).collect())
}

type Batch<R> = Vec<Item<<R as Reader>::Record>>;

/// The files one after the other.
struct Reading<'a, R> {
    paths: &'a [PathBuf],
    settings: &'a ReaderSettings,
    file: usize,
    reader: Option<R>,
    index: usize,
    /// Bytes of the files that are done.
    done: u64,
    total: u64,
}

impl<'a, R: Reader> Reading<'a, R> {
    fn new(paths: &'a [PathBuf], settings: &'a ReaderSettings) -> Self {
        let total = paths.iter().map(|path| file_bytes(path)).sum();
        Self { paths, settings, file: 0, reader: None, index: 0, done: 0, total }
    }

    fn bytes(&self) -> u64 {
        self.done + self.reader.as_ref().map_or(0, R::bytes_read)
    }

    fn batch(&mut self) -> Result<Batch<R>, DataError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some(item) = self.next()? else { break };
            bytes += R::len(&item.record);
            batch.push(item);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<Item<R::Record>>, DataError> {
        while let Some(path) = self.paths.get(self.file) {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(R::open(path, self.settings)?),
            };
            if let Some(record) = reader.read().transpose()? {
                let item = Item { file: self.file, index: self.index, record };
                self.index += 1;
                return Ok(Some(item));
            }
            self.done += file_bytes(path);
            self.reader = None;
            self.file += 1;
        }
        Ok(None)
    }
}

/// Size of a file, 0 if the system does not tell: progress is then wrong, and nothing else.
fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
