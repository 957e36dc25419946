//! The pieces that documents are cut into, addressed by number without a table of all of them.

use crate::tokens::TokenSource;

/// Part of a document that becomes one segment: inputs `start..start + len`, targets one further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) document: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// What packing did to the documents of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackingReport {
    /// Pieces of an epoch.
    pub pieces: usize,
    /// Input tokens of an epoch.
    pub tokens: usize,
    /// Texts cut into several pieces.
    pub cut: usize,
    /// Conversations that lost their end.
    pub truncated: usize,
    /// Documents without a target among their inputs, left out.
    pub left_out: usize,
}

/// The pieces of a source: 8 bytes a document.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    sequence_length: usize,
    /// Number of pieces of the documents up to and including each, `[num_documents]`.
    ends: Vec<usize>,
    report: PackingReport,
}

impl Pieces {
    pub(super) fn new(source: &TokenSource, sequence_length: usize) -> Self {
        let mut report = PackingReport::default();
        let ends = (0..source.num_documents())
            .map(|index| {
                let document = source.document(index);
                let inputs = document.ids.len().saturating_sub(1);
                let kept = if document.mask.is_some() { inputs.min(sequence_length) } else { inputs };
                if !(1..=kept).any(|at| document.is_target(at)) {
                    report.left_out += 1;
                    return report.pieces;
                }
                report.cut += usize::from(kept > sequence_length);
                report.truncated += usize::from(kept < inputs);
                report.tokens += kept;
                report.pieces += kept.div_ceil(sequence_length);
                report.pieces
            })
            .collect();
        Self { sequence_length, ends, report }
    }

    pub(super) fn len(&self) -> usize {
        self.report.pieces
    }

    pub(super) fn report(&self) -> PackingReport {
        self.report
    }

    /// Piece `number` of `0..len()`, in the order of the documents.
    pub(super) fn get(&self, source: &TokenSource, number: usize) -> Piece {
        let document = self.ends.partition_point(|&end| end <= number);
        let first = if document == 0 { 0 } else { self.ends[document - 1] };
        let (index, count) = (number - first, self.ends[document] - first);
        let inputs = source.document(document).ids.len() - 1;
        let inputs = if count == 1 { inputs.min(self.sequence_length) } else { inputs };
        // The first `inputs % count` pieces are one token longer.
        let (short, longer) = (inputs / count, inputs % count);
        let start = index * short + index.min(longer);
        Piece { document, start, len: short + usize::from(index < longer) }
    }
}
