//! Reading: the header is checked once when a file is opened, values and tensors are then slices of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::TensorType;
use crate::cursor::Cursor;
use crate::error::{GgufError, GgufErrorKind, Place};
use crate::file_map::FileMap;
use crate::value::{Array, Value};

mod parse;
#[cfg(test)]
mod tests;

use parse::{Entry, Stored};
pub(crate) use parse::{check_alignment, tensor_bytes};

/// What the header says about one tensor, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    name: String,
    dims: Vec<u64>,
    tensor_type: TensorType,
    offset: u64,
    byte_len: u64,
}

impl TensorInfo {
    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions in ggml's order: the first is contiguous in memory. At most [`MAX_DIMS`], none of them 0.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// The dimensions in row-major order (the last is contiguous), as safetensors and this project write shapes.
    pub fn shape(&self) -> Vec<usize> {
        // Every element takes part of a byte of the file, so each dimension fits the address space.
        self.dims.iter().rev().map(|&d| d as usize).collect()
    }

    /// The ggml type.
    pub fn tensor_type(&self) -> TensorType {
        self.tensor_type
    }

    /// First byte of the tensor, counted from the start of the data section.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the tensor.
    pub fn byte_len(&self) -> u64 {
        self.byte_len
    }
}

enum Backing {
    Map(FileMap),
    Memory(Vec<u8>),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// An open GGUF file, mapped or in memory, whose header has been checked completely.
pub struct GgufFile {
    backing: Backing,
    path: Option<PathBuf>,
    version: u32,
    alignment: u64,
    data_start: u64,
    metadata: Vec<Entry>,
    key_index: HashMap<String, usize>,
    tensors: Vec<TensorInfo>,
    tensor_index: HashMap<String, usize>,
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufFile")
            .field("path", &self.path)
            .field("version", &self.version)
            .field("keys", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl GgufFile {
    /// Maps the file at `path` and checks its header. Tensor data is not touched.
    ///
    /// The file must not be changed or shortened while it is open, see [`FileMap`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        FileMap::open(path)
            .map_err(|e| GgufError::io(e, "to map the file"))
            .and_then(|map| Self::parse(Backing::Map(map)))
            .map_err(|e| e.in_file(path))
            .map(|mut file| {
                file.path = Some(path.to_path_buf());
                file
            })
    }

    /// Reads a file that lies in memory.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, GgufError> {
        Self::parse(Backing::Memory(bytes.into()))
    }

    fn parse(backing: Backing) -> Result<Self, GgufError> {
        let bytes = backing.bytes();
        let mut cursor = Cursor::new(bytes);
        let version = parse::read_version(&mut cursor)?;
        let num_tensors = cursor.u64()?;
        let num_entries = cursor.u64()?;
        let (metadata, key_index) = parse::read_metadata(&mut cursor, num_entries)?;
        let alignment = parse::read_alignment(&metadata, &key_index)?;
        let (tensors, tensor_index) = parse::read_tensor_infos(&mut cursor, num_tensors, alignment)?;
        let data_start = cursor.offset().next_multiple_of(alignment);
        parse::check_data(&tensors, (bytes.len() as u64).saturating_sub(data_start))?;
        let path = None;
        Ok(Self { backing, path, version, alignment, data_start, metadata, key_index, tensors, tensor_index })
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The path the file was opened with.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Size of the whole file, in bytes.
    pub fn file_len(&self) -> u64 {
        self.backing.bytes().len() as u64
    }

    /// All keys with their values, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.metadata.iter().map(|entry| (entry.key.as_str(), self.decode(entry)))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.key_index.get(key).map(|&i| self.decode(&self.metadata[i]))
    }

    fn decode<'a>(&'a self, entry: &'a Entry) -> Value<'a> {
        match &entry.value {
            Stored::Scalar(value) => *value,
            Stored::String(text) => Value::String(text),
            Stored::Array { element, len, range } => {
                let bytes = &self.backing.bytes()[range.clone()];
                Value::Array(Array::from_parts(&entry.key, *element, *len, bytes))
            }
        }
    }

