//! A forward pass one layer at a time, for those who change a layer before the next one runs.

use std::ops::Range;

use shakti_kernels::Buffer;

use crate::decoder::{Batch, Decoder};
use crate::kv_cache::{CacheMode, KvCache};
use crate::layers::attention;
use crate::layers::{Compute, mlp, norm};
use crate::weights::Weights;
use crate::{ModelConfig, ModelError};

impl Decoder {
    /// The residual stream `[N, D]` before the first layer.
    ///
    /// # Errors
    /// Ids outside the vocabulary, rows that do not match.
    pub fn embed_tokens(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
    ) -> Result<Buffer, ModelError> {
        self.check(batch)?;
        Ok(self.embed(compute, weights, batch.tokens))
    }

    /// Runs one layer on the residual stream `x [N, D]` of sequences read from empty contexts, in place; `rows` are the
    /// rows of each sequence, as in [`Batch::rows`].
    ///
    /// # Panics
    /// If there is no such layer, or `rows` do not cover `x`.
    pub fn run_layer(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        layer: usize,
        (x, rows): (&mut [f32], &[Range<usize>]),
    ) {
        let config: &ModelConfig = self.config();
        let width = config.hidden_size;
        assert_eq!(rows.iter().map(ExactSizeIterator::len).sum::<usize>() * width, x.len(), "rows of x");
        let fresh = |rows: &Range<usize>| {
            KvCache::new(config, CacheMode::Bounded { max_seq_len: rows.len() }, rows.len())
        };
        let mut caches: Vec<KvCache> = rows.iter().map(fresh).collect();
        let angles = self.angles(compute.cpu, rows, std::iter::repeat(0));
        let sequences = self.sequences(rows, &angles);
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
        let layer_weights = &weights.layer(layer);
        attention::forward(compute, config, layer_weights, x, (&sequences, &mut caches), layer);
        mlp::forward(compute, config, layer_weights, x);
    }

    /// Normalised hidden states `[N, D]` of the residual stream after the last layer.
    pub fn final_norm(&self, compute: Compute<'_>, weights: &Weights<'_>, x: &[f32]) -> Buffer {
        norm::forward(compute.cpu, &weights.norm(), x, self.config().norm_eps).0
    }
}
