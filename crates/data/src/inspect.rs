//! What a person wants to know of one file before training on it.

use crate::error::{DataError, ErrorKind};
use crate::input::{FileFormat, ReaderSettings, RecordReader};
use crate::preference::{self, LeftOut, RatedSequence};
use crate::record::{Message, Record, RecordKind, Role};
use crate::tokens::Encode;
use std::collections::HashSet;
use std::path::Path;

/// Statistics of a length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lengths {
    /// Number of records.
    pub count: usize,
    /// Sum.
    pub total: u64,
    /// Shortest.
    pub min: u32,
    /// Half are at most this (the lower middle one of an even count).
    pub median: u32,
    /// Nine of ten are at most this.
    pub p90: u32,
    /// Longest.
    pub max: u32,
}

impl Lengths {
    fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let count = lengths.len();
        let rank = |share: f64| match count {
            0 => 0,
            _ => lengths[(((count as f64) * share).ceil() as usize).clamp(1, count) - 1],
        };
        Self {
            count,
            total: lengths.iter().map(|&length| u64::from(length)).sum(),
            min: rank(0.0),
            median: rank(0.5),
            p90: rank(0.9),
            max: rank(1.0),
        }
    }

    /// Mean, 0 without records.
    pub fn mean(&self) -> f64 {
        self.total as f64 / self.count.max(1) as f64
    }
}

/// A stretch of a rendered record that is learned throughout or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePart {
    /// The text, special tokens written out.
    pub text: String,
    /// Whether its tokens are targets.
    pub is_target: bool,
}

/// The description of a file.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What the file is.
    pub format: FileFormat,
    /// Records that are a text.
    pub texts: usize,
    /// Records that are a conversation.
    pub chats: usize,
    /// Records that are a preference pair.
    pub pairs: usize,
    /// Records that are a rated conversation: good, bad.
    pub rated: [usize; 2],
    /// Messages of them all by role: system, user, assistant.
    pub messages: [usize; 3],
    /// Records that name no source document.
    pub without_document: usize,
    /// Distinct source documents named.
    pub documents: usize,
    /// Records whose content came before.
    pub duplicates: usize,
    /// Records of white space only.
    pub blank: usize,
    /// Characters a record, roles not counted.
    pub characters: Lengths,
    /// Tokens a record, as rendered for training, of a pair those of both sides; with a tokenizer only.
    pub tokens: Option<Lengths>,
    /// Answer tokens among them; with a tokenizer only.
    pub answer_tokens: Option<u64>,
    /// Pairs and rated conversations that no stage can learn from; with a tokenizer only.
    pub left_out: Option<LeftOut>,
    /// The record asked for.
    pub sample: Vec<SamplePart>,
    /// The line on which it begins.
    pub sample_line: u64,
}

#[derive(Default)]
struct Counts {
    texts: usize,
    chats: usize,
    pairs: usize,
    rated: [usize; 2],
    messages: [usize; 3],
    without_document: usize,
    documents: HashSet<u128>,
    contents: HashSet<u128>,
    duplicates: usize,
    blank: usize,
    characters: Vec<u32>,
    tokens: Vec<u32>,
    answer_tokens: u64,
    left_out: LeftOut,
}

/// Reads a whole file and renders record `sample` (0-based; the last record if there are fewer).
///
/// # Errors
/// Whatever is wrong with the file, or a record that the tokenizer refuses.
pub fn inspect(
    path: &Path,
    settings: &ReaderSettings,
    encoder: Option<&dyn Encode>,
    sample: usize,
) -> Result<Inspection, DataError> {
    let mut reader = RecordReader::open(path, settings)?;
    let format = reader.format();
    let mut counts = Counts::default();
    let mut chosen: Option<Record> = None;
    for (index, record) in (&mut reader).enumerate() {
        let record = record?;
        counts.add(&record, encoder)?;
        if index <= sample {
            chosen = Some(record);
        }
    }
    let chosen = chosen.ok_or_else(|| DataError::in_file(ErrorKind::Empty, path))?;
    Ok(Inspection {
        format,
        texts: counts.texts,
        chats: counts.chats,
        pairs: counts.pairs,
        rated: counts.rated,
        messages: counts.messages,
        without_document: counts.without_document,
        documents: counts.documents.len(),
        duplicates: counts.duplicates,
        blank: counts.blank,
        characters: Lengths::of(counts.characters),
        tokens: encoder.map(|_| Lengths::of(counts.tokens)),
        answer_tokens: encoder.map(|_| counts.answer_tokens),
        left_out: encoder.map(|_| counts.left_out),
        sample: render(&chosen, encoder)?,
        sample_line: chosen.line,
    })
}

impl Counts {
    fn add(&mut self, record: &Record, encoder: Option<&dyn Encode>) -> Result<(), DataError> {
        match &record.kind {
            RecordKind::Text(_) => self.texts += 1,
            RecordKind::Chat(_) => self.chats += 1,
            RecordKind::Preference { .. } => self.pairs += 1,
            RecordKind::Rated { good, .. } => self.rated[usize::from(!good)] += 1,
        }
        record.messages().for_each(|message| self.messages[message.role as usize] += 1);
        self.without_document += usize::from(record.source_documents.is_empty());
        for id in &record.source_documents {
            self.documents.insert(crate::hash::bytes_hash(id.as_bytes()));
        }
        if record.is_blank() {
            self.blank += 1;
        } else if !self.contents.insert(record.content_hash()) {
            self.duplicates += 1;
        }
        self.characters.push(record.num_characters().min(u32::MAX as usize) as u32);
        if let Some(encoder) = encoder {
            let (tokens, answer_tokens) = self.count_tokens(record, encoder)?;
            self.tokens.push(tokens.min(u32::MAX as usize) as u32);
            self.answer_tokens += answer_tokens as u64;
        }
        Ok(())
    }

