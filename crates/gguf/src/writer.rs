//! Writing version 3 files: first everything the header holds, then the tensors' bytes, streamed in order.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::atomic::{AtomicFile, Overwrite};
use crate::error::{GgufError, GgufErrorKind, Place};
use crate::reader::{check_alignment, tensor_bytes};
use crate::value::{Value, ValueType};
use crate::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES, TensorType,
    VERSION,
};

mod element;
#[cfg(test)]
mod tests;

pub use element::ArrayElement;

/// The header of a file to be written. The same calls in the same order give the same bytes.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    /// The metadata entries as they stand in the file.
    metadata: Vec<u8>,
    keys: HashSet<String>,
    alignment: Option<u64>,
    tensors: Vec<PlannedTensor>,
    names: HashSet<String>,
    data_len: u64,
}

#[derive(Debug, Clone)]
struct PlannedTensor {
    name: String,
    dims: Vec<u64>,
    tensor_type: TensorType,
    byte_len: u64,
}

impl GgufWriter {
    /// A file without metadata and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata entry. An array read from another file is copied as it is.
    ///
    /// # Errors
    /// If the key stands in the file already, is empty or too long, or is `general.alignment` with a bad value or
    /// after the first tensor.
    pub fn put<'a>(&mut self, key: &str, value: impl Into<Value<'a>>) -> Result<(), GgufError> {
        let value = value.into();
        if key == ALIGNMENT_KEY {
            let expected = "the alignment before the first tensor";
            if !self.tensors.is_empty() {
                let place = Place::Key(key.to_owned());
                return Err(GgufError::new(GgufErrorKind::InvalidValue, place, expected, "it after one"));
            }
            check_alignment(value.as_u64())?;
        }
        self.begin_entry(key)?;
        if key == ALIGNMENT_KEY {
            self.alignment = value.as_u64();
        }
        element::encode_value(&value, &mut self.metadata);
        Ok(())
    }

    /// Adds an array of numbers or truth values.
    ///
    /// # Errors
    /// As [`GgufWriter::put`].
    pub fn put_array<T: ArrayElement>(&mut self, key: &str, values: &[T]) -> Result<(), GgufError> {
        self.begin_array(key, T::VALUE_TYPE, values.len())?;
        for value in values {
            element::encode_scalar(&(*value).into(), &mut self.metadata);
        }
        Ok(())
    }

    /// Adds an array of strings.
    ///
    /// # Errors
    /// As [`GgufWriter::put`].
    pub fn put_strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) -> Result<(), GgufError> {
        self.begin_array(key, ValueType::String, values.len())?;
        for value in values {
            element::encode_string(value.as_ref(), &mut self.metadata);
        }
        Ok(())
    }

    fn begin_entry(&mut self, key: &str) -> Result<(), GgufError> {
        check_name(key, MAX_KEY_BYTES, Place::Key(key.to_owned()))?;
        if !self.keys.insert(key.to_owned()) {
            let place = Place::Key(key.to_owned());
            return Err(GgufError::new(GgufErrorKind::Duplicate, place, "every key once", "it twice"));
        }
        element::encode_string(key, &mut self.metadata);
        Ok(())
    }

    fn begin_array(&mut self, key: &str, element: ValueType, len: usize) -> Result<(), GgufError> {
        if key == ALIGNMENT_KEY {
            return check_alignment(None).map(|_| ());
        }
        self.begin_entry(key)?;
        element::encode_array_header(element, len, &mut self.metadata);
        Ok(())
    }

    /// Announces a tensor of `dims` in ggml's order (the first dimension is contiguous). Its bytes follow later, in
    /// the order in which tensors were announced.
    ///
    /// # Errors
    /// If the name was announced before, is empty or longer than 63 bytes, or if the dimensions are more than
    /// four, contain 0, are not whole blocks, or their product overflows.
    pub fn add_tensor(&mut self, name: &str, dims: &[u64], tensor_type: TensorType) -> Result<(), GgufError> {
        let place = Place::Tensor(name.to_owned());
        check_name(name, MAX_TENSOR_NAME_BYTES, place.clone())?;
        if dims.len() > MAX_DIMS as usize {
            let expected = format!("at most {MAX_DIMS} dimensions");
            return Err(GgufError::new(
                GgufErrorKind::LimitExceeded,
                place,
                expected,
                dims.len().to_string(),
            ));
        }
        let byte_len = tensor_bytes(dims, tensor_type).map_err(|e| e.within(place.clone()))?;
        let data_len = byte_len
            .checked_next_multiple_of(self.alignment())
            .and_then(|padded| self.data_len.checked_add(padded))
            .ok_or_else(|| {
                let found = format!("{byte_len} bytes after {}", self.data_len);
                GgufError::new(GgufErrorKind::Overflow, place.clone(), "data below 2^64 bytes", found)
            })?;
        if !self.names.insert(name.to_owned()) {
            return Err(GgufError::new(GgufErrorKind::Duplicate, place, "every tensor once", "it twice"));
        }
        self.data_len = data_len;
        self.tensors.push(PlannedTensor {
            name: name.to_owned(),
            dims: dims.to_vec(),
            tensor_type,
            byte_len,
        });
        Ok(())
    }

    fn alignment(&self) -> u64 {
        self.alignment.unwrap_or(DEFAULT_ALIGNMENT)
    }

    /// Size of the finished file, in bytes.
    pub fn file_len(&self) -> u64 {
        (self.encode_header().len() as u64).saturating_add(self.data_len)
    }

    /// Magic, version, counts, metadata, tensor descriptions and the padding before the data.
    fn encode_header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(self.metadata.len() + 128 * self.tensors.len() + 64);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.keys.len() as u64).to_le_bytes());
        header.extend(&self.metadata);
        let mut offset = 0u64;
        for tensor in &self.tensors {
            element::encode_string(&tensor.name, &mut header);
            header.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| header.extend(dim.to_le_bytes()));
            header.extend(tensor.tensor_type.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.byte_len.next_multiple_of(self.alignment());
        }
        header.resize(header.len().next_multiple_of(self.alignment() as usize), 0);
        header
    }

    /// Writes the header to `sink` and returns the place for the tensors' bytes.
    ///
    /// # Errors
    /// If `sink` fails.
    pub fn write_to<W: Write>(self, mut sink: W) -> Result<TensorSink<W>, GgufError> {
        sink.write_all(&self.encode_header()).map_err(|e| GgufError::io(e, "to write the header"))?;
        let alignment = self.alignment();
        Ok(TensorSink { sink, tensors: self.tensors, alignment, current: 0, written: 0 })
    }

    /// Writes the header to a temporary file beside `path`, which gets its name in [`GgufFileWriter::finish`].
    ///
    /// # Errors
    /// If the file cannot be written, or exists and `overwrite` is [`Overwrite::Refuse`].
    pub fn create(self, path: impl AsRef<Path>, overwrite: Overwrite) -> Result<GgufFileWriter, GgufError> {
        let path = path.as_ref().to_path_buf();
        AtomicFile::create(&path, overwrite)
            .map_err(|e| GgufError::io(e, "to create the file"))
            .and_then(|file| self.write_to(file))
            .map_err(|e| e.in_file(&path))
            .map(|sink| GgufFileWriter { sink, path: path.clone() })
    }
}

