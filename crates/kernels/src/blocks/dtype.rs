//! The tensor formats by name: ggml's type ids, block lengths and byte sizes.

use std::fmt;
use std::str::FromStr;

use super::BlockError;

/// How the values of a tensor are stored. Rows are cut into blocks along the last (input) dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "the names by which the field knows these formats")]
#[non_exhaustive]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 32 integers of 8 bits, one scale.
    Q8_0,
    /// 32 integers of 5 bits, one scale.
    Q5_0,
    /// 32 integers of 5 bits, one scale and one minimum.
    Q5_1,
    /// 32 integers of 4 bits, one scale.
    Q4_0,
    /// 32 integers of 4 bits, one scale and one minimum.
    Q4_1,
    /// 256 integers of 6 bits, a scale per 16.
    Q6_K,
    /// 256 integers of 5 bits, a scale and a minimum per 32.
    Q5_K,
    /// 256 integers of 4 bits, a scale and a minimum per 32.
    Q4_K,
}

/// Name, ggml type id, values per block, bytes per block.
struct Facts(&'static str, u32, usize, usize);

impl DType {
    /// Every format, floats first, then by falling precision.
    pub const ALL: [DType; 11] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q6_K,
        DType::Q5_1,
        DType::Q5_K,
        DType::Q5_0,
        DType::Q4_1,
        DType::Q4_K,
        DType::Q4_0,
    ];

    const fn facts(self) -> Facts {
        match self {
            DType::F32 => Facts("f32", 0, 1, 4),
            DType::F16 => Facts("f16", 1, 1, 2),
            DType::BF16 => Facts("bf16", 30, 1, 2),
            DType::Q8_0 => Facts("q8_0", 8, 32, 34),
            DType::Q5_0 => Facts("q5_0", 6, 32, 22),
            DType::Q5_1 => Facts("q5_1", 7, 32, 24),
            DType::Q4_0 => Facts("q4_0", 2, 32, 18),
            DType::Q4_1 => Facts("q4_1", 3, 32, 20),
            DType::Q6_K => Facts("q6_k", 14, 256, 210),
            DType::Q5_K => Facts("q5_k", 13, 256, 176),
            DType::Q4_K => Facts("q4_k", 12, 256, 144),
        }
    }

    /// Lower-case name: `q4_0`, `bf16`.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }

    /// The names of all formats, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// ggml's type id, as stored in GGUF.
    pub const fn ggml_id(self) -> u32 {
        self.facts().1
    }

    /// The format of a ggml type id.
    pub fn from_ggml_id(id: u32) -> Result<Self, BlockError> {
        Self::ALL.into_iter().find(|d| d.ggml_id() == id).ok_or(BlockError::UnknownId { id })
    }

    /// Values per block (1 for floats).
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// True for the formats of integers with scales.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Mean bits per value, scales included.
    pub fn bits_per_value(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }

    /// Bytes of a row of `len` values.
    pub fn row_bytes(self, len: usize) -> Result<usize, BlockError> {
        if !len.is_multiple_of(self.block_len()) {
            return Err(BlockError::RowLength { dtype: self, len });
        }
        (len / self.block_len())
            .checked_mul(self.block_bytes())
            .ok_or(BlockError::TooLarge { rows: 1, cols: len })
    }

    /// Bytes of `rows` rows of `cols` values.
    pub fn matrix_bytes(self, rows: usize, cols: usize) -> Result<usize, BlockError> {
        self.row_bytes(cols)?.checked_mul(rows).ok_or(BlockError::TooLarge { rows, cols })
    }

    /// The format to use for rows of `len` values when this one is asked for: itself where the row is a whole number
    /// of blocks, else what llama.cpp takes (Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0), and F16 where no block fits.
    pub fn for_row_len(self, len: usize) -> DType {
        let fits = |d: DType| len.is_multiple_of(d.block_len());
        let fallback = match self {
            DType::Q4_K => DType::Q5_0,
            DType::Q5_K => DType::Q5_1,
            DType::Q6_K => DType::Q8_0,
            other => other,
        };
        [self, fallback].into_iter().find(|&d| fits(d)).unwrap_or(DType::F16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = BlockError;

    /// Reads a name in lower or upper case.
    fn from_str(name: &str) -> Result<Self, BlockError> {
        Self::ALL
            .into_iter()
            .find(|d| d.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| BlockError::UnknownName { name: name.to_owned() })
    }
}
