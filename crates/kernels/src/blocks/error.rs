//! What can be wrong with tensor bytes and their sizes.

use super::DType;

/// Why bytes and a shape do not make a tensor of a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// No format has this name.
    #[error("unknown tensor format `{name}` (known: {})", DType::names())]
    UnknownName {
        /// The name that was given.
        name: String,
    },
    /// No format of ours has this ggml type id.
    #[error("ggml type id {id} is not supported (supported: {})", DType::names())]
    UnknownId {
        /// The id that was given.
        id: u32,
    },
    /// Rows of this many values cannot be cut into whole blocks.
    #[error("a row of {len} values is not a whole number of {dtype} blocks of {}", dtype.block_len())]
    RowLength {
        /// Format of the row.
        dtype: DType,
        /// Values in the row.
        len: usize,
    },
    /// Only the formats of integers have scales.
    #[error("{dtype} has no integers and no scales")]
    NoGrid {
        /// The format.
        dtype: DType,
    },
    /// The size in bytes does not fit the address space.
    #[error("{rows} rows of {cols} values are more bytes than this machine can address")]
    TooLarge {
        /// Rows of the tensor.
        rows: usize,
        /// Values of one row.
        cols: usize,
    },
    /// A byte slice has another length than its shape says.
    #[error("{dtype} data should have {expected} bytes but has {found}")]
    ByteLength {
        /// Format of the data.
        dtype: DType,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The system has no room for packed weights.
    #[error("no memory for {bytes} bytes of weights")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A row of weights has another length than its row of values.
    #[error("a row of {expected} values has {found} weights")]
    WeightCount {
        /// Values in the row.
        expected: usize,
        /// Weights that are there.
        found: usize,
    },
    /// A weight that is negative, NaN or infinite.
    #[error("weight {index} of the row is {value}, not a finite number of at least 0")]
    BadWeight {
        /// Index in the row.
        index: usize,
        /// The weight in words.
        value: String,
    },
    /// NaN or infinity, which a block of integers cannot hold.
    #[error("value {index} of the row is {value}, which {dtype} cannot hold")]
    NotFinite {
        /// Format asked for.
        dtype: DType,
        /// Index in the row.
        index: usize,
        /// The value in words: `NaN`, `inf` or `-inf`.
        value: String,
    },
}
