//! Held-out loss of token ids through the engine: strided windows, perplexity, bits per byte.
//!
//! A text of up to `window` ids is seen whole. A longer one is cut into windows that move by `stride` ids: each scores
//! only the ids that no window before it scored, so every id counts once, with at least `window - stride` ids of context
//! after the first window. With `L` the summed nats, `T` the scored ids and `B` their bytes of UTF-8:
//!
//! `loss = L / T`, `perplexity = exp(loss)`, `bits per byte = L / (B ln 2)`.

use std::f64::consts::LN_2;

use serde::Serialize;
use shakti_engine::{Model, ScoredWindow};

use crate::EvalError;
use crate::interval::{Estimate, bootstrap};

/// A held-out text.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// Token ids, with the id that begins a text where the model knows one.
    pub ids: &'a [u32],
    /// Index of the first id that counts: 1 for a plain text, the start of the answer for a conversation.
    pub scored_from: usize,
}

/// How long texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowOptions {
    /// Ids seen at once.
    pub window: usize,
    /// Ids that each window after the first adds.
    pub stride: usize,
}

impl WindowOptions {
    /// Windows of the whole context of a model, moving by half.
    pub fn of(model: &Model) -> Self {
        let window = model.config().max_position_embeddings;
        Self { window, stride: (window / 2).max(1) }
    }

    fn validate(self, longest: usize) -> Result<(), EvalError> {
        let Self { window, stride } = self;
        if stride == 0 || stride >= window || window > longest {
            return Err(EvalError::Window { window, stride, longest });
        }
        Ok(())
    }

    /// Start and end of each window of `ids`, and the first index, counted in the window, that it scores.
    fn cut<'a>(self, document: &Document<'a>) -> Vec<ScoredWindow<'a>> {
        let mut windows = Vec::new();
        let mut scored = document.scored_from.max(1);
        let mut end = self.window.min(document.ids.len());
        loop {
            let start = end.saturating_sub(self.window);
            if end > scored {
                windows.push(ScoredWindow { ids: &document.ids[start..end], scored_from: scored - start });
                scored = end;
            }
            if end == document.ids.len() {
                return windows;
            }
            end = (end + self.stride).min(document.ids.len());
        }
    }
}

/// The loss of one unit of resampling: a document, or one window of a long one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct UnitLoss {
    /// Index of the document it belongs to.
    pub document: usize,
    /// Summed nats.
    pub nats: f64,
    /// Scored ids.
    pub tokens: usize,
    /// UTF-8 bytes of the scored ids; control tokens have none.
    pub bytes: usize,
}

