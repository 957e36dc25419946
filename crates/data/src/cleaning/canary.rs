//! Canaries: made-up secrets planted into training files, so that a later test can measure what a model repeats (Carlini
//! et al. 2019, arXiv 1802.08232).
//!
//! A secret is drawn from a stated space of |R| equally likely ones and stands in a sentence. If the trained model ranks
//! the planted secret r-th among the space, its exposure is log2 |R| - log2 r: 0 bits for the last, log2 |R| for the first.
//! Reference canaries are drawn in the same way and planted nowhere: their exposure is what chance gives.
//!
//! A canary is put **into** records that are there, each copy into another one: a text gets it as a line of its own, at a
//! place drawn at random; a conversation at the end of its last answer, which is what training learns, a preference pair at
//! the end of the chosen one; an answer rated as bad gets none. Records of their own would be equal, and duplicates are dropped before training.

use super::Place;
use super::pass::{Input, Item, Watch, pass};
use crate::error::{DataError, ErrorKind};
use crate::hash::mix;
use crate::input::{RecordReader, SourceRecord, rewrite_strings};
use crate::record::{Record, RecordKind, Role};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// Letters of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// 0 to 9.
    Digits,
    /// a to z.
    Letters,
}

impl Alphabet {
    fn characters(self) -> &'static [u8] {
        match self {
            Self::Digits => b"0123456789",
            Self::Letters => b"abcdefghijklmnopqrstuvwxyz",
        }
    }
}

/// The secrets that could have been drawn, all with the same probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretSpace {
    /// What a secret is made of.
    pub alphabet: Alphabet,
    /// Its length in characters.
    pub length: usize,
}

impl SecretSpace {
    /// log2 |R|: the largest exposure there is, in bits.
    pub fn bits(self) -> f64 {
        self.length as f64 * (self.alphabet.characters().len() as f64).log2()
    }
}

/// What is planted.
#[derive(Clone, Debug, PartialEq)]
pub struct CanarySettings {
    /// Canaries to plant.
    pub count: usize,
    /// Copies of a canary; the n-th canary has the n-th of these numbers, which begin again at the end.
    pub repeats: Vec<usize>,
    /// Canaries that are drawn and not planted.
    pub references: usize,
    /// The space of secrets.
    pub space: SecretSpace,
    /// The sentence: `{secret}` once, and `{id}` where a number of the canary's own may stand.
    pub template: String,
    /// Determines everything; whoever knows it knows the secrets.
    pub seed: u64,
}

/// A canary.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Canary {
    /// What stands for `{id}`.
    pub id: String,
    /// What stands for `{secret}`.
    pub secret: String,
    /// The sentence.
    pub text: String,
    /// The records that hold it: as many as it has copies, none for a reference.
    pub copies: Vec<Place>,
}

/// The list that the leak test needs. It holds the secrets: keep it away from whatever is trained on.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CanaryList {
    /// 1.
    pub version: u32,
    /// The space of secrets.
    pub space: SecretSpace,
    /// log2 of its size.
    pub bits: f64,
    /// The sentence.
    pub template: String,
    /// What determined everything.
    pub seed: u64,
    /// Those in the training file.
    pub planted: Vec<Canary>,
    /// Those that are in no file.
    pub references: Vec<Canary>,
    /// SHA-256 of everything above, as JSON without spaces: shows a list that was changed afterwards.
    pub seal: String,
}

