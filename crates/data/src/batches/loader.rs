//! The endless stream of training batches and its position.

use super::order::permuted;
use super::pieces::{PackingReport, Piece, Pieces};
use super::{Batch, BatchSettings};
use crate::error::{DataError, ErrorKind};
use crate::hash::{bytes_hash, mix};
use crate::tokens::TokenSource;
use std::sync::Arc;

/// One source of a mixture.
#[derive(Clone, Debug)]
pub struct MixturePart {
    /// Its name in reports and positions.
    pub name: String,
    /// Its tokens.
    pub source: Arc<TokenSource>,
    /// Its share of the input tokens, relative to the other weights; above 0.
    pub weight: f64,
}

/// Where one source stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartPosition {
    /// Name of the source.
    pub name: String,
    /// Epochs completed.
    pub epoch: u64,
    /// Pieces used in this epoch.
    pub piece: u64,
    /// Input tokens used since the beginning.
    pub tokens: u64,
}

/// Where the stream stands: everything that decides the batches to come.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Hash of data and settings, hexadecimal.
    pub fingerprint: String,
    /// Batches given out.
    pub batches: u64,
    /// One entry a source.
    pub parts: Vec<PartPosition>,
}

struct Part {
    name: String,
    source: Arc<TokenSource>,
    weight: f64,
    pieces: Pieces,
    position: PartPosition,
}

/// Gives batches for ever, epoch after epoch of each source.
///
/// The next piece comes from the source that is furthest behind its share of the tokens so far (the first
/// of equals), so that the shares hold at every moment to within one piece. Each epoch of a source is
/// shuffled anew by the seed. The whole state is a [`Position`] of a few numbers.
pub struct BatchLoader {
    settings: BatchSettings,
    parts: Vec<Part>,
    fingerprint: String,
    batches: u64,
}

impl BatchLoader {
    /// A loader at the beginning of its stream.
    ///
    /// # Errors
    /// No sources, a source without targets, a weight that is not a positive number, sizes out of range.
    pub fn new(parts: Vec<MixturePart>, settings: BatchSettings) -> Result<Self, DataError> {
        settings.check()?;
        if parts.is_empty() {
            return Err(ErrorKind::Setting {
                name: "sources",
                expected: "at least one",
                found: "none".into(),
            }
            .into());
        }
        let mut bytes = format!("{} {} {}", settings.sequence_length, settings.batch_tokens, settings.seed);
        let mut ours = Vec::with_capacity(parts.len());
        for MixturePart { name, source, weight } in parts {
            if !(weight.is_finite() && weight > 0.0) {
                let (expected, found) = ("a number above 0", format!("{weight} for `{name}`"));
                return Err(ErrorKind::Setting { name: "weight", expected, found }.into());
            }
            let pieces = Pieces::new(&source, settings.sequence_length);
            if pieces.len() == 0 {
                return Err(ErrorKind::NoTargets(name).into());
            }
            bytes += &format!("|{name} {:x} {:x}", weight.to_bits(), source.fingerprint());
            let position = PartPosition { name: name.clone(), epoch: 0, piece: 0, tokens: 0 };
            ours.push(Part { name, source, weight, pieces, position });
        }
        let fingerprint = format!("{:032x}", bytes_hash(bytes.as_bytes()));
        Ok(Self { settings, parts: ours, fingerprint, batches: 0 })
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.next_batch_into(&mut batch);
        batch
    }

    /// The next batch, into memory that is used again.
    pub fn next_batch_into(&mut self, batch: &mut Batch) {
        batch.clear();
        loop {
            let index = self.furthest_behind();
            let piece = self.peek(index);
            if batch.tokens.len() + piece.len > self.settings.batch_tokens {
                break;
            }
            let part = &mut self.parts[index];
            batch.push_piece(&part.source, piece);
            part.position.tokens += piece.len as u64;
            part.position.piece += 1;
            if part.position.piece == part.pieces.len() as u64 {
                part.position.piece = 0;
                part.position.epoch += 1;
            }
        }
        self.batches += 1;
    }

    /// Index of the source with the fewest tokens for its weight.
    fn furthest_behind(&self) -> usize {
        let used = |part: &Part| part.position.tokens as f64 / part.weight;
        let mut best = 0;
        for index in 1..self.parts.len() {
            if used(&self.parts[index]) < used(&self.parts[best]) {
                best = index;
            }
        }
        best
    }

    /// The next piece of a source, without taking it.
    fn peek(&self, index: usize) -> Piece {
        let part = &self.parts[index];
        let key = mix(mix(mix(self.settings.seed) ^ index as u64) ^ part.position.epoch);
        let number = permuted(part.position.piece, part.pieces.len() as u64, key);
        part.pieces.get(&part.source, number as usize)
    }

    /// Where the stream stands.
    pub fn position(&self) -> Position {
        Position {
            fingerprint: self.fingerprint.clone(),
            batches: self.batches,
            parts: self.parts.iter().map(|part| part.position.clone()).collect(),
        }
    }

    /// Goes to a position: the batches that follow are the ones that followed there, bit for bit.
    ///
    /// # Errors
    /// If the position was saved with other data, mixture or settings, or is damaged. Nothing changes then.
    pub fn restore(&mut self, position: &Position) -> Result<(), DataError> {
        let refuse = |expected: String, found: String| Err(ErrorKind::Position { expected, found }.into());
        if position.fingerprint != self.fingerprint {
            return refuse(self.fingerprint.clone(), position.fingerprint.clone());
        }
        if position.parts.len() != self.parts.len() {
            return refuse(
                format!("{} sources", self.parts.len()),
                format!("{} sources", position.parts.len()),
            );
        }
        for (ours, theirs) in self.parts.iter().zip(&position.parts) {
            let pieces = ours.pieces.len() as u64;
            if theirs.name != ours.name || theirs.piece >= pieces {
                return refuse(
                    format!("source `{}` below piece {pieces}", ours.name),
                    format!("source `{}` at piece {}", theirs.name, theirs.piece),
                );
            }
        }
        for (ours, theirs) in self.parts.iter_mut().zip(&position.parts) {
            ours.position = theirs.clone();
        }
        self.batches = position.batches;
        Ok(())
    }

    /// What packing did to each source, by name.
    pub fn packing(&self) -> impl Iterator<Item = (&str, PackingReport)> {
        self.parts.iter().map(|part| (part.name.as_str(), part.pieces.report()))
    }
}
