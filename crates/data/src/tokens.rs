//! Token ids, loss mask and document borders of one source, held in memory.
//!
//! 4 bytes a token, and 1 more for the tokens of conversations learned from their answers only.

use crate::error::{DataError, ErrorKind};
use crate::hash::bytes_hash;
use crate::record::{Message, Record, RecordKind};
use sha2::{Digest, Sha256};

/// What a tokenizer may say against a record.
pub type EncodeError = Box<dyn std::error::Error + Send + Sync>;

/// What this crate needs of a tokenizer and its chat template.
pub trait Encode: Sync {
    /// Appends the ids of a document, with the tokens that begin and end a document.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    fn encode_document(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError>;

    /// Appends the ids of a rendered conversation and, for each, whether it is part of an answer.
    ///
    /// # Errors
    /// If the template refuses the conversation, or if the mask is empty or full.
    fn encode_chat(
        &self,
        messages: &[Message],
        ids: &mut Vec<u32>,
        mask: &mut Vec<bool>,
    ) -> Result<(), EncodeError>;

    /// Appends the ids of a rendered conversation that ends where the next answer begins.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    fn encode_prompt(&self, messages: &[Message], ids: &mut Vec<u32>) -> Result<(), EncodeError>;

    /// The text of some ids, special tokens written out.
    fn decode(&self, ids: &[u32]) -> String;
}

/// Which tokens are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// Every token but a document's first (pretraining).
    All,
    /// Tokens of answers only (SFT); a plain text is an error.
    Answers,
}

/// One document in a [`TokenSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Document {
    start: usize,
    len: usize,
    /// Where its mask begins, for documents that have one.
    mask_start: Option<usize>,
}

/// A document of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentTokens<'a> {
    /// Its tokens.
    pub ids: &'a [u32],
    /// Whether each token is a target; absent: all but the first are.
    pub mask: Option<&'a [bool]>,
}

impl DocumentTokens<'_> {
    /// Whether token `index` is a target.
    pub fn is_target(&self, index: usize) -> bool {
        index > 0 && self.mask.is_none_or(|mask| mask[index])
    }
}

/// The tokens of one source.
#[derive(Clone, Debug, Default)]
pub struct TokenSource {
    ids: Vec<u32>,
    mask: Vec<bool>,
    documents: Vec<Document>,
}

impl TokenSource {
    /// An empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a document all of whose tokens but the first are targets.
    pub fn push_text(&mut self, ids: &[u32]) {
        self.documents.push(Document { start: self.ids.len(), len: ids.len(), mask_start: None });
        self.ids.extend_from_slice(ids);
    }

    /// Adds a document with a mask that says which tokens are targets.
    ///
    /// # Panics
    /// If `mask` is not as long as `ids`.
    pub fn push_masked(&mut self, ids: &[u32], mask: &[bool]) {
        assert_eq!(ids.len(), mask.len(), "one mask entry a token");
        let mask_start = Some(self.mask.len());
        self.documents.push(Document { start: self.ids.len(), len: ids.len(), mask_start });
        self.ids.extend_from_slice(ids);
        self.mask.extend_from_slice(mask);
    }

    /// Number of documents.
    pub fn num_documents(&self) -> usize {
        self.documents.len()
    }

    /// Number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.ids.len()
    }

    /// One document.
    pub fn document(&self, index: usize) -> DocumentTokens<'_> {
        let Document { start, len, mask_start } = self.documents[index];
        DocumentTokens {
            ids: &self.ids[start..start + len],
            mask: mask_start.map(|at| &self.mask[at..at + len]),
        }
    }

    /// Hash of everything in it.
    pub(crate) fn fingerprint(&self) -> u128 {
        let mut hasher = Sha256::new();
        let mut bytes = Vec::new();
        for ids in self.ids.chunks(1 << 16) {
            bytes.clear();
            ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
            hasher.update(&bytes);
        }
        for document in &self.documents {
            let masked = u8::from(document.mask_start.is_some());
            hasher.update((document.len as u64).to_le_bytes());
            hasher.update([masked]);
        }
        for mask in self.mask.chunks(1 << 16) {
            bytes.clear();
            bytes.extend(mask.iter().map(|&target| u8::from(target)));
            hasher.update(&bytes);
        }
        bytes_hash(&hasher.finalize())
    }
}

