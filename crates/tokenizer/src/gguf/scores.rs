//! Scores of SentencePiece-style vocabularies: any two neighbours that form a token merge, the highest score first.
//!
//! A list of merges says less and more: only the pairs it names merge, each with a rank of its own. Both give the same
//! ids on every text if and only if they do so on the text of every token. For when two neighbours could form a token,
//! what stands between their outer ends has merged as it does in the token's own text, so a token has one pair of
//! parts that ever meet: if the list has that pair, its rank is the score; if it has not, scores cannot say so.

use super::{MERGES, MODEL};
use crate::error::TokenizerError;
use crate::merge::{Merger, NONE, PairRule, Symbol};
use crate::model::{SpacePrefix, Spm, SpmRule};
use crate::vocab::{MergeTable, Merges, TokenKind, Vocab};

/// Scores by which `model` merges, the inverse of `priority`.
pub(super) fn scores(vocab: &Vocab, model: &Spm) -> Result<Vec<f32>, TokenizerError> {
    let unsupported = |why: &str| Err(TokenizerError::unsupported(MODEL, why));
    if model.splits_words {
        return unsupported("words that are cut at spaces");
    }
    if model.prefix == SpacePrefix::First {
        return unsupported("a space before the first segment only");
    }
    if model.prefix != SpacePrefix::Never && model.prefix_only_words {
        return unsupported("a space put only before text that begins with none");
    }
    match &model.rule {
        SpmRule::Priorities(priorities) => {
            Ok(priorities.iter().map(|&priority| score_of(priority)).collect())
        }
        SpmRule::Merges(merges) => of_merges(vocab, merges),
    }
}

fn of_merges(vocab: &Vocab, merges: &Merges) -> Result<Vec<f32>, TokenizerError> {
    let table = merges.table();
    let mut merger = Merger::default();
    let is_mergeable = |id: u32| match vocab.entry(id) {
        Some(entry) if entry.is_literal => false,
        // text that an added token takes whole never merges into it; a space before it may be one put there
        Some(entry) if entry.kind == TokenKind::UserDefined => vocab.bytes(id).contains(&b' '),
        Some(entry) => entry.kind == TokenKind::Normal,
        None => false,
    };
    let score = |id: u32| {
        if !is_mergeable(id) {
            return Ok(0.0);
        }
        let text = String::from_utf8_lossy(vocab.bytes(id));
        let Some((left, right)) = parts(vocab, table, &text, id, &mut merger) else { return Ok(0.0) };
        let rank = table.find(left.id, right.id).filter(|&(_, merged)| merged == id).map(|(rank, _)| rank);
        let rank = rank.ok_or_else(|| {
            let (left, right) = text.split_at(left.len as usize);
            let why = format!("no merge of {left:?} and {right:?} into token {id}, which scores would merge");
            TokenizerError::unsupported(MERGES, why)
        })?;
        Ok(-(rank as f32))
    };
    (0..vocab.len() as u32).map(score).collect()
}

/// The two symbols that the text of token `id` becomes before they would merge into it; `None` if it never becomes two.
fn parts(
    vocab: &Vocab,
    table: &MergeTable,
    text: &str,
    id: u32,
    merger: &mut Merger,
) -> Option<(Symbol, Symbol)> {
    merger.clear();
    for (at, c) in text.char_indices() {
        let found = vocab.find(&text.as_bytes()[at..at + c.len_utf8()]);
        merger.push(found.unwrap_or(NONE), c.len_utf8() as u32);
    }
    let (mut pair, mut count) = ([None; 2], 0);
    merger.run(&AllBut { table, id }, |symbol| {
        if let Some(slot) = pair.get_mut(count) {
            *slot = Some(*symbol);
        }
        count += 1;
    });
    match pair {
        [Some(left), Some(right)] if count == 2 => Some((left, right)),
        _ => None,
    }
}

/// All merges but those that give one token.
struct AllBut<'m> {
    table: &'m MergeTable,
    id: u32,
}

impl PairRule for AllBut<'_> {
    fn find(&self, left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        self.table.find(left.id, right.id).filter(|&(_, id)| id != self.id)
    }
}

/// A number that is the lower, the higher the score. Both zeros are one score.
pub(super) fn priority(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    !ascending
}

/// The score of a `priority`.
fn score_of(priority: u32) -> f32 {
    let ascending = !priority;
    f32::from_bits(if ascending >> 31 == 1 { ascending & 0x7FFF_FFFF } else { !ascending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_order_priorities_and_come_back() {
        let scores = [f32::NEG_INFINITY, -1e9, -2.5, -1.0, 0.0, 1e-20, 3.0, f32::INFINITY];
        for pair in scores.windows(2) {
            assert!(priority(pair[0]) > priority(pair[1]), "{pair:?}");
        }
        for score in scores {
            assert_eq!(score_of(priority(score)), score);
        }
        assert_eq!(priority(-0.0), priority(0.0));
    }
}
