//! The GGUF container: bounds-checked mapped reading and atomic writing.
//!
//! This crate knows the file format and nothing about models: keys, values, tensor names, dimensions and bytes.
//! The format, its limits and what a reader must refuse are described in `docs/formats/gguf.md`.
//!
//! ```
//! use shakti_gguf::{GgufFile, GgufWriter, TensorType};
//!
//! let mut writer = GgufWriter::new();
//! writer.put("general.architecture", "llama")?;
//! writer.put("llama.block_count", 6u32)?;
//! writer.put_strings("tokenizer.ggml.tokens", &["a", "b"])?;
//! writer.add_tensor("output_norm.weight", &[2], TensorType::F32)?;
//! let mut data = writer.write_to(Vec::new())?;
//! data.write_tensor("output_norm.weight", &[0u8; 8])?;
//!
//! let file = GgufFile::from_bytes(data.finish()?)?;
//! assert_eq!(file.require_str("general.architecture")?, "llama");
//! assert_eq!(file.tensor("output_norm.weight").map(|t| t.byte_len()), Some(8));
//! # Ok::<(), shakti_gguf::GgufError>(())
//! ```

mod atomic;
mod cursor;
mod error;
mod file_map;
mod reader;
mod tensor_type;
mod value;
mod writer;

pub use atomic::{AtomicFile, Overwrite};
pub use error::{GgufError, GgufErrorKind, Place};
pub use file_map::FileMap;
pub use reader::{GgufFile, TensorInfo};
pub use tensor_type::TensorType;
pub use value::{Array, MAX_ARRAY_DEPTH, Value, ValueType};
pub use writer::{ArrayElement, GgufFileWriter, GgufWriter, TensorSink};

/// The four bytes every GGUF file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version this crate writes; it reads versions 2 and 3.
pub const VERSION: u32 = 3;
/// Alignment of the data section and of every tensor in it when `general.alignment` is absent, in bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Longest metadata key, in bytes.
pub const MAX_KEY_BYTES: u64 = 65_535;
/// Longest tensor name, in bytes (ggml keeps names in 64 bytes with a terminating zero).
pub const MAX_TENSOR_NAME_BYTES: u64 = 63;
/// Largest number of dimensions of a tensor.
pub const MAX_DIMS: u32 = 4;
/// Largest alignment a file may ask for, in bytes.
pub const MAX_ALIGNMENT: u64 = 65_536;
/// The key that overrides [`DEFAULT_ALIGNMENT`].
pub const ALIGNMENT_KEY: &str = "general.alignment";
