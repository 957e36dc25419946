//! Parsing of the header: every count, length, type and offset is checked before it is believed.

use std::collections::HashMap;
use std::ops::Range;

use super::TensorInfo;
use crate::cursor::Cursor;
use crate::error::{GgufError, GgufErrorKind, Place};
use crate::value::{Value, ValueType};
use crate::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_DIMS, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES,
    TensorType, VERSION,
};

/// A metadata value as kept after opening: scalars decoded, arrays as a position.
pub(super) enum Stored {
    Scalar(Value<'static>),
    String(String),
    /// `len` elements that lie in these bytes of the file.
    Array {
        element: ValueType,
        len: u64,
        range: Range<usize>,
    },
}

pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Stored,
}

pub(super) fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cursor.array()?;
    if magic != MAGIC {
        let found = format!("`{}`", magic.escape_ascii());
        return Err(
            GgufError::new(GgufErrorKind::NotGguf, Place::Header, "the magic `GGUF`", found).at_offset(0)
        );
    }
    let version = cursor.u32()?;
    let refuse = |kind, found: String| {
        Err(GgufError::new(kind, Place::Header, "little-endian version 2 or 3", found).at_offset(4))
    };
    match version {
        2 | VERSION => Ok(version),
        _ if version & 0xffff == 0 && version != 0 => {
            refuse(GgufErrorKind::BigEndian, format!("big-endian version {}", version.swap_bytes()))
        }
        _ => refuse(GgufErrorKind::UnsupportedVersion, format!("version {version}")),
    }
}

type Indexed<T> = (Vec<T>, HashMap<String, usize>);

/// Reads `count` metadata entries. Nothing is reserved for `count`: entries grow as they are found in the file.
pub(super) fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Indexed<Entry>, GgufError> {
    let (mut entries, mut index) = (Vec::new(), HashMap::new());
    for i in 0..count {
        let at = cursor.offset();
        let key = read_name(cursor, MAX_KEY_BYTES).map_err(|e| e.within(Place::Entry(i)))?;
        let place = || Place::Key(key.to_owned());
        if index.insert(key.to_owned(), entries.len()).is_some() {
            return Err(
                GgufError::new(GgufErrorKind::Duplicate, place(), "every key once", "it twice").at_offset(at)
            );
        }
        let value_type = ValueType::read(cursor).map_err(|e| e.within(place()))?;
        let value = Value::read(cursor, value_type, key, 0).map_err(|e| e.within(place()))?;
        let value = match value {
            Value::U8(v) => Stored::Scalar(Value::U8(v)),
            Value::I8(v) => Stored::Scalar(Value::I8(v)),
            Value::U16(v) => Stored::Scalar(Value::U16(v)),
            Value::I16(v) => Stored::Scalar(Value::I16(v)),
            Value::U32(v) => Stored::Scalar(Value::U32(v)),
            Value::I32(v) => Stored::Scalar(Value::I32(v)),
            Value::F32(v) => Stored::Scalar(Value::F32(v)),
            Value::Bool(v) => Stored::Scalar(Value::Bool(v)),
            Value::U64(v) => Stored::Scalar(Value::U64(v)),
            Value::I64(v) => Stored::Scalar(Value::I64(v)),
            Value::F64(v) => Stored::Scalar(Value::F64(v)),
            Value::String(v) => Stored::String(v.to_owned()),
            Value::Array(array) => {
                let end = cursor.offset() as usize;
                let range = end - array.raw_bytes().len()..end;
                Stored::Array { element: array.element_type(), len: array.len() as u64, range }
            }
        };
        entries.push(Entry { key: key.to_owned(), value });
    }
    Ok((entries, index))
}

/// Reads a key or tensor name: UTF-8, not empty, at most `limit` bytes.
fn read_name<'a>(cursor: &mut Cursor<'a>, limit: u64) -> Result<&'a str, GgufError> {
    let at = cursor.offset();
    let name = cursor.string()?;
    if name.is_empty() || name.len() as u64 > limit {
        let (expected, found) = (format!("a name of 1 to {limit} bytes"), format!("{} bytes", name.len()));
        return Err(
            GgufError::new(GgufErrorKind::LimitExceeded, Place::Header, expected, found).at_offset(at)
        );
    }
    Ok(name)
}

