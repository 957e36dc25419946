//! The decoder: embedding, layers of two residual branches, final norm, output head.
//!
//! ```text
//! x = embed(tokens)
//! for each layer:  x += attention(norm(x));  x += mlp(norm(x))
//! logits = norm(x) W_head^T
//! ```
//!
//! One function runs training, evaluation and serving: a batch is flat `[N, D]` rows of one or more sequences,
//! each with its own KV cache; training (`training.rs`) uses fresh caches and keeps a tape.

use std::ops::Range;

use shakti_kernels::{Buffer, Cpu, RopeAngles, RopeFrequencies};

use crate::kv_cache::KvCache;
use crate::layers::attention::{self, Sequences};
use crate::layers::{Compute, linear, mlp, norm};
use crate::weights::Weights;
use crate::{ModelConfig, ModelError};

/// One call: the tokens of all sequences one after the other, and the rows of each.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token ids `[N]`.
    pub tokens: &'a [u32],
    /// Rows of each sequence; together they cover `0..N` in order.
    pub rows: &'a [Range<usize>],
}

/// A decoder of one configuration; weights come with each call.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: ModelConfig,
    frequencies: RopeFrequencies,
}

impl Decoder {
    /// A decoder of a valid configuration.
    ///
    /// # Errors
    /// What [`ModelConfig::validate`] finds.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        config.validate()?;
        let frequencies = RopeFrequencies::new(config.head_dim, config.rope_theta);
        Ok(Self { config, frequencies })
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Appends each sequence's tokens to its cache and returns the normalised hidden states `[N, D]`.
    ///
    /// # Errors
    /// Ids outside the vocabulary, rows that do not match, sequences that outgrow their caches; nothing is
    /// changed then.
    pub fn forward(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        caches: &mut [&mut KvCache],
    ) -> Result<Buffer, ModelError> {
        self.check(batch)?;
        if batch.rows.len() != caches.len() {
            return Err(ModelError::bad(
                "caches",
                format!("{}, one a sequence", batch.rows.len()),
                caches.len(),
            ));
        }
        for (cache, rows) in caches.iter().zip(batch.rows) {
            cache.reserve(rows.len())?;
        }
        let angles = self.angles(compute.cpu, batch.rows, caches.iter().map(|cache| cache.position()));
        let sequences = self.sequences(batch.rows, &angles);
        let mut x = self.embed(compute, weights, batch.tokens);
        for layer in 0..weights.num_layers() {
            let layer_weights = weights.layer(layer);
            attention::forward(compute, &self.config, &layer_weights, &mut x, (&sequences, caches), layer);
            mlp::forward(compute, &self.config, &layer_weights, &mut x);
        }
        for (cache, rows) in caches.iter_mut().zip(batch.rows) {
            cache.advance(rows.len());
        }
        Ok(norm::forward(compute.cpu, &weights.norm(), &x, self.config.norm_eps).0)
    }

    /// Scores `[n, V]` of normalised hidden states `[n, D]`.
    pub fn logits(&self, compute: Compute<'_>, weights: &Weights<'_>, hidden: &[f32]) -> Buffer {
        linear::forward(compute, &weights.lm_head(), hidden, self.config.hidden_size)
    }

    /// Scores `[V]` of one normalised hidden state `[D]` of which the `top` highest are looked at. Where the head is
    /// screened the others may be [`shakti_kernels::NOT_AMONG_TOP`]; the highest are the bits of [`Decoder::logits`].
    ///
    /// # Panics
    /// If `top` is 0 or `hidden` is not one row.
    pub fn top_logits(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        hidden: &[f32],
        top: usize,
    ) -> Buffer {
        let (Some(screen), Some(head)) = (weights.head_screen(), weights.lm_head().packed()) else {
            return self.logits(compute, weights, hidden);
        };
        let mut scores = compute.cpu.buffers.take(head.rows());
        compute.cpu.matmul_packed_top(&mut scores, hidden, head, screen, top);
        scores
    }

    pub(crate) fn embed(&self, compute: Compute<'_>, weights: &Weights<'_>, tokens: &[u32]) -> Buffer {
        let mut x = compute.cpu.buffers.take(tokens.len() * self.config.hidden_size);
        weights.embed().embed(compute.cpu, &mut x, tokens);
        x
    }

    pub(crate) fn angles(
        &self,
        cpu: &Cpu,
        rows: &[Range<usize>],
        starts: impl Iterator<Item = usize>,
    ) -> RopeAngles {
        let positions = rows.iter().zip(starts).flat_map(|(rows, start)| start..start + rows.len());
        let n = rows.last().map_or(0, |rows| rows.end);
        self.frequencies.angles(&cpu.buffers, n, positions.map(|position| position as i64))
    }

    pub(crate) fn sequences<'a>(&'a self, rows: &'a [Range<usize>], angles: &'a RopeAngles) -> Sequences<'a> {
        Sequences { rows, angles, frequencies: &self.frequencies }
    }

    pub(crate) fn check(&self, batch: Batch<'_>) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        if let Some(index) = batch.tokens.iter().position(|id| *id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id: batch.tokens[index], index, vocab_size });
        }
        let mut end = 0;
        for rows in batch.rows {
            if rows.start != end || rows.is_empty() {
                return Err(ModelError::bad(
                    "rows",
                    format!("a non-empty range from {end}"),
                    format!("{rows:?}"),
                ));
            }
            end = rows.end;
        }
        if end != batch.tokens.len() {
            return Err(ModelError::bad("rows", format!("ranges up to {}", batch.tokens.len()), end));
        }
        Ok(())
    }
}
