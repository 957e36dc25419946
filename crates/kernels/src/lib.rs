//! Block formats, every operation forward and backward on slices, and the thread pool.

pub mod blocks;
