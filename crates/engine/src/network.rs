//! The numbers of a model: configuration, packed weights and the CPU that runs them; no text.

use std::sync::Arc;

use shakti_kernels::{Cpu, Precision};
use shakti_model::{
    Batch, CacheMode, Compute, Decoder, KvCache, LossSum, ModelConfig, PackedWeights, Targets, TensorSource,
};

use crate::EngineError;

/// Rows of one forward pass when many sequences are measured together.
const LOSS_ROWS: usize = 2048;

/// A decoder with its weights, ready to run.
pub struct Network {
    pub(crate) cpu: Arc<Cpu>,
    pub(crate) decoder: Decoder,
    pub(crate) weights: PackedWeights,
}

/// A sequence of ids and the part of it that counts for the loss.
#[derive(Clone, Copy, Debug)]
pub struct ScoredWindow<'a> {
    /// Token ids, seen from an empty context.
    pub ids: &'a [u32],
    /// Index of the first id whose prediction counts; at least 1, since the first id has no context.
    pub scored_from: usize,
}

impl Network {
    /// Repacks the weights of a source: a model file, a checkpoint folder, or parameters in memory.
    ///
    /// # Errors
    /// A configuration or a tensor that cannot be used.
    pub fn load(config: ModelConfig, source: &dyn TensorSource, cpu: Arc<Cpu>) -> Result<Self, EngineError> {
        let weights = PackedWeights::load(&config, source, &cpu)?;
        Ok(Self { cpu, decoder: Decoder::new(config)?, weights })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Bytes of the weights in memory.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Bytes of the weights that one step of decoding reads, however many sequences take it together.
    pub fn weight_bytes_per_step(&self) -> usize {
        self.weights.bytes_per_pass()
    }

    pub(crate) fn compute(&self) -> Compute<'_> {
        // Packed weights bring their own precision; this one is for dense weights.
        Compute { cpu: &self.cpu, precision: Precision::F32 }
    }

    /// Summed loss of each window, in nats over its scored ids.
    ///
    /// A window's result does not depend on the others.
    ///
    /// # Errors
    /// Ids outside the vocabulary.
    pub fn losses(&self, windows: &[ScoredWindow<'_>]) -> Result<Vec<LossSum>, EngineError> {
        let mut losses = Vec::with_capacity(windows.len());
        let mut rest = windows;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |window: &&ScoredWindow<'_>| {
                rows += window.ids.len();
                rows <= LOSS_ROWS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            losses.extend(self.losses_of_one_batch(&rest[..count])?);
            rest = &rest[count..];
        }
        Ok(losses)
    }

    fn losses_of_one_batch(&self, windows: &[ScoredWindow<'_>]) -> Result<Vec<LossSum>, EngineError> {
        let (compute, weights) = (self.compute(), self.weights.weights());
        // The last id of a window is only predicted, never read.
        let inputs: Vec<&[u32]> =
            windows.iter().map(|window| &window.ids[..window.ids.len().max(1) - 1]).collect();
        let mut caches: Vec<KvCache> = Vec::new();
        let (mut tokens, mut rows) = (Vec::new(), Vec::new());
        for input in inputs.iter().filter(|input| !input.is_empty()) {
            rows.push(tokens.len()..tokens.len() + input.len());
            tokens.extend_from_slice(input);
            let mode = CacheMode::Bounded { max_seq_len: input.len() };
            caches.push(KvCache::new(self.config(), mode, input.len()));
        }
        let mut borrowed: Vec<&mut KvCache> = caches.iter_mut().collect();
        let batch = Batch { tokens: &tokens, rows: &rows };
        let hidden = self.decoder.forward(compute, &weights, batch, &mut borrowed)?;
        let width = self.config().hidden_size;
        let mut losses = Vec::with_capacity(windows.len());
        let mut first_row = 0;
        for (window, input) in windows.iter().zip(&inputs) {
            if input.is_empty() {
                losses.push(LossSum::default());
                continue;
            }
            let counts = |row: usize| if row + 1 >= window.scored_from { 1.0 } else { 0.0 };
            let scored: Vec<f32> = (0..input.len()).map(counts).collect();
            let targets = Targets { targets: &window.ids[1..], weights: &scored };
            let hidden = &hidden[first_row * width..(first_row + input.len()) * width];
            losses.push(self.decoder.loss_of_hidden(compute, &weights, hidden, targets));
            first_row += input.len();
        }
        Ok(losses)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("config", self.config())
            .field("weight_bytes", &self.weight_bytes())
            .finish()
    }
}
