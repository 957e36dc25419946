//! What preference stages learn from: pairs of a chosen and a rejected answer, rated answers, and prompts to answer.
//!
//! Every answer is one message of the assistant behind a prompt. Prompt and conversation are rendered by the chat
//! template; the conversation's ids must begin with the prompt's, and they end with the last id that the model must write
//! (the end of the turn), so that the completion is what a model would have generated. Conversations of more than
//! `sequence_length + 1` ids (inputs and one more target) lose the rest of their completion.
//!
//! Rows that nothing can be learned from are left out and listed with the reason ([`LeftOut`]).

mod left_out;
mod rendered;
mod shuffled;

#[cfg(test)]
mod tests;

use crate::error::{DataError, ErrorKind};
use crate::hash::bytes_hash;
use crate::record::{Message, Record, RecordKind, Role};
use crate::tokens::{CHUNK_RECORDS, Encode, in_parallel};
use rendered::{Outcome, Renderer};
use std::path::Path;
use std::sync::Arc;

pub use left_out::{LeftOut, LeftOutRow, Reason};
pub use shuffled::Shuffled;

/// A rendered conversation that ends with the answer to learn about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Ids of prompt and completion, at most `sequence_length + 1`.
    pub ids: Vec<u32>,
    /// Ids of the prompt, generation prompt included; the completion is `ids[prompt_len..]`, never empty.
    pub prompt_len: usize,
}

impl Sequence {
    /// The ids of the completion.
    pub fn completion(&self) -> &[u32] {
        &self.ids[self.prompt_len..]
    }

    fn write_into(&self, bytes: &mut Vec<u8>) {
        write_ids(&self.ids, bytes);
        bytes.extend_from_slice(&(self.prompt_len as u64).to_le_bytes());
    }
}

fn write_ids(ids: &[u32], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
}

/// Two answers to one prompt. Both sequences begin with the same `prompt_len` ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferencePair {
    /// With the preferred answer.
    pub chosen: Sequence,
    /// With the other one.
    pub rejected: Sequence,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// Its line there, 1-based.
    pub line: u64,
}

impl PreferencePair {
    /// Hash of its ids, for [`Shuffled::new`].
    pub fn fingerprint(&self) -> u128 {
        let mut bytes = Vec::new();
        self.chosen.write_into(&mut bytes);
        self.rejected.write_into(&mut bytes);
        bytes_hash(&bytes)
    }
}

/// A judged answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatedSequence {
    /// Prompt and answer.
    pub sequence: Sequence,
    /// The judgement.
    pub good: bool,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// Its line there, 1-based.
    pub line: u64,
}

impl RatedSequence {
    /// Hash of its ids and its judgement, for [`Shuffled::new`].
    pub fn fingerprint(&self) -> u128 {
        let mut bytes = vec![u8::from(self.good)];
        self.sequence.write_into(&mut bytes);
        bytes_hash(&bytes)
    }
}

/// Something to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Ids up to where the answer begins, at most `sequence_length`.
    pub ids: Vec<u32>,
    /// The messages that were rendered.
    pub messages: Vec<Message>,
    /// The answer in the file, empty where there is none.
    pub answer: String,
    /// The file it was read from.
    pub file: Arc<Path>,
    /// Its line there, 1-based.
    pub line: u64,
}

impl Prompt {
    /// Hash of its ids and its answer, for [`Shuffled::new`].
    pub fn fingerprint(&self) -> u128 {
        let mut bytes = Vec::new();
        write_ids(&self.ids, &mut bytes);
        bytes.extend_from_slice(self.answer.as_bytes());
        bytes_hash(&bytes)
    }
}

/// Renders preference pairs in order, on `threads` threads (at least one); the result does not depend on their number.
///
/// # Errors
/// The first error of `records`; a record that is no preference pair or that the tokenizer refuses, named by file and line;
/// a `sequence_length` of 0. Rows that are left out are none: ask [`LeftOut::check`].
pub fn pairs(
    records: impl Iterator<Item = Result<Record, DataError>>,
    encoder: &dyn Encode,
    sequence_length: usize,
    threads: usize,
) -> Result<(Vec<PreferencePair>, LeftOut), DataError> {
    let renderer = Renderer { encoder, sequence_length };
    collect(records, sequence_length, threads, |record| match &record.kind {
        RecordKind::Preference { prompt, chosen, rejected } => {
            let rendered = renderer.pair(prompt, chosen, rejected)?;
            Ok(rendered.map(|[chosen, rejected]| {
                vec![PreferencePair { chosen, rejected, file: record.file.clone(), line: record.line }]
            }))
        }
        kind => refused("a preference pair (`chosen` and `rejected`)", kind),
    })
}