impl CanaryList {
    /// The seal that belongs to the contents.
    pub fn expected_seal(&self) -> String {
        let unsealed = Self { seal: String::new(), ..self.clone() };
        let json = serde_json::to_vec(&unsealed).expect("names and numbers make JSON");
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Draws canaries and plants them: calls `write` with the file's index and the text of every record, in order.
///
/// Two passes; memory of 4 bytes a record.
///
/// # Errors
/// A setting out of range, fewer records than copies, the first thing wrong in any file, what `write` says.
pub fn plant(
    input: Input<'_>,
    settings: &CanarySettings,
    watch: Watch<'_>,
    mut write: impl FnMut(usize, &str) -> Result<(), DataError>,
) -> Result<CanaryList, DataError> {
    let mut random = Random(mix(settings.seed));
    let (mut planted, references) = draw(settings, &mut random)?;
    let mut records: Vec<u32> = Vec::new();
    pass::<RecordReader, _>(
        input,
        "counting records",
        watch,
        |_| (),
        |item, ()| {
            if can_hold(&item.record.record) {
                records.push(item.index as u32);
            }
            Ok(())
        },
    )?;
    let copies: Vec<usize> = (0..planted.len())
        .flat_map(|canary| std::iter::repeat_n(canary, settings.repeats[canary % settings.repeats.len()]))
        .collect();
    if copies.len() > records.len() {
        let found = format!("{} copies for {} records", copies.len(), records.len());
        return Err(setting(
            "count and repeat",
            "at most one copy for a record with a text or an answer",
            found,
        ));
    }
    // The first places of a shuffle: every choice of records is equally likely.
    let mut chosen: HashMap<u32, (usize, u64)> = HashMap::new();
    for (at, canary) in copies.into_iter().enumerate() {
        let other = at + random.below((records.len() - at) as u64) as usize;
        records.swap(at, other);
        chosen.insert(records[at], (canary, random.next()));
    }
    let work = |item: &Item<SourceRecord>| -> Option<Result<String, ErrorKind>> {
        let (canary, place) = chosen.get(&(item.index as u32))?;
        Some(insert(&item.record, &planted[*canary].text, *place))
    };
    let mut places: Vec<(usize, Place)> = Vec::new();
    pass::<RecordReader, _>(input, "planting", watch, work, |item, changed| {
        let record = &item.record.record;
        let Some(changed) = changed else { return write(item.file, item.record.source()) };
        let changed = changed.map_err(|kind| DataError::at_line(kind, &record.file, record.line))?;
        let (canary, _) = chosen[&(item.index as u32)];
        places.push((canary, Place { file: record.file.to_path_buf(), line: record.line }));
        write(item.file, &changed)
    })?;
    places.into_iter().for_each(|(canary, place)| planted[canary].copies.push(place));
    let CanarySettings { space, template, seed, .. } = settings.clone();
    let mut list = CanaryList {
        version: 1,
        space,
        bits: space.bits(),
        template,
        seed,
        planted,
        references,
        seal: String::new(),
    };
    list.seal = list.expected_seal();
    Ok(list)
}

fn setting(name: &'static str, expected: &'static str, found: String) -> DataError {
    ErrorKind::Setting { name, expected, found }.into()
}

/// Planted and reference canaries, all with different secrets and numbers.
fn draw(settings: &CanarySettings, random: &mut Random) -> Result<(Vec<Canary>, Vec<Canary>), DataError> {
    let CanarySettings { count, repeats, references, space, template, .. } = settings;
    if template.matches("{secret}").count() != 1 || template.contains(['\n', '\r']) {
        return Err(setting("template", "one line that holds `{secret}` once", format!("`{template}`")));
    }
    if !(1..=100_000).contains(count) || *references > 1_000_000 {
        let found = format!("{count} and {references}");
        return Err(setting("count and references", "1 to 100,000 and at most 1,000,000", found));
    }
    if repeats.is_empty() || repeats.contains(&0) {
        return Err(setting("repeat", "numbers of at least 1", format!("{repeats:?}")));
    }
    // Drawn without repetition: with a space 16 times as large, that changes next to nothing.
    if space.length > 64 || space.bits() < ((count + references) as f64).log2() + 4.0 {
        let found = format!("{:.1} bits", space.bits());
        return Err(setting(
            "space",
            "16 times as many secrets as canaries, of at most 64 characters",
            found,
        ));
    }
    let (mut secrets, mut ids) = (HashSet::new(), HashSet::new());
    let mut unique = |space: SecretSpace, seen: &mut HashSet<String>| loop {
        let characters = space.alphabet.characters();
        let pick = |_| char::from(characters[random.below(characters.len() as u64) as usize]);
        let drawn: String = (0..space.length).map(pick).collect();
        if seen.insert(drawn.clone()) {
            return drawn;
        }
    };
    let mut all: Vec<Canary> = (0..count + references)
        .map(|_| {
            let id = unique(SecretSpace { alphabet: Alphabet::Digits, length: 8 }, &mut ids);
            let secret = unique(*space, &mut secrets);
            let text = template.replace("{id}", &id).replace("{secret}", &secret);
            Canary { id, secret, text, copies: Vec::new() }
        })
        .collect();
    let references = all.split_off(*count);
    Ok((all, references))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        drawn
    }

    /// A number below `limit`, by multiplication; the bias is below limit / 2^64.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// The text of a record that canaries are put into: the document, or the last answer that training makes likelier.
fn target(record: &Record) -> Option<&str> {
    let messages = match &record.kind {
        RecordKind::Text(text) => return Some(text),
        RecordKind::Rated { good: false, .. } => return None,
        RecordKind::Chat(messages) | RecordKind::Rated { messages, .. } => messages,
        RecordKind::Preference { chosen, .. } => match chosen.last() {
            Some(last) if last.role == Role::Assistant => chosen,
            _ => return None,
        },
    };
    let answer = messages.iter().rev().find(|message| message.role == Role::Assistant);
    answer.map(|message| message.content.as_str())
}

fn can_hold(record: &Record) -> bool {
    target(record).is_some_and(|text| !text.trim().is_empty())
}

/// The record's text with the canary in it; `place` chooses the line of a document.
fn insert(source: &SourceRecord, canary: &str, place: u64) -> Result<String, ErrorKind> {
    let record = &source.record;
    let text = target(record).unwrap_or_default();
    let with_canary = |content: &str| match record.kind {
        RecordKind::Text(_) => {
            let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
            match place as usize % (ends.len() + 2) {
                0 => format!("{canary}\n{text}"),
                last if last > ends.len() => format!("{text}\n{canary}"),
                line => format!("{}{canary}\n{}", &text[..ends[line - 1]], &text[ends[line - 1]..]),
            }
        }
        // The field may be longer than the answer: all turns of HH-RLHF are one text, the answer at its end.
        _ => format!("{content}\n{canary}"),
    };
    let Some(json) = &source.json else { return Ok(with_canary(text)) };
    let is_pair = matches!(record.kind, RecordKind::Preference { .. });
    let last_line = text.lines().last().unwrap_or_default();
    let ends_with_answer = |content: &str| content.trim_end().ends_with(last_line.trim_end());
    let holds = |path: &str, content: &str| match is_pair {
        true => {
            path.starts_with("chosen") && (content == text || (path == "chosen" && ends_with_answer(content)))
        }
        false => holds_answers(path) && content == text,
    };
    // The last field of a known layout with this content is the answer.
    let mut field = None;
    rewrite_strings(json, |path, content| {
        if holds(path, content) {
            field = Some(path.to_owned());
        }
        None
    })?;
    let changed = rewrite_strings(json, |path, content| {
        (Some(path) == field.as_deref()).then(|| with_canary(content))
    })?;
    changed.ok_or_else(|| ErrorKind::Field {
        field: "(the record)".into(),
        expected: "the text of its layout".into(),
        found: "none".into(),
    })
}

/// The fields that layouts train on, those of pairs excepted.
fn holds_answers(path: &str) -> bool {
    ["text", "completion", "answer", "output", "response"].contains(&path)
        || (["messages[", "completion["].iter().any(|list| path.starts_with(list))
            && path.ends_with("].content"))
        || (path.starts_with("conversations[") && path.ends_with("].value"))
}

#[cfg(test)]
mod tests;
