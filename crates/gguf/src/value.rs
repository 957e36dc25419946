//! Metadata values: scalars are copied, strings borrowed, arrays left in the file and read when asked for.

use crate::cursor::Cursor;
use crate::error::{GgufError, GgufErrorKind, Place};

/// Deepest nesting of arrays this reader follows; an array of numbers or strings has depth 1.
pub const MAX_ARRAY_DEPTH: u32 = 4;

/// The type of a metadata value, with the id the file stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is")]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

const TYPES: [ValueType; 13] = [
    ValueType::U8,
    ValueType::I8,
    ValueType::U16,
    ValueType::I16,
    ValueType::U32,
    ValueType::I32,
    ValueType::F32,
    ValueType::Bool,
    ValueType::String,
    ValueType::Array,
    ValueType::U64,
    ValueType::I64,
    ValueType::F64,
];

impl ValueType {
    /// The type with this id in the file.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.get(id as usize).copied()
    }

    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one value; `None` for strings and arrays.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// Fewest bytes one value can take: the length prefix of a string, the header of an array.
    fn min_size(self) -> u64 {
        match self {
            Self::String => 8,
            Self::Array => 12,
            other => other.size().unwrap_or(1),
        }
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let at = cursor.offset();
        let id = cursor.u32()?;
        Self::from_id(id).ok_or_else(|| {
            GgufError::new(
                GgufErrorKind::UnknownType,
                Place::Header,
                "a value type from 0 to 12",
                id.to_string(),
            )
            .at_offset(at)
        })
    }
}

/// A metadata value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say all there is")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The type of this value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::I8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v),
            Self::U64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U64(v) => Some(v),
            _ => self.as_i64()?.try_into().ok(),
        }
    }

    /// A float of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::String(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        match *self {
            Self::Array(v) => Some(v),
            _ => None,
        }
    }

    /// Reads one value; of an array only the extent, after checking that all of it lies in the file.
    pub(crate) fn read(
        cursor: &mut Cursor<'a>,
        value_type: ValueType,
        key: &'a str,
        depth: u32,
    ) -> Result<Self, GgufError> {
        Ok(match value_type {
            ValueType::U8 => Self::U8(u8::from_le_bytes(cursor.array()?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(cursor.array()?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(cursor.array()?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(cursor.array()?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(cursor.array()?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(cursor.array()?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array()?)),
            ValueType::U64 => Self::U64(u64::from_le_bytes(cursor.array()?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(cursor.array()?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array()?)),
            ValueType::Bool => Self::Bool(read_bool(cursor)?),
            ValueType::String => Self::String(cursor.string()?),
            ValueType::Array => Self::Array(Array::read(cursor, key, depth + 1)?),
        })
    }
}

fn read_bool(cursor: &mut Cursor<'_>) -> Result<bool, GgufError> {
    let at = cursor.offset();
    match cursor.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(GgufError::new(
            GgufErrorKind::InvalidValue,
            Place::Header,
            "a truth value of 0 or 1",
            other.to_string(),
        )
        .at_offset(at)),
    }
}

/// An array that still lies in the file: its elements are decoded when iterated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    key: &'a str,
    element: ValueType,
    len: u64,
    depth: u32,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        // Every element takes at least one byte of `bytes`, so the count fits.
        self.len as usize
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The type of every element.
    pub fn element_type(&self) -> ValueType {
        self.element
    }

    /// An outermost array whose extent has been checked before.
    pub(crate) fn from_parts(key: &'a str, element: ValueType, len: u64, bytes: &'a [u8]) -> Self {
        Self { key, element, len, depth: 1, bytes }
    }

    /// The elements as the file stores them, without the header of the array.
    pub(crate) fn raw_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements in order. Only text that is not UTF-8, or a truth value that is neither 0 nor 1, is an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, GgufError>> + use<'a> {
        let (mut cursor, array) = (Cursor::new(self.bytes), *self);
        (0..self.len()).map(move |_| {
            Value::read(&mut cursor, array.element, array.key, array.depth).map_err(|e| array.locate(e))
        })
    }

    /// The elements of an array of strings.
    pub fn strings(&self) -> Result<impl Iterator<Item = Result<&'a str, GgufError>> + use<'a>, GgufError> {
        if self.element != ValueType::String {
            return Err(self.wrong_type("an array of strings"));
        }
        let (mut cursor, array) = (Cursor::new(self.bytes), *self);
        Ok((0..self.len()).map(move |_| cursor.string().map_err(|e| array.locate(e))))
    }

    /// The elements of an array of integers of any width.
    pub fn to_i64s(&self) -> Result<Vec<i64>, GgufError> {
        self.collect("an array of integers that fit into 64 bits with sign", |v| v.as_i64())
    }

    /// The elements of an array of integers of any width.
    pub fn to_i32s(&self) -> Result<Vec<i32>, GgufError> {
        if self.element == ValueType::I32 {
            return Ok(self.bytes.as_chunks().0.iter().map(|four| i32::from_le_bytes(*four)).collect());
        }
        let fit = |value: Value<'_>| value.as_i64().and_then(|number| i32::try_from(number).ok());
        self.collect("an array of integers that fit into 32 bits with sign", fit)
    }

    /// The elements of an array of floats of either width, rounded to `f32`.
    pub fn to_f32s(&self) -> Result<Vec<f32>, GgufError> {
        if self.element == ValueType::F32 {
            return Ok(self.bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect());
        }
        self.collect("an array of floats", |v| v.as_f64().map(|v| v as f32))
    }

    /// The elements of an array of truth values.
    pub fn to_bools(&self) -> Result<Vec<bool>, GgufError> {
        self.collect("an array of truth values", |v| v.as_bool())
    }

    fn collect<T>(
        &self,
        expected: &str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Vec<T>, GgufError> {
        self.iter().map(|value| convert(value?).ok_or_else(|| self.wrong_type(expected))).collect()
    }

    fn locate(&self, error: GgufError) -> GgufError {
        error.within(Place::Key(self.key.to_owned()))
    }

    fn wrong_type(&self, expected: &str) -> GgufError {
        let found = format!("an array of {:?}", self.element);
        GgufError::new(GgufErrorKind::WrongType, Place::Key(self.key.to_owned()), expected, found)
    }

    /// Reads the header of an array and walks over its elements, which must all lie in the file.
    fn read(cursor: &mut Cursor<'a>, key: &'a str, depth: u32) -> Result<Self, GgufError> {
        let at = cursor.offset();
        if depth > MAX_ARRAY_DEPTH {
            let expected = format!("arrays nested at most {MAX_ARRAY_DEPTH} deep");
            return Err(
                GgufError::new(GgufErrorKind::LimitExceeded, Place::Header, expected, "more").at_offset(at)
            );
        }
        let element = ValueType::read(cursor)?;
        let len = cursor.u64()?;
        if len > cursor.remaining() / element.min_size() {
            let found = format!("{len} elements of {element:?} and {} bytes", cursor.remaining());
            return Err(GgufError::new(GgufErrorKind::Truncated, Place::Header, "an array that fits", found)
                .at_offset(at));
        }
        let mut end = cursor.clone();
        match element.size() {
            // No overflow: `len * size` is at most the rest of the file.
            Some(size) => {
                end.take(len * size)?;
            }
            None if element == ValueType::String => {
                for _ in 0..len {
                    end.string_bytes()?;
                }
            }
            None => {
                for _ in 0..len {
                    Self::read(&mut end, key, depth + 1)?;
                }
            }
        }
        let bytes = cursor.take(end.offset() - cursor.offset())?;
        Ok(Self { key, element, len, depth, bytes })
    }
}
