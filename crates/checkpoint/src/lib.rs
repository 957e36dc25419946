//! Model files: the checkpoint folder, Hugging Face and GGUF in and out, tensor names and row order in one place.
//!
//! [`ModelFile::open`] takes a folder or a `.gguf` file and gives configuration, tensors by state-dict name,
//! tokenizer and chat template. `docs/formats/checkpoint.md` describes both formats.

mod adapter;
mod check;
mod error;
pub mod files;
mod folder;
pub mod gguf;
pub mod hf;
mod manifest;
mod model_file;
pub mod names;
mod recode;
pub mod safetensors;
mod vocabulary;

pub use adapter::{
    ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, Merged, fill_adapter_folder, read_adapter,
    write_adapter_folder, write_adapter_gguf,
};
pub use error::CheckpointError;
pub use files::Overwrite;
pub use folder::AtomicFolder;
pub use gguf::{ExportReport, ExportTokenizer, GgufExport, GgufModel};
pub use hf::{FolderContents, HfFolder, PlainModel, RepetitionCost, fill_folder, write_folder};
pub use manifest::{MANIFEST_FILE, verify_manifest, write_manifest};
pub use model_file::{ModelFile, TokenizerSource};
pub use recode::{load_parameters, tensor_as, tensor_f32};
pub use vocabulary::{is_gguf, tokenizer_of_gguf, vocabulary_of_gguf};