fn check_name(name: &str, limit: u64, place: Place) -> Result<(), GgufError> {
    if name.is_empty() || name.len() as u64 > limit {
        let (expected, found) = (format!("a name of 1 to {limit} bytes"), format!("{} bytes", name.len()));
        return Err(GgufError::new(GgufErrorKind::LimitExceeded, place, expected, found));
    }
    Ok(())
}

/// Takes the bytes of the announced tensors, in order, whole or in parts.
#[derive(Debug)]
pub struct TensorSink<W: Write> {
    sink: W,
    tensors: Vec<PlannedTensor>,
    alignment: u64,
    /// Index of the tensor that is being written.
    current: usize,
    /// Bytes of it that were written.
    written: u64,
}

impl<W: Write> TensorSink<W> {
    /// Writes all bytes of the next tensor, whose name must be `name`.
    ///
    /// # Errors
    /// If it is another tensor's turn, the size is not the announced one, or the sink fails.
    pub fn write_tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
        let expected = self.remaining(name)?;
        if bytes.len() as u64 != expected {
            return Err(wrong_data(name, format!("{expected} bytes"), format!("{} bytes", bytes.len())));
        }
        self.write_part(name, bytes)
    }

    /// Writes the next bytes of the tensor `name`, which ends when all announced bytes are there.
    ///
    /// # Errors
    /// If it is another tensor's turn, the bytes are more than announced, or the sink fails.
    pub fn write_part(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
        let remaining = self.remaining(name)?;
        let len = bytes.len() as u64;
        if len > remaining {
            return Err(wrong_data(name, format!("at most {remaining} more bytes"), format!("{len} bytes")));
        }
        self.sink.write_all(bytes).map_err(|e| write_failed(e, name))?;
        self.written += len;
        if len == remaining {
            let padding = self.written.next_multiple_of(self.alignment) - self.written;
            let zeros = vec![0; padding as usize];
            self.sink.write_all(&zeros).map_err(|e| write_failed(e, name))?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Bytes that are missing of `name`, which must be the tensor whose turn it is.
    fn remaining(&self, name: &str) -> Result<u64, GgufError> {
        match self.tensors.get(self.current) {
            Some(tensor) if tensor.name == name => Ok(tensor.byte_len - self.written),
            Some(tensor) => Err(wrong_data(name, format!("tensor `{}`", tensor.name), "this one".to_owned())),
            None => Err(wrong_data(name, "no further tensor".to_owned(), "this one".to_owned())),
        }
    }

    /// Ends the file and returns the sink.
    ///
    /// # Errors
    /// If a tensor is missing or incomplete, or the sink fails.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(tensor) = self.tensors.get(self.current) {
            let found = format!("{} bytes", self.written);
            return Err(wrong_data(&tensor.name, format!("{} bytes", tensor.byte_len), found));
        }
        self.sink.flush().map_err(|e| GgufError::io(e, "to write the end of the file"))?;
        Ok(self.sink)
    }
}

