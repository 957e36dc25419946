//! Bounds-checked reading of little-endian fields from bytes that nobody vouches for.

use crate::error::{GgufError, GgufErrorKind, Place};

/// A position in `bytes` that never moves behind their end.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes already read.
    pub(crate) fn offset(&self) -> u64 {
        self.at as u64
    }

    /// Bytes that are left.
    pub(crate) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `len` bytes, or an error that allocates nothing of what was asked for.
    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(taken) = taken else { return Err(self.truncated(len)) };
        self.at += taken.len();
        Ok(taken)
    }

    #[cold]
    fn truncated(&self, len: u64) -> GgufError {
        let (expected, found) = (format!("{len} more bytes"), format!("{} before the end", self.remaining()));
        GgufError::new(GgufErrorKind::Truncated, Place::Header, expected, found).at_offset(self.offset())
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length-prefixed byte string.
    #[inline]
    pub(crate) fn string_bytes(&mut self) -> Result<&'a [u8], GgufError> {
        let len = self.u64()?;
        self.take(len)
    }

    /// A length-prefixed UTF-8 string.
    pub(crate) fn string(&mut self) -> Result<&'a str, GgufError> {
        let at = self.offset();
        let bytes = self.string_bytes()?;
        std::str::from_utf8(bytes).map_err(|e| {
            let found = format!("a wrong byte at index {} of {}", e.valid_up_to(), bytes.len());
            GgufError::new(GgufErrorKind::InvalidValue, Place::Header, "UTF-8 text", found).at_offset(at)
        })
    }
}