/// Renders rated answers in order, as [`pairs`] does; a preference pair gives a good one and then a bad one.
///
/// # Errors
/// As [`pairs`], for a record that is neither.
pub fn rated(
    records: impl Iterator<Item = Result<Record, DataError>>,
    encoder: &dyn Encode,
    sequence_length: usize,
    threads: usize,
) -> Result<(Vec<RatedSequence>, LeftOut), DataError> {
    let renderer = Renderer { encoder, sequence_length };
    collect(records, sequence_length, threads, |record| {
        let rate = |sequence, good| {
            let (file, line) = (record.file.clone(), record.line);
            RatedSequence { sequence, good, file, line }
        };
        match &record.kind {
            RecordKind::Rated { messages, good } => {
                Ok(renderer.conversation(messages)?.map(|sequence| vec![rate(sequence, *good)]))
            }
            RecordKind::Preference { prompt, chosen, rejected } => {
                let rendered = renderer.pair(prompt, chosen, rejected)?;
                Ok(rendered.map(|[chosen, rejected]| vec![rate(chosen, true), rate(rejected, false)]))
            }
            kind => refused("a rated conversation (`label`) or a preference pair", kind),
        }
    })
}

/// Renders what comes before the last answer of each conversation, in order: of a preference pair its prompt, with the
/// chosen answer beside it. A conversation without an answer is a prompt as it stands. Prompts of more than
/// `sequence_length` ids are left out.
///
/// # Errors
/// As [`pairs`], for a plain text.
pub fn prompts(
    records: impl Iterator<Item = Result<Record, DataError>>,
    encoder: &dyn Encode,
    sequence_length: usize,
    threads: usize,
) -> Result<(Vec<Prompt>, LeftOut), DataError> {
    let renderer = Renderer { encoder, sequence_length };
    collect(records, sequence_length, threads, |record| {
        let (messages, answer) = match &record.kind {
            RecordKind::Chat(messages) | RecordKind::Rated { messages, .. } => {
                match messages.iter().rposition(|message| message.role == Role::Assistant) {
                    Some(last) => (&messages[..last], messages[last].content.as_str()),
                    None => (messages.as_slice(), ""),
                }
            }
            RecordKind::Preference { prompt, chosen, .. } => {
                let answer = chosen.iter().find(|message| message.role == Role::Assistant);
                (prompt.as_slice(), answer.map_or("", |message| &message.content))
            }
            kind @ RecordKind::Text(_) => return refused("a conversation", kind),
        };
        Ok(renderer.prompt(messages)?.map(|ids| {
            let (file, line) = (record.file.clone(), record.line);
            vec![Prompt { ids, messages: messages.to_vec(), answer: answer.to_owned(), file, line }]
        }))
    })
}

fn refused<T>(expected: &'static str, kind: &RecordKind) -> Result<T, ErrorKind> {
    Err(ErrorKind::RecordKind { expected, found: kind.name() })
}

/// Renders chunks of records and sorts what comes out.
fn collect<T: Send>(
    mut records: impl Iterator<Item = Result<Record, DataError>>,
    sequence_length: usize,
    threads: usize,
    render: impl Fn(&Record) -> Result<Outcome<Vec<T>>, ErrorKind> + Sync,
) -> Result<(Vec<T>, LeftOut), DataError> {
    if sequence_length == 0 {
        let (name, found) = ("sequence_length", sequence_length.to_string());
        return Err(ErrorKind::Setting { name, expected: "at least 1", found }.into());
    }
    let (mut items, mut left_out) = (Vec::new(), LeftOut::default());
    loop {
        let chunk: Vec<Record> = records.by_ref().take(CHUNK_RECORDS).collect::<Result<_, _>>()?;
        if chunk.is_empty() {
            return Ok((items, left_out));
        }
        let outcomes = in_parallel(&chunk, threads, |part| part.iter().map(&render).collect::<Vec<_>>());
        for (record, outcome) in chunk.iter().zip(outcomes.into_iter().flatten()) {
            let at = |kind| DataError::at_line(kind, &record.file, record.line);
            match outcome.map_err(at)? {
                Outcome::Kept { item, cut } => {
                    items.extend(item);
                    left_out.kept(record, cut);
                }
                Outcome::LeftOut(reason) => left_out.left_out(record, reason),
            }
        }
    }
}
