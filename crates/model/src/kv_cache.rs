//! Keys and values of one sequence: full, ring (sliding window), or endless streaming with attention sinks.
//!
//! Positions are grouped in blocks of 64; a layer stores each block in one slot of `[Hd, 64]` keys (transposed)
//! and `[64, Hd]` values per KV head. A ring layer reuses slot `block mod num_slots`, so a block never wraps.
//!
//! The memory of a layer may be shared by sequences with a common beginning ([`KvCache::fork`]); the one that writes first
//! takes a copy of the blocks in use.
//!
//! Streaming (arXiv 2309.17453): rows see 4 sink tokens plus the last `window` tokens, with positions counted
//! inside what is kept. Rotary attention depends only on distances, so instead of re-indexing the whole window
//! the four sinks alone are rotated to the position just before the window, into one extra slot.

use std::sync::Arc;

use shakti_kernels::{Buffers, Cpu, KEY_BLOCK, KvBlocks, KvType, KvView, RopeFrequencies};

use crate::layers::attention::Planner;
use crate::{LayerType, ModelConfig, ModelError};

/// Tokens at the start of a stream that stay visible for ever.
pub const SINK_TOKENS: usize = 4;

/// How long a sequence may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// At most `max_seq_len` tokens; more is an error.
    Bounded {
        /// Tokens that fit.
        max_seq_len: usize,
    },
    /// Endless: dense layers keep the last `window` tokens, every layer keeps the sinks.
    Streaming {
        /// Tokens that dense layers keep, besides the sinks.
        window: usize,
    },
}

/// One layer's storage.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache {
    /// Shared until written.
    blocks: Arc<KvBlocks>,
    /// Visible keys, the current one included; `None` sees all.
    pub(crate) window: Option<usize>,
    sinks: Option<Sinks>,
}

/// Unrotated keys of the first tokens `[SINK_TOKENS, K, Hd]` and their values.
#[derive(Clone, Debug)]
struct Sinks {
    k: Vec<f32>,
    v: Vec<f32>,
}

/// Keys and values of one sequence in all layers.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// The layer that `layers` begins with.
    first_layer: usize,
    mode: CacheMode,
    position: usize,
    /// Furthest position reached since the cache was empty: what its tokens overwrote is gone.
    furthest: usize,
    max_chunk: usize,
    head_dim: usize,
    /// Memory to work in, kept from token to token.
    pub(crate) planner: Planner,
    slots: Vec<u32>,
}

impl KvCache {
    /// An empty cache of 32-bit floats for calls of at most `max_chunk` tokens.
    pub fn new(config: &ModelConfig, mode: CacheMode, max_chunk: usize) -> Self {
        Self::with_type(config, KvType::F32, mode, max_chunk)
    }

    /// An empty cache of numbers of another type.
    pub fn with_type(config: &ModelConfig, kind: KvType, mode: CacheMode, max_chunk: usize) -> Self {
        let layers =
            (0..config.num_hidden_layers).map(|index| LayerCache::new(config, index, kind, mode, max_chunk));
        Self {
            layers: layers.collect(),
            first_layer: 0,
            mode,
            position: 0,
            furthest: 0,
            max_chunk,
            head_dim: config.head_dim,
            planner: Planner::default(),
            slots: Vec::new(),
        }
    }

    /// An empty cache of layer `layer` alone for one call with `len` tokens, in memory that `buffers` lend.
    pub(crate) fn of_layer(config: &ModelConfig, layer: usize, len: usize, buffers: &Buffers) -> Self {
        let blocks = KvBlocks::lent(buffers, len, config.num_kv_heads[layer], config.head_dim);
        let window =
            (config.layer_types[layer] == LayerType::SlidingAttention).then_some(config.sliding_window);
        Self {
            layers: vec![LayerCache { blocks: Arc::new(blocks), window, sinks: None }],
            first_layer: layer,
            mode: CacheMode::Bounded { max_seq_len: len },
            position: 0,
            furthest: 0,
            max_chunk: len,
            head_dim: config.head_dim,
            planner: Planner::default(),
            slots: Vec::new(),
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer - self.first_layer]
    }