/// Measures every document; one unit a window. Documents with nothing to score give none.
///
/// # Errors
/// Windows that do not fit the model, ids outside its vocabulary.
pub fn measure_loss(
    model: &Model,
    documents: &[Document<'_>],
    options: WindowOptions,
) -> Result<Vec<UnitLoss>, EvalError> {
    options.validate(model.config().max_position_embeddings)?;
    let cut = |(index, document)| options.cut(document).into_iter().map(move |window| (index, window));
    let (owners, windows): (Vec<usize>, Vec<ScoredWindow<'_>>) =
        documents.iter().enumerate().flat_map(cut).unzip();
    let losses = model.network().losses(&windows)?;
    let unit = |((document, window), loss): ((&usize, &ScoredWindow<'_>), &shakti_engine::LossSum)| {
        let scored = &window.ids[window.scored_from..];
        let bytes = scored.iter().filter_map(|id| model.visible_bytes(*id)).map(|bytes| bytes.len()).sum();
        UnitLoss { document: *document, nats: loss.nats, tokens: scored.len(), bytes }
    };
    Ok(owners.iter().zip(&windows).zip(&losses).map(unit).collect())
}

/// Mean `KL(reference || model)` in nats per scored id over the same windows, with its interval over them.
///
/// # Errors
/// As [`measure_loss`]; models of different vocabularies, no scored ids.
pub fn measure_divergence(
    (model, reference): (&Model, &Model),
    documents: &[Document<'_>],
    options: WindowOptions,
    seed: u64,
) -> Result<Estimate, EvalError> {
    options.validate(model.config().max_position_embeddings)?;
    let windows: Vec<ScoredWindow<'_>> =
        documents.iter().flat_map(|document| options.cut(document)).collect();
    let sums = model.network().divergences(reference.network(), &windows)?;
    let tokens = |index: usize| windows[index].ids.len() - windows[index].scored_from;
    if windows.is_empty() {
        return Err(EvalError::Empty("the texts have no token with a token before it"));
    }
    Ok(bootstrap(windows.len(), seed, |drawn| {
        let nats: f64 = drawn.iter().map(|index| sums[*index]).sum();
        nats / drawn.iter().map(|index| tokens(*index)).sum::<usize>() as f64
    }))
}

/// Loss, perplexity and bits per byte with 95% intervals over units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LossReport {
    /// Scored ids.
    pub tokens: usize,
    /// Their UTF-8 bytes.
    pub bytes: usize,
    /// Mean nats per scored id.
    pub loss: Estimate,
    /// `exp(loss)`; depends on the vocabulary.
    pub perplexity: Estimate,
    /// Nats per byte over ln 2; comparable across vocabularies.
    pub bits_per_byte: Estimate,
}

impl LossReport {
    /// Sums units up.
    ///
    /// # Errors
    /// No scored ids.
    pub fn new(units: &[UnitLoss], seed: u64) -> Result<Self, EvalError> {
        let tokens = units.iter().map(|unit| unit.tokens).sum();
        let bytes = units.iter().map(|unit| unit.bytes).sum();
        if tokens == 0 || bytes == 0 {
            return Err(EvalError::Empty("the texts have no token with a token before it"));
        }
        let ratio = |drawn: &[usize], size: &dyn Fn(&UnitLoss) -> usize| {
            let nats: f64 = drawn.iter().map(|index| units[*index].nats).sum();
            nats / drawn.iter().map(|index| size(&units[*index])).sum::<usize>() as f64
        };
        let loss = bootstrap(units.len(), seed, |drawn| ratio(drawn, &|unit| unit.tokens));
        let per_byte = bootstrap(units.len(), seed, |drawn| ratio(drawn, &|unit| unit.bytes));
        Ok(Self {
            tokens,
            bytes,
            loss,
            perplexity: loss.map(f64::exp),
            bits_per_byte: per_byte.map(|x| x / LN_2),
        })
    }
}

/// Bits per byte of `a` minus those of `b` over the same units, paired.
///
/// # Panics
/// If the two lists do not measure the same units.
pub fn loss_difference(a: &[UnitLoss], b: &[UnitLoss], seed: u64) -> Estimate {
    let same =
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.document, a.bytes) == (b.document, b.bytes));
    assert!(same, "paired measurements of the same units");
    bootstrap(a.len(), seed, |drawn| {
        let nats: f64 = drawn.iter().map(|index| a[*index].nats - b[*index].nats).sum();
        nats / (drawn.iter().map(|index| a[*index].bytes).sum::<usize>() as f64 * LN_2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(ids: &[u32], scored_from: usize, window: usize, stride: usize) -> Vec<(Vec<u32>, usize)> {
        let windows = WindowOptions { window, stride }.cut(&Document { ids, scored_from });
        windows.iter().map(|window| (window.ids.to_vec(), window.scored_from)).collect()
    }

    #[test]
    fn windows_score_every_id_but_the_first_once() {
        for (len, window, stride) in [(1usize, 4, 2), (4, 4, 2), (5, 4, 2), (11, 4, 3), (11, 4, 1), (3, 8, 4)]
        {
            let ids: Vec<u32> = (0..len as u32).collect();
            let mut seen = Vec::new();
            for (ids, from) in scored(&ids, 1, window, stride) {
                assert!(ids.len() <= window && from >= 1);
                assert!(ids[0] == 0 || from >= window - stride, "context of {ids:?} from {from}");
                seen.extend_from_slice(&ids[from..]);
            }
            assert_eq!(seen, ids[1..], "{len} ids, window {window}, stride {stride}");
        }
    }

    #[test]
    fn only_the_answer_counts_and_windows_without_it_are_left_out() {
        let ids: Vec<u32> = (0..10).collect();
        assert_eq!(scored(&ids, 8, 4, 2), [(vec![6, 7, 8, 9], 2)]);
        assert_eq!(scored(&ids, 10, 4, 2), []);
    }

    #[test]
    fn the_report_sums_before_it_divides() {
        let units = [
            UnitLoss { document: 0, nats: 3.0, tokens: 1, bytes: 2 },
            UnitLoss { document: 1, nats: 3.0, tokens: 5, bytes: 10 },
        ];
        let report = LossReport::new(&units, 0).expect("units with tokens");
        assert_eq!((report.tokens, report.bytes), (6, 12));
        assert_eq!(report.loss.value, 1.0);
        assert_eq!(report.perplexity.value, 1f64.exp());
        assert!((report.bits_per_byte.value - 0.5 / LN_2).abs() < 1e-12);
        assert!(report.loss.low >= 0.6 - 1e-12 && report.loss.high <= 3.0 + 1e-12);
    }

    #[test]
    fn nothing_scored_is_an_error() {
        assert!(matches!(LossReport::new(&[], 0), Err(EvalError::Empty(_))));
    }

    #[test]
    fn a_difference_is_paired_by_unit() {
        let unit = |document, nats| UnitLoss { document, nats, tokens: 4, bytes: 8 };
        let a = [unit(0, 9.0), unit(1, 5.0), unit(2, 1.0)];
        let b = [unit(0, 8.0), unit(1, 4.0), unit(2, 0.0)];
        let difference = loss_difference(&a, &b, 0);
        assert!((difference.value - 1.0 / 8.0 / LN_2).abs() < 1e-12);
        assert!((difference.low - difference.high).abs() < 1e-12);
    }
}
