//! Kernels of the set `avx512`.

mod packed;

pub(crate) use packed::PACKED;
