//! Attention of one tile: products of small matrices in registers, and online softmax over key blocks.
//!
//! Every element of a product is summed over ascending `k` in one register, whatever the rows and columns beside it, and
//! keys that a row does not see add exact zeros: so a row has the same bits alone and in a tile.

mod backward;
mod forward;
mod product;
mod stored;

pub(crate) use backward::attention_backward;
pub(crate) use forward::attention;
pub(crate) use product::{Product, multiply_in};

use super::Simd;
use crate::ops::attention::{KEY_BLOCK, KeyBlock, TileKeys};
use std::ops::Range;

/// Query rows that go through a key block together; scores of that many rows stay in the L1 cache.
const ROWS: usize = 48;

/// Which keys of one block the rows of a chunk see.
struct Visible {
    /// Of each row; empty at 0 for a row that sees none.
    rows: [(u8, u8); ROWS],
    /// Every row sees all of `keys`.
    same: bool,
    /// From the first vector with a visible key to the last visible key.
    keys: Range<usize>,
}

impl Visible {
    /// `None` if no row sees a key. `positions` holds those of the chunk's rows, ascending.
    fn new<S: Simd>(keys: &TileKeys<'_>, block: &KeyBlock, positions: &[i64]) -> Option<Self> {
        let (first, last) = (positions[0], positions[positions.len() - 1]);
        let (of_first, of_last) = (keys.visible(block, first), keys.visible(block, last));
        let mut visible = Self { rows: [(0, 0); ROWS], same: of_first == of_last, keys: of_first.clone() };
        if !visible.same {
            // Both ends of what a row sees grow with its position.
            let (mut start, mut end) = (KEY_BLOCK, 0);
            for (row, &position) in visible.rows.iter_mut().zip(positions) {
                let range = keys.visible(block, position);
                if !range.is_empty() {
                    *row = (range.start as u8, range.end as u8);
                    (start, end) = (start.min(range.start), end.max(range.end));
                }
            }
            visible.keys = start..end;
        } else if !of_first.is_empty() {
            visible.rows = [(of_first.start as u8, of_first.end as u8); ROWS];
        }
        if visible.keys.is_empty() {
            return None;
        }
        visible.same &=
            visible.keys.start.is_multiple_of(S::LANES) && visible.keys.end.is_multiple_of(S::LANES);
        visible.keys.start -= visible.keys.start % S::LANES;
        Some(visible)
    }

    /// The keys with the last vector filled up: blocks always hold 64.
    fn vectors<S: Simd>(&self) -> Range<usize> {
        self.keys.start..self.keys.end.next_multiple_of(S::LANES)
    }

    /// Sets what row `i` does not see in `scores [64]` to `value`.
    fn mask<S: Simd>(&self, scores: &mut [f32], i: usize, value: f32) {
        if !self.same {
            let (vectors, (start, end)) = (self.vectors::<S>(), self.rows[i]);
            let (start, end) = (usize::from(start).max(vectors.start), usize::from(end).max(vectors.start));
            scores[vectors.start..start].fill(value);
            scores[end..vectors.end].fill(value);
        }
    }

    /// Whether row `i` sees a key.
    fn any(&self, i: usize) -> bool {
        self.rows[i].0 < self.rows[i].1
    }
}