    /// Tokens of a record and those of answers among them.
    fn count_tokens(&mut self, record: &Record, encoder: &dyn Encode) -> Result<(usize, usize), DataError> {
        match &record.kind {
            RecordKind::Text(_) => Ok((encode(record, encoder)?.0.len(), 0)),
            RecordKind::Chat(_) => {
                let (ids, mask) = encode(record, encoder)?;
                Ok((ids.len(), mask.iter().filter(|&&target| target).count()))
            }
            RecordKind::Preference { .. } | RecordKind::Rated { .. } => {
                let (answers, left_out) = judged_answers(record, encoder)?;
                self.left_out.add(left_out);
                let answers = answers.iter().map(|answer| &answer.sequence);
                Ok(answers.fold((0, 0), |(tokens, learned), answer| {
                    (tokens + answer.ids.len(), learned + answer.completion().len())
                }))
            }
        }
    }
}

/// The answers of a pair or of a rated conversation, whole.
fn judged_answers(record: &Record, encoder: &dyn Encode) -> Result<(Vec<RatedSequence>, LeftOut), DataError> {
    preference::rated(std::iter::once(Ok(record.clone())), encoder, usize::MAX, 1)
}

/// Ids and mask of a text or a conversation; in a text every token but the first is a target.
fn encode(record: &Record, encoder: &dyn Encode) -> Result<(Vec<u32>, Vec<bool>), DataError> {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    let encoded = match &record.kind {
        RecordKind::Text(text) => encoder.encode_document(text, &mut ids).map(|()| {
            mask.resize(ids.len(), true);
            mask.iter_mut().take(1).for_each(|first| *first = false);
        }),
        RecordKind::Chat(messages) => encoder.encode_chat(messages, &mut ids, &mut mask),
        RecordKind::Preference { .. } | RecordKind::Rated { .. } => Ok(()),
    };
    encoded.map_err(|error| DataError::at_line(ErrorKind::Encode(error), &record.file, record.line))?;
    Ok((ids, mask))
}

/// The record in stretches that are learned or not; without a tokenizer, its texts.
fn render(record: &Record, encoder: Option<&dyn Encode>) -> Result<Vec<SamplePart>, DataError> {
    let Some(encoder) = encoder else { return Ok(texts(record)) };
    if let RecordKind::Preference { .. } | RecordKind::Rated { .. } = record.kind {
        let (answers, _) = judged_answers(record, encoder)?;
        // A row that is left out has nothing to render.
        return Ok(if answers.is_empty() { texts(record) } else { judged(&answers, encoder) });
    }
    let (ids, mask) = encode(record, encoder)?;
    let mut start = 0;
    let parts = mask.chunk_by(|a, b| a == b).map(|stretch| {
        let text = encoder.decode(&ids[start..start + stretch.len()]);
        start += stretch.len();
        SamplePart { text, is_target: stretch[0] }
    });
    Ok(parts.collect())
}

/// The prompt once, and each answer with its judgement before it.
fn judged(answers: &[RatedSequence], encoder: &dyn Encode) -> Vec<SamplePart> {
    let part = |text, is_target| SamplePart { text, is_target };
    let prompt = answers.first().map(|answer| &answer.sequence);
    let prompt = prompt.map(|first| part(encoder.decode(&first.ids[..first.prompt_len]), false));
    let answers = answers.iter().flat_map(|answer| {
        let name = if answer.good { "\ngood: " } else { "\nbad: " };
        [part(name.to_owned(), false), part(encoder.decode(answer.sequence.completion()), true)]
    });
    prompt.into_iter().chain(answers).collect()
}

/// The texts of a record, each message behind its role.
fn texts(record: &Record) -> Vec<SamplePart> {
    let part = |text, is_target| SamplePart { text, is_target };
    let turns = |messages: &[Message], learned: bool| -> Vec<SamplePart> {
        let each = messages.iter().flat_map(|message| {
            let is_target = learned && message.role == Role::Assistant;
            let role = part(format!("{}: ", message.role.name()), false);
            [role, part(format!("{}\n", message.content), is_target)]
        });
        each.collect()
    };
    let line = |text: &str| vec![part(format!("{text}\n"), false)];
    match &record.kind {
        RecordKind::Text(text) => vec![part(text.clone(), true)],
        RecordKind::Chat(messages) => turns(messages, true),
        RecordKind::Rated { messages, good } => {
            let last = messages.iter().rposition(|message| message.role == Role::Assistant);
            let (prompt, answer) = messages.split_at(last.unwrap_or(messages.len()));
            [turns(prompt, false), line(if *good { "good:" } else { "bad:" }), turns(answer, true)].concat()
        }
        RecordKind::Preference { prompt, chosen, rejected } => {
            let sides = [line("good:"), turns(chosen, true), line("bad:"), turns(rejected, true)];
            [turns(prompt, false), sides.concat()].concat()
        }
    }
}

#[cfg(test)]
mod tests;