/// What tokenizing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenizeReport {
    /// Documents.
    pub documents: usize,
    /// Tokens.
    pub tokens: usize,
    /// Targets among them.
    pub targets: usize,
    /// Bytes of UTF-8 that were encoded, template text not counted.
    pub bytes: u64,
}

/// Records encoded together before the next ones are read.
pub(crate) const CHUNK_RECORDS: usize = 512;

/// Tokenizes records in order, on `threads` threads (at least one); the result does not depend on their number.
///
/// # Errors
/// The first error of `records`; a record that the tokenizer refuses, named by file and line; with
/// [`Targets::Answers`], a plain text; a preference pair or a rated conversation ([`crate::preference`] reads those).
pub fn tokenize(
    records: impl Iterator<Item = Result<Record, DataError>>,
    encoder: &dyn Encode,
    targets: Targets,
    threads: usize,
) -> Result<(TokenSource, TokenizeReport), DataError> {
    let (mut source, mut report) = (TokenSource::new(), TokenizeReport::default());
    let mut records = records;
    loop {
        let chunk: Vec<Record> = records.by_ref().take(CHUNK_RECORDS).collect::<Result<_, _>>()?;
        if chunk.is_empty() {
            return Ok((source, report));
        }
        for part in in_parallel(&chunk, threads, |part| encode(part, encoder, targets)) {
            append(&mut source, &part?);
        }
        for record in &chunk {
            report.bytes += record.texts().map(|text| text.len() as u64).sum::<u64>();
        }
        report.documents = source.num_documents();
        report.tokens = source.num_tokens();
        let done = report.documents - chunk.len();
        for index in done..report.documents {
            let document = source.document(index);
            report.targets += (0..document.ids.len()).filter(|&at| document.is_target(at)).count();
        }
    }
}

fn append(source: &mut TokenSource, part: &TokenSource) {
    for index in 0..part.num_documents() {
        let document = part.document(index);
        match document.mask {
            Some(mask) => source.push_masked(document.ids, mask),
            None => source.push_text(document.ids),
        }
    }
}

/// What `work` makes of the parts of `records`, one a thread, in their order.
pub(crate) fn in_parallel<T: Send>(
    records: &[Record],
    threads: usize,
    work: impl Fn(&[Record]) -> T + Sync,
) -> Vec<T> {
    let threads = threads.max(1);
    let parts = records.chunks(records.len().div_ceil(threads));
    if threads == 1 {
        return parts.map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        // A panic of the tokenizer is its bug and goes on as a panic.
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    })
}

fn encode(records: &[Record], encoder: &dyn Encode, targets: Targets) -> Result<TokenSource, DataError> {
    let mut source = TokenSource::new();
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for record in records {
        ids.clear();
        mask.clear();
        let at = |kind| DataError::at_line(kind, &record.file, record.line);
        let refused = |error| at(ErrorKind::Encode(error));
        match (&record.kind, targets) {
            (RecordKind::Text(text), Targets::All) => {
                encoder.encode_document(text, &mut ids).map_err(refused)?;
                source.push_text(&ids);
            }
            (RecordKind::Chat(messages), targets) => {
                encoder.encode_chat(messages, &mut ids, &mut mask).map_err(refused)?;
                match targets {
                    Targets::All => source.push_text(&ids),
                    Targets::Answers => source.push_masked(&ids, &mask),
                }
            }
            (kind, targets) => {
                let expected = match targets {
                    Targets::All => "a text or a conversation",
                    Targets::Answers => "a conversation to learn answers from",
                };
                return Err(at(ErrorKind::RecordKind { expected, found: kind.name() }));
            }
        }
    }
    Ok(source)
}

#[cfg(test)]
pub(crate) mod tests;