    /// A second sequence with the same tokens so far. Both go on with the same memory until one of them writes: that one
    /// takes a copy of the blocks in use, layer by layer, and no more; the last of them needs none.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { layers: self.layers.clone(), planner: Planner::default(), slots: Vec::new(), ..*self }
    }

    /// Tokens seen so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Most tokens that one call may add at the present position.
    pub fn next_chunk(&self) -> usize {
        match self.mode {
            CacheMode::Bounded { max_seq_len } => self.max_chunk.min(max_seq_len - self.position),
            CacheMode::Streaming { .. }
                if self.layers.iter().all(|layer| layer.is_plain_at(self.position)) =>
            {
                // Up to the row at which the first sink leaves a window, rows need no rotated sinks.
                let plain = self.layers.iter().filter_map(|layer| layer.window).min().unwrap_or(usize::MAX);
                self.max_chunk.min(plain - self.position)
            }
            CacheMode::Streaming { .. } => 1,
        }
    }

    /// Forgets every token; keeps the memory.
    pub fn clear(&mut self) {
        self.position = 0;
        self.furthest = 0;
    }

    /// Forgets the tokens from `position` on, so that another continuation can follow.
    ///
    /// # Errors
    /// A ring that has overwritten earlier tokens cannot go back.
    pub fn truncate(&mut self, position: usize) -> Result<(), ModelError> {
        let earliest =
            self.layers.iter().map(|layer| layer.earliest_return(self.furthest)).max().unwrap_or(0);
        if position > self.position || (position < earliest && position != 0) {
            return Err(ModelError::bad(
                "cache position",
                format!("{earliest} to {}", self.position),
                position,
            ));
        }
        if position == 0 {
            self.clear();
        }
        self.position = position;
        Ok(())
    }

    /// Bytes held; those shared with forks count in each.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.blocks.bytes()).sum()
    }

    /// Checks that `len` more tokens fit.
    pub(crate) fn reserve(&self, len: usize) -> Result<(), ModelError> {
        if let CacheMode::Bounded { max_seq_len } = self.mode
            && self.position + len > max_seq_len
        {
            return Err(ModelError::ContextFull { needed: self.position + len, max_seq_len });
        }
        if len > self.next_chunk() {
            return Err(ModelError::bad("tokens in one call", format!("at most {}", self.next_chunk()), len));
        }
        Ok(())
    }

    pub(crate) fn advance(&mut self, len: usize) {
        self.position += len;
        self.furthest = self.furthest.max(self.position);
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.mode, CacheMode::Streaming { .. })
    }

    /// Stores rotated keys and values `[n, K, Hd]` of the next `n` positions in a layer.
    pub(crate) fn store(&mut self, cpu: &Cpu, layer: usize, k: &[f32], v: &[f32]) {
        let layer = &mut self.layers[layer - self.first_layer];
        let rows = k.len() / (layer.blocks.num_kv_heads() * self.head_dim);
        self.slots.clear();
        self.slots.extend((self.position..self.position + rows).map(|position| {
            (layer.slot_of_block(position / KEY_BLOCK) * KEY_BLOCK + position % KEY_BLOCK) as u32
        }));
        cpu.kv_store(layer.blocks_mut(self.position), k, v, &self.slots);
    }

    /// Keeps unrotated keys and values of the first tokens, if this call holds any of them.
    pub(crate) fn store_sinks(&mut self, layer: usize, k: &[f32], v: &[f32]) {
        let position = self.position;
        let Some(sinks) = self.layers[layer - self.first_layer].sinks.as_mut() else { return };
        if position < SINK_TOKENS {
            let row = sinks.k.len() / SINK_TOKENS;
            let len = k.len().min((SINK_TOKENS - position) * row);
            sinks.k[position * row..position * row + len].copy_from_slice(&k[..len]);
            sinks.v[position * row..position * row + len].copy_from_slice(&v[..len]);
        }
    }

    /// Rotates the sinks for the row at the present position into the layer's sink slot.
    pub(crate) fn place_sinks(&mut self, cpu: &Cpu, layer: usize, frequencies: &RopeFrequencies) {
        let (position, head_dim) = (self.position, self.head_dim);
        let layer = &mut self.layers[layer - self.first_layer];
        let (Some(sinks), Some(window)) = (layer.sinks.as_ref(), layer.window) else { return };
        let shift = (position + 1).saturating_sub(window + SINK_TOKENS) as i64;
        let positions = (0..SINK_TOKENS as i64).map(|sink| sink + shift);
        let angles = frequencies.angles(&cpu.buffers, SINK_TOKENS, positions);
        let num_kv_heads = sinks.k.len() / (SINK_TOKENS * head_dim);
        let (mut k, v) = (cpu.buffers.copy(&sinks.k), cpu.buffers.copy(&sinks.v));
        cpu.rope(&mut k, num_kv_heads, &angles, false);
        let first = layer.sink_slot() * KEY_BLOCK;
        let slots: [u32; SINK_TOKENS] = std::array::from_fn(|sink| (first + sink) as u32);
        cpu.kv_store(layer.blocks_mut(position), &k, &v, &slots);
    }
}

