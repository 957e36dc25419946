//! Writing safetensors files: the header first, then one tensor after the other, atomically.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::CheckpointError;
use crate::files::{AtomicFile, Overwrite};

/// A tensor that is about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name in the file.
    pub name: String,
    /// `F32`, `F16` or `BF16`.
    pub dtype: &'static str,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Bytes of the whole tensor.
    pub byte_len: usize,
}

/// Writes `tensors` in this order; `bytes` is asked for each in turn, so only one lies in memory.
///
/// The same tensors give the same file.
///
/// # Errors
/// What `bytes` reports, a tensor with another size than planned, or the system's refusal; nothing is left behind.
pub fn write_safetensors<'a>(
    path: &Path,
    overwrite: Overwrite,
    tensors: &[PlannedTensor],
    mut bytes: impl FnMut(&PlannedTensor) -> Result<Cow<'a, [u8]>, CheckpointError>,
) -> Result<(), CheckpointError> {
    let failed = |e| CheckpointError::io(path, "write the file", e);
    let mut file = AtomicFile::create(path, overwrite).map_err(failed)?;
    let header = encode_header(tensors);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    for tensor in tensors {
        let bytes = bytes(tensor)?;
        if bytes.len() != tensor.byte_len {
            let (expected, found) = (format!("{} bytes", tensor.byte_len), format!("{} bytes", bytes.len()));
            return Err(CheckpointError::damaged(path, format!("tensor `{}`", tensor.name), expected, found));
        }
        file.write_all(&bytes).map_err(failed)?;
    }
    file.commit().map_err(failed)
}

/// The JSON header, padded with spaces so that the data begins at a multiple of 8 bytes.
fn encode_header(tensors: &[PlannedTensor]) -> String {
    // Transformers refuses files that do not say which framework's conventions they follow.
    let mut header = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut start = 0;
    for PlannedTensor { name, dtype, shape, byte_len } in tensors {
        let end = start + byte_len;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        header.push_str(&format!(",{}:{entry}", json!(name)));
        start = end;
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    header
}
