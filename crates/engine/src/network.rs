//! The numbers of a model: configuration, packed weights and the CPU that runs them; no text.

use std::sync::Arc;

use shakti_kernels::blocks::DType;
use shakti_kernels::{Buffer, Cpu, KvType, Precision};
use shakti_model::{
    Adapter, Batch, CacheMode, Compute, Decoder, KvCache, LossSum, ModelConfig, PackedWeights, Targets,
    TensorSource, Weights,
};

use crate::EngineError;

pub(crate) mod divergence;
mod recast;

/// Rows of one forward pass when many sequences are measured together.
const LOSS_ROWS: usize = 2048;

/// A decoder with its weights, ready to run.
pub struct Network {
    pub(crate) cpu: Arc<Cpu>,
    pub(crate) decoder: Decoder,
    weights: PackedWeights,
    adapter: Option<Adapter>,
    kv_type: KvType,
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
    /// A configuration or a tensor that cannot be used; a reward model.
    pub fn load(config: ModelConfig, source: &dyn TensorSource, cpu: Arc<Cpu>) -> Result<Self, EngineError> {
        let config = config.language()?;
        let weights = PackedWeights::load(&config, source, &cpu)?;
        Self::of(config, weights, cpu)
    }

    /// [`Network::load`] without repacking: less work for a few tokens, more for many. The source stays open.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_as_stored(
        config: ModelConfig,
        source: &Arc<dyn TensorSource + Send + Sync>,
        cpu: Arc<Cpu>,
    ) -> Result<Self, EngineError> {
        let config = config.language()?;
        let weights = PackedWeights::load_as_stored(&config, source, &cpu)?;
        Self::of(config, weights, cpu)
    }

    /// [`Network::load`] with every matrix in another type, e.g. f32 parameters as bf16, which are half the bytes to read. Each
    /// product is in f32 with float types, in integers with blocks; a row that is no whole number of blocks takes the
    /// next larger type. Vectors stay as they are.
    ///
    /// # Errors
    /// As [`Network::load`]; values that blocks cannot hold.
    pub fn load_as(
        config: ModelConfig,
        source: &dyn TensorSource,
        dtype: DType,
        cpu: Arc<Cpu>,
    ) -> Result<Self, EngineError> {
        let config = config.language()?;
        let source = recast::Recast { source, dtype, cpu: &cpu };
        let weights = PackedWeights::load(&config, &source, &cpu)?;
        Self::of(config, weights, cpu)
    }

    fn of(config: ModelConfig, weights: PackedWeights, cpu: Arc<Cpu>) -> Result<Self, EngineError> {
        let (decoder, kv_type) = (Decoder::new(config)?, KvType::default());
        Ok(Self { cpu, decoder, weights, adapter: None, kv_type })
    }

    /// The same network with an adapter, which must have been made for this configuration.
    #[must_use]
    pub fn with_adapter(mut self, mut adapter: Adapter) -> Self {
        adapter.refresh(&self.cpu, &self.weights.weights());
        self.adapter = Some(adapter);
        self
    }

    /// The weights of a forward pass.
    pub(crate) fn weights(&self) -> Weights<'_> {
        let weights = self.weights.weights();
        self.adapter.as_ref().map_or(weights, |adapter| weights.adapted(adapter))
    }

    /// The same network with keys and values stored as `kv_type`, in sessions as in measurements.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }

    /// The same network with a 4-bit copy of its output head, which spares most of the head's bytes where only the
    /// highest scores are looked at (greedy or top-k choice of one sequence's token); the choice stays the same.
    ///
    /// # Errors
    /// Memory is short.
    pub fn with_head_screen(mut self) -> Result<Self, EngineError> {
        self.weights.screen_head(&self.cpu)?;
        Ok(self)
    }

    /// Bytes of the head's copy, and the share of the head that was read since; `None` without a copy.
    pub fn head_screen(&self) -> Option<(usize, f64)> {
        self.weights.head_screen().map(|screen| (screen.num_bytes(), screen.share_read()))
    }

    /// What keys and values are stored as.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Bytes of the weights in memory, without an adapter's.
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
        for batch in batches(windows, |window| window.ids.len()) {
            losses.extend(self.losses_of_one_batch(batch)?);
        }
        Ok(losses)
    }

    /// Ids and log-probabilities `[rows, k]` of the `k` likeliest next tokens after each row that has weight, likeliest first:
    /// what a teacher says.
    ///
    /// # Errors
    /// Ids outside the vocabulary, rows that do not fit, more tokens than the vocabulary has.
    pub fn likeliest(
        &self,
        pair: (Batch<'_>, Targets<'_>),
        k: usize,
    ) -> Result<(Vec<u32>, Vec<f32>), EngineError> {
        Ok(self.decoder.likeliest(self.compute(), &self.weights(), pair, k)?)
    }

    fn losses_of_one_batch(&self, windows: &[ScoredWindow<'_>]) -> Result<Vec<LossSum>, EngineError> {
        let (compute, weights) = (self.compute(), self.weights());
        let inputs: Vec<&[u32]> = windows.iter().map(ScoredWindow::input).collect();
        let hidden = self.hidden(&weights, &inputs)?;
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

    /// Normalised hidden states of sequences `[N, D]`, each from an empty context; empty ones have no rows.
    fn hidden(&self, weights: &Weights<'_>, inputs: &[&[u32]]) -> Result<Buffer, EngineError> {
        let mut caches: Vec<KvCache> = Vec::new();
        let (mut tokens, mut rows) = (Vec::new(), Vec::new());
        for input in inputs.iter().filter(|input| !input.is_empty()) {
            rows.push(tokens.len()..tokens.len() + input.len());
            tokens.extend_from_slice(input);
            let mode = CacheMode::Bounded { max_seq_len: input.len() };
            caches.push(KvCache::with_type(self.config(), self.kv_type, mode, input.len()));
        }
        let mut borrowed: Vec<&mut KvCache> = caches.iter_mut().collect();
        let batch = Batch { tokens: &tokens, rows: &rows };
        Ok(self.decoder.forward(self.compute(), weights, batch, &mut borrowed)?)
    }
}

/// Consecutive items of together at most [`LOSS_ROWS`] rows, or a single longer one.
fn batches<T>(mut rest: &[T], rows: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |item: &&T| {
            sum += rows(item);
            sum <= LOSS_ROWS
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (count > 0).then_some(batch)
    })
}

impl ScoredWindow<'_> {
    /// What is read: the last id is only predicted.
    fn input(&self) -> &[u32] {
        &self.ids[..self.ids.len().max(1) - 1]
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
