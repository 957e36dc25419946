//! How values are laid out in a file.

use crate::value::{Value, ValueType};

/// A Rust type that can be an element of a metadata array.
pub trait ArrayElement: Copy + Into<Value<'static>> {
    /// The type of the elements in the file.
    const VALUE_TYPE: ValueType;
}

macro_rules! elements {
    ($($rust:ty => $variant:ident),*) => {$(
        impl From<$rust> for Value<'_> {
            fn from(value: $rust) -> Self {
                Value::$variant(value)
            }
        }

        impl ArrayElement for $rust {
            const VALUE_TYPE: ValueType = ValueType::$variant;
        }
    )*};
}

elements!(
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
    u64 => U64, i64 => I64, f64 => F64
);

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::String(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Value::String(value)
    }
}

pub(super) fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Type and length of an array, after the key.
pub(super) fn encode_array_header(element: ValueType, len: usize, out: &mut Vec<u8>) {
    out.extend(ValueType::Array.id().to_le_bytes());
    out.extend(element.id().to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

/// The type of a value and the value, after the key.
pub(super) fn encode_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Array(array) => {
            encode_array_header(array.element_type(), array.len(), out);
            out.extend(array.raw_bytes());
        }
        scalar => {
            out.extend(scalar.value_type().id().to_le_bytes());
            encode_scalar(scalar, out);
        }
    }
}

pub(super) fn encode_scalar(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::String(v) => encode_string(v, out),
        Value::Array(v) => out.extend(v.raw_bytes()),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}
