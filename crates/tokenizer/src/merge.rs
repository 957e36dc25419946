//! The merge loop of byte-pair encoding: always the best pair, leftmost first, in O(n log n).
//!
//! Symbols form a linked list over the text; candidate pairs wait in a heap and are dropped when they come up
//! after one of their symbols has changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour, no id.
pub(crate) const NONE: u32 = u32::MAX;

/// A stretch of the text that is one token so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// Token id, or `NONE` if these bytes are no token.
    pub id: u32,
    /// Start of its bytes in the text.
    pub start: u32,
    /// Number of its bytes; 0 once merged into its left neighbour.
    pub len: u32,
    prev: u32,
    next: u32,
}

/// Which pairs may merge.
pub(crate) trait PairRule {
    /// Priority (lower merges first) and resulting id of joining two neighbours.
    fn find(&self, left: &Symbol, right: &Symbol) -> Option<(u32, u32)>;
}

/// A candidate: priority, left symbol, bytes of both, resulting id.
type Candidate = Reverse<(u32, u32, u32, u32)>;

/// The loop and its working memory, reusable from text to text.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

/// Up to this many symbols the best pair is found by looking at all of them.
const FEW: usize = 24;

impl Merger {
    /// Begins a text.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.candidates.clear();
    }

    /// Appends a symbol of `len` bytes to the text.
    pub(crate) fn push(&mut self, id: u32, len: u32) {
        let index = self.symbols.len() as u32;
        let (start, prev) = match self.symbols.last_mut() {
            Some(last) => {
                last.next = index;
                (last.start + last.len, index - 1)
            }
            None => (0, NONE),
        };
        self.symbols.push(Symbol { id, start, len, prev, next: NONE });
    }

    /// Merges until no pair can, and calls `found` with what is left, in order.
    pub(crate) fn run(&mut self, rule: &impl PairRule, mut found: impl FnMut(&Symbol)) {
        if self.symbols.len() <= FEW {
            self.merge_few(rule)
        } else {
            self.merge_many(rule)
        }
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at as usize) {
            found(symbol);
            at = symbol.next;
        }
    }

    fn merge_few(&mut self, rule: &impl PairRule) {
        let mut ranks = [(NONE, NONE); FEW];
        let count = self.symbols.len();
        let rank = |symbols: &[Symbol], at: u32| -> (u32, u32) {
            let left = &symbols[at as usize];
            match symbols.get(left.next as usize) {
                Some(right) => rule.find(left, right).unwrap_or((NONE, NONE)),
                None => (NONE, NONE),
            }
        };
        for (at, slot) in ranks.iter_mut().enumerate().take(count) {
            *slot = rank(&self.symbols, at as u32);
        }
        loop {
            let best = (0..count).min_by_key(|&at| ranks[at].0);
            let Some(at) = best.filter(|&at| ranks[at].1 != NONE) else { return };
            let absorbed = self.symbols[at].next as usize;
            self.join(at as u32, ranks[at].1);
            ranks[absorbed] = (NONE, NONE);
            ranks[at] = rank(&self.symbols, at as u32);
            let prev = self.symbols[at].prev;
            if prev != NONE {
                ranks[prev as usize] = rank(&self.symbols, prev);
            }
        }
    }

    fn merge_many(&mut self, rule: &impl PairRule) {
        for at in 0..self.symbols.len() as u32 {
            self.propose(rule, at);
        }
        while let Some(Reverse((_, at, len, id))) = self.candidates.pop() {
            let left = self.symbols[at as usize];
            let right = self.symbols.get(left.next as usize);
            if left.len == 0 || right.is_none_or(|right| left.len + right.len != len) {
                continue;
            }
            self.join(at, id);
            self.propose(rule, at);
            self.propose(rule, left.prev);
        }
    }

    /// Puts the pair that begins at symbol `at` on the heap, if it can merge.
    fn propose(&mut self, rule: &impl PairRule, at: u32) {
        let Some(left) = self.symbols.get(at as usize) else { return };
        let Some(right) = self.symbols.get(left.next as usize) else { return };
        if let Some((priority, id)) = rule.find(left, right) {
            self.candidates.push(Reverse((priority, at, left.len + right.len, id)));
        }
    }

    /// Makes symbol `at` and its right neighbour one symbol with id `id`.
    fn join(&mut self, at: u32, id: u32) {
        let right = self.symbols[at as usize].next;
        let absorbed = std::mem::replace(&mut self.symbols[right as usize].len, 0);
        let next = self.symbols[right as usize].next;
        let left = &mut self.symbols[at as usize];
        left.id = id;
        left.len += absorbed;
        left.next = next;
        if let Some(after) = self.symbols.get_mut(next as usize) {
            after.prev = at;
        }
    }
}
