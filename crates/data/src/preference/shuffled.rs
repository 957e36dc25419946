//! An endless shuffled order of items with a position that resumes exactly.

use crate::batches::{PartPosition, Position, permuted};
use crate::error::{DataError, ErrorKind};
use crate::hash::{bytes_hash, mix};

/// Gives the indices of a list for ever, epoch after epoch, each shuffled anew by the seed.
///
/// Its state is a [`Position`] of one part: `batches` and `tokens` both count the items given out since the beginning,
/// `piece` those of the epoch.
#[derive(Clone, Debug)]
pub struct Shuffled {
    items: u64,
    seed: u64,
    fingerprint: String,
    position: PartPosition,
}

impl Shuffled {
    /// An order at its beginning, over as many items as there are `fingerprints`; `name` stands in reports and positions.
    ///
    /// # Errors
    /// No items.
    pub fn new(
        name: &str,
        fingerprints: impl IntoIterator<Item = u128>,
        seed: u64,
    ) -> Result<Self, DataError> {
        let mut bytes = format!("{seed}|{name}|").into_bytes();
        let start = bytes.len();
        fingerprints.into_iter().for_each(|item| bytes.extend_from_slice(&item.to_le_bytes()));
        let items = ((bytes.len() - start) / size_of::<u128>()) as u64;
        if items == 0 {
            let (name, expected, found) = ("items", "at least one", format!("none in `{name}`"));
            return Err(ErrorKind::Setting { name, expected, found }.into());
        }
        let fingerprint = format!("{:032x}", bytes_hash(&bytes));
        let position = PartPosition { name: name.to_owned(), epoch: 0, piece: 0, tokens: 0 };
        Ok(Self { items, seed, fingerprint, position })
    }

    /// Index of the next item.
    pub fn next_index(&mut self) -> usize {
        let key = mix(mix(self.seed) ^ self.position.epoch);
        let index = permuted(self.position.piece, self.items, key);
        self.position.tokens += 1;
        self.position.piece += 1;
        if self.position.piece == self.items {
            self.position.piece = 0;
            self.position.epoch += 1;
        }
        index as usize
    }

    /// Items of an epoch.
    pub fn num_items(&self) -> usize {
        self.items as usize
    }

    /// Epochs completed.
    pub fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// Where the order stands.
    pub fn position(&self) -> Position {
        Position {
            fingerprint: self.fingerprint.clone(),
            batches: self.position.tokens,
            parts: vec![self.position.clone()],
        }
    }

    /// Goes to a position: the items that follow are the ones that followed there.
    ///
    /// # Errors
    /// If the position was saved with other items or another seed, or is damaged. Nothing changes then.
    pub fn restore(&mut self, position: &Position) -> Result<(), DataError> {
        let refuse = |expected, found| Err(ErrorKind::Position { expected, found }.into());
        if position.fingerprint != self.fingerprint {
            return refuse(self.fingerprint.clone(), position.fingerprint.clone());
        }
        let [part] = position.parts.as_slice() else {
            return refuse("1 part".to_owned(), format!("{} parts", position.parts.len()));
        };
        let given = u128::from(part.epoch) * u128::from(self.items) + u128::from(part.piece);
        if part.name != self.position.name || part.piece >= self.items || given != u128::from(part.tokens) {
            let found = format!("`{}` at item {} of epoch {}", part.name, part.piece, part.epoch);
            return refuse(format!("`{}` below item {}", self.position.name, self.items), found);
        }
        self.position = part.clone();
        Ok(())
    }
}
