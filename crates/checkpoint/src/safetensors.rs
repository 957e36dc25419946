//! The safetensors container: every claim of the header is checked before it is believed, and errors name the tensor.
//!
//! Layout: `u64` length of the header, a JSON object `{"NAME": {"dtype", "shape", "data_offsets"}, ...}`, then the
//! tensors' bytes without gaps. All numbers are little-endian, shapes are row-major.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use shakti_gguf::FileMap;

use crate::CheckpointError;

mod writer;

pub use writer::{PlannedTensor, write_safetensors};

/// Longest header, in bytes (the limit of the format's own library).
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of one element by the name of its type.
const DTYPES: [(&str, usize); 15] = [
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("F64", 8),
    ("I64", 8),
    ("I32", 4),
    ("I16", 2),
    ("I8", 1),
    ("U64", 8),
    ("U32", 4),
    ("U16", 2),
    ("U8", 1),
    ("BOOL", 1),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
];

/// What the header says about one tensor, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Type as the file spells it: `F32`, `BF16`, ...
    pub dtype: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    range: Range<usize>,
}

/// An open safetensors file whose header has been checked completely.
#[derive(Debug)]
pub struct SafetensorsFile {
    map: FileMap,
    path: PathBuf,
    tensors: Vec<StoredTensor>,
    index: HashMap<String, usize>,
}

impl SafetensorsFile {
    /// Maps the file and checks its header; tensor data is not touched.
    ///
    /// # Errors
    /// Names the tensor or field that is damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map = FileMap::open(path).map_err(|e| CheckpointError::io(path, "map the file", e))?;
        let tensors = parse(&map).map_err(|Fault { place, expected, found }| {
            CheckpointError::damaged(path, place, expected, found)
        })?;
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { map, path: path.to_path_buf(), tensors, index })
    }

    /// The path the file was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The bytes of a tensor of this file.
    ///
    /// # Panics
    /// If `tensor` comes from another file and does not lie in this one.
    pub fn bytes(&self, tensor: &StoredTensor) -> &[u8] {
        &self.map[tensor.range.clone()]
    }

    /// Tells the system that a tensor's bytes will be read soon, see [`FileMap::will_need`].
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub fn will_need(&self, tensor: &StoredTensor) {
        self.map.will_need(self.bytes(tensor));
    }

    /// Tells the system that a tensor's bytes are not needed for now, see [`FileMap::release`].
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub fn release(&self, tensor: &StoredTensor) {
        self.map.release(self.bytes(tensor));
    }
}

/// A damaged place of a file whose path the caller knows.
struct Fault {
    place: String,
    expected: String,
    found: String,
}

fn fault<T>(place: &str, expected: impl Into<String>, found: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { place: place.to_owned(), expected: expected.into(), found: found.into() })
}

/// One header entry as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// All tensors of a header; a name that stands in it twice is an error.
struct RawHeader(Vec<(String, RawTensor)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let (mut tensors, mut names) = (Vec::new(), std::collections::HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format!("`{name}` stands there twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<HashMap<String, String>>()?;
                        continue;
                    }
                    let tensor = map.next_value::<RawTensor>();
                    let tensor = tensor.map_err(|e| de::Error::custom(format!("tensor `{name}`: {e}")))?;
                    tensors.push((name, tensor));
                }
                Ok(RawHeader(tensors))
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<StoredTensor>, Fault> {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return fault("header length", "8 bytes", format!("a file of {} bytes", bytes.len()));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER_BYTES {
        return fault("header length", format!("at most {MAX_HEADER_BYTES} bytes"), format!("{len} bytes"));
    }
    let Some((header, data)) = rest.split_at_checked(len as usize) else {
        return fault("header", format!("{len} bytes"), format!("{} bytes before the end", rest.len()));
    };
    let RawHeader(raw) = match serde_json::from_slice(header) {
        Ok(raw) => raw,
        Err(error) => return fault("header", "a JSON description of the tensors", error.to_string()),
    };
    let mut tensors = Vec::new();
    for (name, tensor) in raw {
        tensors.push(check_tensor(name, tensor)?);
    }
    tensors.sort_by_key(|t| (t.range.start, t.range.end));
    check_coverage(&mut tensors, data.len(), bytes.len() - data.len())?;
    Ok(tensors)
}

/// Checks one entry for itself: known type, shape and size in accord. The range counts from the data's start.
fn check_tensor(name: String, raw: RawTensor) -> Result<StoredTensor, Fault> {
    let place = format!("tensor `{}`", name.escape_debug());
    let Some((_, element)) = DTYPES.iter().find(|(known, _)| *known == raw.dtype) else {
        return fault(&place, "a known element type", format!("`{}`", raw.dtype.escape_debug()));
    };
    let product = raw.shape.iter().try_fold(*element as u64, |size, &dim| size.checked_mul(dim));
    let [start, end] = raw.data_offsets;
    let size = end.checked_sub(start);
    if size.is_none() || size != product {
        let expected = match product {
            Some(product) => format!("{product} bytes for shape {:?} of {}", raw.shape, raw.dtype),
            None => "a shape whose size fits into 64 bits".to_owned(),
        };
        return fault(&place, expected, format!("shape {:?}, bytes {start} to {end}", raw.shape));
    }
    let to_usize = |value: u64| usize::try_from(value).ok();
    let shape = raw.shape.iter().map(|&d| to_usize(d)).collect::<Option<Vec<_>>>();
    match (shape, to_usize(start), to_usize(end)) {
        (Some(shape), Some(start), Some(end)) => {
            Ok(StoredTensor { name, dtype: raw.dtype, shape, range: start..end })
        }
        _ => fault(&place, "sizes this machine can address", format!("{:?}", raw.shape)),
    }
}

/// Checks that the tensors, sorted by position, fill the data without gap or overlap, and makes their ranges absolute.
fn check_coverage(tensors: &mut [StoredTensor], data_len: usize, data_start: usize) -> Result<(), Fault> {
    let mut expected_start = 0;
    for tensor in tensors {
        let place = format!("tensor `{}`", tensor.name.escape_debug());
        let Range { start, end } = tensor.range;
        if start != expected_start {
            let found = format!("bytes {start} to {end}");
            return fault(&place, format!("data that begins at byte {expected_start}"), found);
        }
        if end > data_len {
            let found = format!("a file with {data_len} bytes of data");
            return fault(&place, format!("bytes {start} to {end}"), found);
        }
        expected_start = end;
        tensor.range = data_start + start..data_start + end;
    }
    if expected_start != data_len {
        return fault("data", format!("{expected_start} bytes"), format!("{data_len} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