impl LayerCache {
    fn new(config: &ModelConfig, index: usize, kind: KvType, mode: CacheMode, max_chunk: usize) -> Self {
        let streaming = matches!(mode, CacheMode::Streaming { .. });
        let window = match (config.layer_types[index], mode) {
            (LayerType::SlidingAttention, CacheMode::Bounded { .. }) => Some(config.sliding_window),
            (_, CacheMode::Bounded { .. }) => None,
            (LayerType::SlidingAttention, CacheMode::Streaming { window }) => {
                Some(config.sliding_window.min(window))
            }
            (LayerType::FullAttention, CacheMode::Streaming { window }) => Some(window),
            (LayerType::BlockSparseAttention, CacheMode::Streaming { window }) => {
                Some(window.min(config.block_sparse.reach()))
            }
        };
        let bounded = match mode {
            CacheMode::Bounded { max_seq_len } => max_seq_len.div_ceil(KEY_BLOCK),
            CacheMode::Streaming { .. } => usize::MAX,
        };
        // A window that starts inside a block and a chunk that ends inside one touch one block more each.
        let ring = window.map_or(usize::MAX, |window| (window + max_chunk).div_ceil(KEY_BLOCK) + 1);
        let num_slots = bounded.min(ring) + usize::from(streaming);
        let row = config.num_kv_heads[index] * config.head_dim;
        let sinks =
            streaming.then(|| Sinks { k: vec![0.0; SINK_TOKENS * row], v: vec![0.0; SINK_TOKENS * row] });
        let blocks = KvBlocks::new(kind, num_slots, config.num_kv_heads[index], config.head_dim);
        Self { blocks: Arc::new(blocks), window, sinks }
    }

    /// The blocks to write to, from now on of this sequence alone, which holds `position` tokens.
    fn blocks_mut(&mut self, position: usize) -> &mut KvBlocks {
        let used = position.div_ceil(KEY_BLOCK).min(self.capacity() / KEY_BLOCK);
        if Arc::get_mut(&mut self.blocks).is_none() {
            self.blocks = Arc::new(self.blocks.copy_of(used));
        }
        Arc::get_mut(&mut self.blocks).expect("no other sequence has it")
    }

    /// Positions that fit before a slot is reused.
    fn capacity(&self) -> usize {
        (self.blocks.num_blocks() - usize::from(self.sinks.is_some())) * KEY_BLOCK
    }

    /// First position whose row would still see all its keys after rows up to `furthest` were stored.
    fn earliest_return(&self, furthest: usize) -> usize {
        let (blocks, stored) = (self.capacity() / KEY_BLOCK, furthest.div_ceil(KEY_BLOCK));
        match self.window {
            Some(window) if stored > blocks => KEY_BLOCK * (stored - blocks) + window - 1,
            _ => 0,
        }
    }

    /// Slot of a block of 64 positions.
    pub(crate) fn slot_of_block(&self, block: usize) -> usize {
        block % (self.capacity() / KEY_BLOCK)
    }

    /// Slot that holds the rotated sinks.
    pub(crate) fn sink_slot(&self) -> usize {
        self.blocks.num_blocks() - 1
    }

    /// Whether the row at `position` sees all its keys without rotated sinks.
    fn is_plain_at(&self, position: usize) -> bool {
        self.window.is_none_or(|window| position < window)
    }

    pub(crate) fn view(&self, first_row: usize) -> KvView<'_> {
        KvView { blocks: &self.blocks, first_row }
    }
}
