//! GGUF model files: the metadata keys of the architectures "llama" and "deci", and our own beside them.
//!
//! What other engines cannot express (windows, block patterns, LayerNorm) stands under keys that begin with
//! `shakti.`; `docs/formats/checkpoint.md` lists all keys.

use shakti_kernels::blocks::DType;

mod config;
mod export;
mod import;
mod vocabulary;

pub use export::{ExportReport, GgufExport};
pub use import::GgufModel;
pub use vocabulary::ExportTokenizer;

/// Layer patterns, one string a layer; absent means dense attention everywhere.
pub(crate) const LAYER_TYPES_KEY: &str = "shakti.attention.layer_types";
/// Keys visible in sliding layers, the current one included, in tokens.
pub(crate) const SLIDING_WINDOW_KEY: &str = "shakti.attention.sliding_window";
/// The ids that end a generation, where the `tokenizer.` keys do not say exactly these.
pub(crate) const EOS_TOKEN_IDS_KEY: &str = "shakti.eos_token_ids";
/// `rms_norm` (also when absent) or `layer_norm`.
pub(crate) const NORM_TYPE_KEY: &str = "shakti.norm_type";
/// Block-sparse attention: tokens of a block.
pub(crate) const BLOCK_SIZE_KEY: &str = "shakti.block_sparse.block_size";
/// Block-sparse attention: leading blocks that every query sees.
pub(crate) const GLOBAL_BLOCKS_KEY: &str = "shakti.block_sparse.global_blocks";
/// Block-sparse attention: earlier neighbours that a query block sees.
pub(crate) const LOCAL_BLOCKS_KEY: &str = "shakti.block_sparse.local_blocks";
/// Block-sparse attention: earlier blocks drawn at random.
pub(crate) const RANDOM_BLOCKS_KEY: &str = "shakti.block_sparse.random_blocks";
/// Block-sparse attention: seed of the drawing.
pub(crate) const SEED_KEY: &str = "shakti.block_sparse.seed";

/// The ggml type of a format of ours.
pub(crate) fn tensor_type(dtype: DType) -> Option<shakti_gguf::TensorType> {
    shakti_gguf::TensorType::from_id(dtype.ggml_id())
}