    /// The value of `key` as `T`; `None` if it is absent, an error if it has another type.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(&value).map(Some).ok_or_else(|| {
            let found = match value {
                Value::Array(array) => format!("an array of {} {:?}", array.len(), array.element_type()),
                Value::String(_) => "a string".to_owned(),
                other => format!("{other:?}"),
            };
            let error = GgufError::new(GgufErrorKind::WrongType, Place::Key(key.to_owned()), expected, found);
            self.locate(error)
        })
    }

    fn required<T>(&self, key: &str, value: Option<T>, expected: &str) -> Result<T, GgufError> {
        value.ok_or_else(|| {
            self.locate(GgufError::new(GgufErrorKind::Missing, Place::Key(key.to_owned()), expected, ""))
        })
    }

    fn locate(&self, error: GgufError) -> GgufError {
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    /// The non-negative integer (of any width) under `key`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer that is not negative", Value::as_u64)
    }

    /// The float (of either width) under `key`.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a float", Value::as_f64)
    }

    /// The truth value under `key`.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a truth value", Value::as_bool)
    }

    /// The string under `key`.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// The array under `key`.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.typed(key, "an array", Value::as_array)
    }

    /// As [`GgufFile::u64`], absence being an error.
    pub fn require_u64(&self, key: &str) -> Result<u64, GgufError> {
        self.required(key, self.u64(key)?, "an integer")
    }

    /// As [`GgufFile::f64`], absence being an error.
    pub fn require_f64(&self, key: &str) -> Result<f64, GgufError> {
        self.required(key, self.f64(key)?, "a float")
    }

    /// As [`GgufFile::str`], absence being an error.
    pub fn require_str(&self, key: &str) -> Result<&str, GgufError> {
        self.required(key, self.str(key)?, "a string")
    }

    /// As [`GgufFile::array`], absence being an error.
    pub fn require_array(&self, key: &str) -> Result<Array<'_>, GgufError> {
        self.required(key, self.array(key)?, "an array")
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_index.get(name).map(|&i| &self.tensors[i])
    }

    /// As [`GgufFile::tensor`], absence being an error.
    pub fn require_tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensor(name).ok_or_else(|| {
            let place = Place::Tensor(name.to_owned());
            self.locate(GgufError::new(GgufErrorKind::Missing, place, "this tensor", ""))
        })
    }

    /// The bytes of a tensor of this file.
    ///
    /// # Panics
    /// If `tensor` comes from another file and does not lie in this one.
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let start = (self.data_start + tensor.offset) as usize;
        &self.backing.bytes()[start..start + tensor.byte_len as usize]
    }

    /// Tells the system that the bytes of some tensors will all be read soon, see [`FileMap::will_need`].
    ///
    /// # Panics
    /// As [`tensor_bytes`](Self::tensor_bytes).
    pub fn will_need(&self, tensors: Vec<&TensorInfo>) {
        if let Backing::Map(map) = &self.backing {
            self.runs(tensors).into_iter().for_each(|run| map.will_need(&map[run]));
        }
    }

    /// Tells the system that the bytes of some tensors are not needed for now, see [`FileMap::release`]. Neighbours are
    /// released together: each call stops all threads for a moment.
    ///
    /// # Panics
    /// As [`tensor_bytes`](Self::tensor_bytes).
    pub fn release(&self, tensors: Vec<&TensorInfo>) {
        if let Backing::Map(map) = &self.backing {
            self.runs(tensors).into_iter().for_each(|run| map.release(&map[run]));
        }
    }

    /// Where tensors lie in the file, neighbours together.
    fn runs(&self, mut tensors: Vec<&TensorInfo>) -> Vec<Range<usize>> {
        tensors.sort_unstable_by_key(|tensor| tensor.offset);
        let end = |tensor: &TensorInfo| tensor.offset + tensor.byte_len;
        let touch = |a: &&TensorInfo, b: &&TensorInfo| b.offset < end(a) + self.alignment;
        let run = |run: &[&TensorInfo]| {
            let [start, end] =
                [run.first()?.offset, end(run.last()?)].map(|at| (self.data_start + at) as usize);
            Some(start..end)
        };
        tensors.chunk_by(touch).filter_map(run).collect()
    }
}