pub(super) fn read_alignment(metadata: &[Entry], index: &HashMap<String, usize>) -> Result<u64, GgufError> {
    let Some(&i) = index.get(ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    let value = match metadata[i].value {
        Stored::Scalar(value) => value.as_u64(),
        _ => None,
    };
    check_alignment(value)
}

/// The alignment, if it is a power of two up to the limit.
pub(crate) fn check_alignment(value: Option<u64>) -> Result<u64, GgufError> {
    match value {
        Some(alignment) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => Ok(alignment),
        other => {
            let expected = format!("a power of two up to {MAX_ALIGNMENT}");
            let found = other.map_or("no integer".to_owned(), |v| v.to_string());
            let place = Place::Key(ALIGNMENT_KEY.to_owned());
            Err(GgufError::new(GgufErrorKind::InvalidValue, place, expected, found))
        }
    }
}

pub(super) fn read_tensor_infos(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
) -> Result<Indexed<TensorInfo>, GgufError> {
    let (mut tensors, mut index) = (Vec::new(), HashMap::new());
    for i in 0..count {
        let at = cursor.offset();
        let name = read_name(cursor, MAX_TENSOR_NAME_BYTES).map_err(|e| e.within(Place::TensorIndex(i)))?;
        let place = || Place::Tensor(name.to_owned());
        if index.insert(name.to_owned(), tensors.len()).is_some() {
            return Err(GgufError::new(GgufErrorKind::Duplicate, place(), "every tensor once", "it twice")
                .at_offset(at));
        }
        let tensor =
            read_tensor_info(cursor, name, alignment).map_err(|e| e.within(place()).at_offset(at))?;
        tensors.push(tensor);
    }
    Ok((tensors, index))
}

fn read_tensor_info(cursor: &mut Cursor<'_>, name: &str, alignment: u64) -> Result<TensorInfo, GgufError> {
    let error = |kind, expected: String, found: String| GgufError::new(kind, Place::Header, expected, found);
    let num_dims = cursor.u32()?;
    if num_dims > MAX_DIMS {
        let expected = format!("at most {MAX_DIMS} dimensions");
        return Err(error(GgufErrorKind::LimitExceeded, expected, num_dims.to_string()));
    }
    let dims = (0..num_dims).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
    let type_id = cursor.u32()?;
    let Some(tensor_type) = TensorType::from_id(type_id) else {
        let expected = "a ggml type that exists".to_owned();
        return Err(error(GgufErrorKind::UnknownType, expected, format!("type {type_id}")));
    };
    let offset = cursor.u64()?;
    if !offset.is_multiple_of(alignment) {
        let expected = format!("an offset that is a multiple of {alignment}");
        return Err(error(GgufErrorKind::InvalidValue, expected, offset.to_string()));
    }
    let byte_len = tensor_bytes(&dims, tensor_type)?;
    Ok(TensorInfo { name: name.to_owned(), dims, tensor_type, offset, byte_len })
}

/// Bytes of a tensor of these dimensions (ggml's order), every product checked.
pub(crate) fn tensor_bytes(dims: &[u64], tensor_type: TensorType) -> Result<u64, GgufError> {
    let error = |kind, expected: String| {
        GgufError::new(kind, Place::Header, expected, format!("dimensions {dims:?} of {tensor_type}"))
    };
    if dims.contains(&0) {
        return Err(error(GgufErrorKind::InvalidValue, "dimensions above 0".to_owned()));
    }
    let row = dims.first().copied().unwrap_or(1);
    if !row.is_multiple_of(tensor_type.block_len()) {
        let expected = format!("rows of whole blocks of {}", tensor_type.block_len());
        return Err(error(GgufErrorKind::InvalidValue, expected));
    }
    // The number of elements must fit too, so that callers can multiply dimensions without checks.
    let rows = dims.iter().skip(1).try_fold(1u64, |product, &dim| product.checked_mul(dim));
    rows.filter(|rows| rows.checked_mul(row).is_some_and(|n| n <= i64::MAX as u64))
        .and_then(|rows| tensor_type.row_bytes(row)?.checked_mul(rows))
        .ok_or_else(|| error(GgufErrorKind::Overflow, "a size below 2^63".to_owned()))
}

/// Checks that every tensor lies inside the `available` bytes of data and that no two share a byte.
pub(super) fn check_data(tensors: &[TensorInfo], available: u64) -> Result<(), GgufError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    let mut previous: Option<&TensorInfo> = None;
    for tensor in order {
        let place = || Place::Tensor(tensor.name.clone());
        let end = tensor.offset.checked_add(tensor.byte_len);
        if end.is_none_or(|end| end > available) {
            let expected = format!("{} bytes at data offset {}", tensor.byte_len, tensor.offset);
            let found = format!("{available} bytes of data");
            return Err(GgufError::new(GgufErrorKind::Truncated, place(), expected, found));
        }
        if let Some(before) = previous.filter(|p| p.offset + p.byte_len > tensor.offset) {
            let (expected, found) =
                ("data of its own".to_owned(), format!("bytes of `{}`", before.name.escape_debug()));
            return Err(GgufError::new(GgufErrorKind::Overlap, place(), expected, found));
        }
        previous = Some(tensor);
    }
    Ok(())
}
