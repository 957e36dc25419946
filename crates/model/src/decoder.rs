//! The decoder: embedding, layers of two residual branches, final norm, output head.
//!
//! ```text
//! x = embed(tokens)
//! for each layer:  x += attention(norm(x));  x += mlp(norm(x))
//! logits = norm(x) W_head^T
//! ```
//!
//! One function runs training, evaluation and serving: a batch is flat `[N, D]` rows of one or more sequences,
//! each with its own KV cache; training uses fresh caches and keeps a tape.

use std::ops::Range;

use shakti_kernels::{Buffer, Cpu, RopeAngles, RopeFrequencies};

use crate::kv_cache::{CacheMode, KvCache};
use crate::layers::attention::{self, AttentionTape, Sequences};
use crate::layers::mlp::{self, MlpTape};
use crate::layers::norm::{self, NormStats};
use crate::layers::{Compute, Dropout, linear};
use crate::params::Gradients;
use crate::weights::Weights;
use crate::{ModelConfig, ModelError};

/// Everything the backward pass needs of one forward pass.
pub(crate) struct Tape {
    pub(crate) rows: Vec<Range<usize>>,
    angles: RopeAngles,
    caches: Vec<KvCache>,
    layers: Vec<(AttentionTape, MlpTape)>,
    x: Buffer,
    stats: NormStats,
    dropout: Option<Dropout>,
}

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
            let (layer_weights, place) = (weights.layer(layer), (layer, None, false));
            attention::forward(compute, &self.config, &layer_weights, &mut x, (&sequences, caches), place);
            mlp::forward(compute, &self.config, &layer_weights, &mut x, (layer, None), false);
        }
        for (cache, rows) in caches.iter_mut().zip(batch.rows) {
            cache.advance(rows.len());
        }
        Ok(norm::forward(compute.cpu, &weights.norm(), &x, self.config.norm_eps).0)
    }

    /// The same pass from empty caches, with dropout, kept for [`Decoder::backward`]: hidden states `[N, D]`
    /// and the tape.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub(crate) fn forward_train(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        dropout_seed: u64,
    ) -> Result<(Buffer, Tape), ModelError> {
        self.check(batch)?;
        let fresh = |rows: &Range<usize>| {
            KvCache::new(&self.config, CacheMode::Bounded { max_seq_len: rows.len() }, rows.len())
        };
        let mut caches: Vec<KvCache> = batch.rows.iter().map(fresh).collect();
        let probability = self.config.hidden_dropout;
        let dropout = (probability > 0.0).then_some(Dropout { probability, seed: dropout_seed });
        let angles = self.angles(compute.cpu, batch.rows, std::iter::repeat(0));
        let sequences = self.sequences(batch.rows, &angles);
        let mut x = self.embed(compute, weights, batch.tokens);
        let mut layers = Vec::with_capacity(weights.num_layers());
        let mut borrowed: Vec<&mut KvCache> = caches.iter_mut().collect();
        for layer in 0..weights.num_layers() {
            let (place, caches) = ((layer, dropout, true), (&sequences, borrowed.as_mut_slice()));
            let layer_weights = weights.layer(layer);
            let attention = attention::forward(compute, &self.config, &layer_weights, &mut x, caches, place);
            let mlp = mlp::forward(compute, &self.config, &layer_weights, &mut x, (layer, dropout), true);
            layers.extend(attention.zip(mlp));
        }
        let (hidden, stats) = norm::forward(compute.cpu, &weights.norm(), &x, self.config.norm_eps);
        Ok((hidden, Tape { rows: batch.rows.to_vec(), angles, caches, layers, x, stats, dropout }))
    }

    /// Adds the gradients of all that is trained but the head to `grads`, from the gradient of the hidden states
    /// `dhidden [N, D]`.
    pub(crate) fn backward(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (tape, tokens): (&Tape, &[u32]),
        dhidden: &[f32],
        grads: &mut Gradients<'_>,
    ) {
        let places = weights.places();
        let sequences = self.sequences(&tape.rows, &tape.angles);
        let mut dx = compute.cpu.buffers.zeros(dhidden.len());
        norm::backward(
            compute.cpu,
            &weights.norm(),
            places.norm,
            (&mut dx, dhidden),
            (&tape.x, &tape.stats),
            grads,
        );
        for (layer, (attention, mlp)) in tape.layers.iter().enumerate().rev() {
            let (layer_weights, layer_places) = (&weights.layer(layer), &places.layers[layer]);
            let place = (layer, tape.dropout);
            let kept = (mlp, layer, tape.dropout);
            mlp::backward(compute, &self.config, layer_weights, layer_places, &mut dx, kept, grads);
            let kept = (attention, &sequences, tape.caches.as_slice());
            attention::backward(
                compute,
                &self.config,
                (layer_weights, layer_places),
                &mut dx,
                kept,
                place,
                grads,
            );
        }
        if let Some(dtable) = grads.model(places.embed.weight) {
            compute.cpu.embedding_backward(dtable, &dx, tokens);
        }
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