fn wrong_data(name: &str, expected: String, found: String) -> GgufError {
    GgufError::new(GgufErrorKind::WrongTensorData, Place::Tensor(name.to_owned()), expected, found)
}

fn write_failed(error: std::io::Error, name: &str) -> GgufError {
    GgufError::io(error, "to write its bytes").within(Place::Tensor(name.to_owned()))
}

/// A [`TensorSink`] into a file that appears under its name only when it is complete and on the disk.
#[derive(Debug)]
pub struct GgufFileWriter {
    sink: TensorSink<AtomicFile>,
    path: PathBuf,
}

impl GgufFileWriter {
    /// As [`TensorSink::write_tensor`].
    ///
    /// # Errors
    /// As there.
    pub fn write_tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
        self.sink.write_tensor(name, bytes).map_err(|e| e.in_file(&self.path))
    }

    /// As [`TensorSink::write_part`].
    ///
    /// # Errors
    /// As there.
    pub fn write_part(&mut self, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
        self.sink.write_part(name, bytes).map_err(|e| e.in_file(&self.path))
    }

    /// Flushes the file to the disk and gives it its name.
    ///
    /// # Errors
    /// If a tensor is missing, or the system fails; an older file of that name is then still whole.
    pub fn finish(self) -> Result<(), GgufError> {
        let Self { sink, path } = self;
        sink.finish()
            .and_then(|file| file.commit().map_err(|e| GgufError::io(e, "to complete the file")))
            .map_err(|e| e.in_file(&path))
    }
}
