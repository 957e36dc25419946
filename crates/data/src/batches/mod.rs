//! Batches: mixtures of sources, packed so that no document sees another, in an order a position resumes.
//!
//! A document of `n` tokens gives `n - 1` pairs of input and target; its last token is never an input,
//! because nothing follows it. The inputs of a text longer than `sequence_length` are cut into pieces of
//! (almost) equal length, each a segment whose positions begin at 0; the target of a piece's last token is the first
//! token of the next piece. A conversation is never cut: it keeps its first `sequence_length` inputs,
//! and is left out if no answer token is among their targets.
//!
//! So in one epoch of a source every token of a text but its first is a target exactly once.

mod loader;
mod order;
mod pieces;

#[cfg(test)]
mod tests;

pub use loader::{BatchLoader, MixturePart, PartPosition, Position};
pub(crate) use order::permuted;
pub use pieces::PackingReport;

use crate::error::{DataError, ErrorKind};
use crate::tokens::TokenSource;
use pieces::Pieces;

/// One document, or one piece of a document, in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Row of its first token.
    pub start: usize,
    /// Number of its tokens.
    pub len: usize,
}

/// Tokens of several documents one after another, each attending to itself only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Input ids, `[N]`, `N` at most `batch_tokens`.
    pub tokens: Vec<u32>,
    /// The id that follows each input in its document, `[N]`.
    pub targets: Vec<u32>,
    /// 1 where the target counts in the loss, else 0, `[N]`. Every segment has at least one 1.
    pub weights: Vec<f32>,
    /// The documents in it: they cover `0..N` in order without gaps.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Number of targets that count in the loss.
    pub fn num_targets(&self) -> usize {
        self.weights.iter().filter(|&&weight| weight != 0.0).count()
    }

    fn clear(&mut self) {
        self.tokens.clear();
        self.targets.clear();
        self.weights.clear();
        self.segments.clear();
    }

    fn push_piece(&mut self, source: &TokenSource, piece: pieces::Piece) {
        let document = source.document(piece.document);
        let (start, end) = (piece.start, piece.start + piece.len);
        self.segments.push(Segment { start: self.tokens.len(), len: piece.len });
        self.tokens.extend_from_slice(&document.ids[start..end]);
        self.targets.extend_from_slice(&document.ids[start + 1..=end]);
        self.weights.extend((start + 1..=end).map(|index| f32::from(u8::from(document.is_target(index)))));
    }
}

/// Shape of the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Longest segment, in tokens.
    pub sequence_length: usize,
    /// Most tokens in a batch, at least `sequence_length`. A batch ends before the first piece that does
    /// not fit any more.
    pub batch_tokens: usize,
    /// Seed of the order.
    pub seed: u64,
}

impl BatchSettings {
    fn check(&self) -> Result<(), DataError> {
        if self.sequence_length == 0 {
            let found = self.sequence_length.to_string();
            return Err(ErrorKind::Setting { name: "sequence_length", expected: "at least 1", found }.into());
        }
        if self.batch_tokens < self.sequence_length {
            return Err(ErrorKind::Setting {
                name: "batch_tokens",
                expected: "at least sequence_length",
                found: format!("{} with sequence_length {}", self.batch_tokens, self.sequence_length),
            }
            .into());
        }
        Ok(())
    }
}

/// One pass over a source in its own order, for validation; the last batch may be short.
///
/// # Errors
/// If `batch_tokens` is below `sequence_length`, or `sequence_length` is 0.
pub fn one_epoch(
    source: &TokenSource,
    settings: BatchSettings,
) -> Result<impl Iterator<Item = Batch> + '_, DataError> {
    settings.check()?;
    let pieces = Pieces::new(source, settings.sequence_length);
    let mut next = 0;
    Ok(std::iter::from_fn(move || {
        let mut batch = Batch::default();
        while next < pieces.len() {
            let piece = pieces.get(source, next);
            if batch.tokens.len() + piece.len > settings.batch_tokens {
                break;
            }
            batch.push_piece(source, piece);
            next += 1;
        }
        (!batch.tokens.is_empty()).then_some(batch)
    }))
}
