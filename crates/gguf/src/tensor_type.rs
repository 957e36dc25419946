//! The ggml tensor types: id, name, block length and block size, so that sizes can be checked and types named.

use std::fmt;

/// One ggml tensor type; only the size of its blocks is known here, not their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorType {
    id: u32,
    name: &'static str,
    block_len: u32,
    block_bytes: u32,
}

/// Every type ggml has assigned and not withdrawn (ids 4, 5, 31..=33 and 36..=38 were withdrawn).
const ALL: &[TensorType] = &[
    TensorType::F32,
    TensorType::F16,
    TensorType::new(2, "Q4_0", 32, 18),
    TensorType::new(3, "Q4_1", 32, 20),
    TensorType::new(6, "Q5_0", 32, 22),
    TensorType::new(7, "Q5_1", 32, 24),
    TensorType::new(8, "Q8_0", 32, 34),
    TensorType::new(9, "Q8_1", 32, 36),
    TensorType::new(10, "Q2_K", 256, 84),
    TensorType::new(11, "Q3_K", 256, 110),
    TensorType::new(12, "Q4_K", 256, 144),
    TensorType::new(13, "Q5_K", 256, 176),
    TensorType::new(14, "Q6_K", 256, 210),
    TensorType::new(15, "Q8_K", 256, 292),
    TensorType::new(16, "IQ2_XXS", 256, 66),
    TensorType::new(17, "IQ2_XS", 256, 74),
    TensorType::new(18, "IQ3_XXS", 256, 98),
    TensorType::new(19, "IQ1_S", 256, 50),
    TensorType::new(20, "IQ4_NL", 32, 18),
    TensorType::new(21, "IQ3_S", 256, 110),
    TensorType::new(22, "IQ2_S", 256, 82),
    TensorType::new(23, "IQ4_XS", 256, 136),
    TensorType::new(24, "I8", 1, 1),
    TensorType::new(25, "I16", 1, 2),
    TensorType::new(26, "I32", 1, 4),
    TensorType::new(27, "I64", 1, 8),
    TensorType::new(28, "F64", 1, 8),
    TensorType::new(29, "IQ1_M", 256, 56),
    TensorType::BF16,
    TensorType::new(34, "TQ1_0", 256, 54),
    TensorType::new(35, "TQ2_0", 256, 66),
    TensorType::new(39, "MXFP4", 32, 17),
    TensorType::new(40, "NVFP4", 64, 36),
    TensorType::new(41, "Q1_0", 128, 18),
];

impl TensorType {
    /// 32-bit floats.
    pub const F32: Self = Self::new(0, "F32", 1, 4);
    /// IEEE half floats.
    pub const F16: Self = Self::new(1, "F16", 1, 2);
    /// bfloat16.
    pub const BF16: Self = Self::new(30, "BF16", 1, 2);

    const fn new(id: u32, name: &'static str, block_len: u32, block_bytes: u32) -> Self {
        Self { id, name, block_len, block_bytes }
    }

    /// Every type this crate knows the size of, by ascending id.
    pub fn all() -> &'static [Self] {
        ALL
    }

    /// The type with this ggml id.
    pub fn from_id(id: u32) -> Option<Self> {
        ALL.iter().copied().find(|t| t.id == id)
    }

    /// The type with this name (`"Q4_0"`), letter case ignored.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// The ggml id, as written in the file.
    pub fn id(self) -> u32 {
        self.id
    }

    /// ggml's name in capital letters.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Elements of a block (1 for plain numbers).
    pub fn block_len(self) -> u64 {
        self.block_len.into()
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.block_bytes.into()
    }

    /// Bytes of a row of `len` elements; `None` if `len` is not whole blocks or the size overflows.
    pub fn row_bytes(self, len: u64) -> Option<u64> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
