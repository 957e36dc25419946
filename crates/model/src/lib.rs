//! The decoder of arXiv 2503.01933 in Rust: configuration, parameters, layers forward and backward, KV cache,
//! cost. It knows no optimizer, no sampling, no files and no threads.

mod adapter;
mod config;
mod cost;
mod decoder;
mod ends;
mod error;
mod kv_cache;
mod layers;
mod loss;
mod params;
mod rng;
mod stepwise;
mod training;
mod weights;

pub use adapter::{Adapter, LORA_TARGETS, LoraConfig, MAX_RANK};
pub use config::{BlockSparse, Heads, LayerType, ModelConfig, NormType, PRESETS, ParamSpec, preset};
pub use cost::Cost;
pub use decoder::{Batch, Decoder};
pub use ends::{Direction, End, OutputGradients, Outputs, Teacher};
pub use error::ModelError;
pub use kv_cache::{CacheMode, KvCache, SINK_TOKENS};
pub use layers::Compute;
pub use layers::attention::block_sparse::visible_blocks;
pub use loss::{LayerFinished, LossSum, Targets, TrainPass};
pub use params::{Layout, Parameters};
pub use shakti_kernels::KEY_BLOCK;
pub use weights::{
    InputObserver, KeptMatrix, LinearWeight, Matrix, MatrixData, PackedWeights, TensorData, TensorSource,
    Weights,
};
