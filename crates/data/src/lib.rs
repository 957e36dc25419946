//! From files of text and conversations to training batches: readers, de-duplication, splits by source
//! document, overlap check, token sources, mixtures, packing and a resumable position.
//!
//! The way through the crate:
//! 1. [`RecordReader`] streams one file, whatever its layout, as [`Record`]s.
//! 2. [`Corpus::scan`] reads all files of a run once, drops exact duplicates and gives every source
//!    document to one [`Split`]; [`Corpus::records`] streams what belongs to a split;
//!    [`Corpus::overlap`] measures what the splits still share.
//! 3. [`tokenize`] makes a [`TokenSource`] of them, token ids and loss mask, with a [`TextEncoder`].
//! 4. [`BatchLoader`] mixes sources and packs [`Batch`]es in an order that a [`Position`] resumes exactly.
//!
//! Stages that learn from comparisons take [`preference`] instead of 3 and 4.
//!
//! [`inspect`] describes one file for a person; [`cleaning`] holds what is done to files before a run.
#![forbid(unsafe_code)]

pub mod batches;
pub mod cleaning;
pub mod corpus;
mod encoder;
mod error;
mod grams;
mod hash;
pub mod input;
mod inspect;
mod output;
pub mod preference;
mod record;
mod tokens;

pub use batches::{Batch, BatchLoader, BatchSettings, MixturePart, PartPosition, Position, Segment};
pub use corpus::{Corpus, CorpusReport, CorpusSettings, OverlapReport, Split};
pub use encoder::TextEncoder;
pub use error::{DataError, ErrorKind};
pub use grams::{GRAM_WORDS, Shingles};
pub use input::{
    Container, FileFormat, RawReader, RawRecord, ReaderSettings, RecordReader, SourceRecord, TextDocuments,
};
pub use inspect::{Inspection, Lengths, SamplePart, inspect};
pub use output::{RecordWriter, check_name};
pub use preference::{LeftOut, PreferencePair, Prompt, RatedSequence, Sequence, Shuffled};
pub use record::{Message, Record, RecordKind, Role};
pub use tokens::{Encode, EncodeError, Targets, TokenSource, TokenizeReport, tokenize};
