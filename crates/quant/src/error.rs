//! What can go wrong in quantization.

/// An error of the quant crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// No file type has this name.
    #[error("unknown quantization type `{name}`; types are {known}")]
    UnknownType {
        /// What was asked for.
        name: String,
        /// The types there are.
        known: String,
    },
    /// A tensor's bytes do not fit its shape, or it holds values that the format cannot.
    #[error("tensor `{tensor}`: {cause}")]
    Blocks {
        /// State-dict name.
        tensor: String,
        /// What is wrong.
        cause: shakti_kernels::blocks::BlockError,
    },
    /// The input is quantized already; quantizing again adds the errors of both.
    #[error("tensor `{tensor}` is {dtype} already; quantizing a quantized model adds the errors of both")]
    AlreadyQuantized {
        /// State-dict name.
        tensor: String,
        /// Its stored format.
        dtype: String,
    },
    /// A calibration text without tokens of its own.
    #[error("the calibration text has {tokens} tokens, expected at least 2")]
    NoCalibration {
        /// Tokens found, begin of text included.
        tokens: usize,
    },
    /// No mix of types is this small.
    #[error("{asked} bytes are too few: the smallest types take {smallest}")]
    SizeTooSmall {
        /// Bytes asked for.
        asked: usize,
        /// Bytes of the smallest plan.
        smallest: usize,
    },
    /// The source could not be read.
    #[error("{0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
}
