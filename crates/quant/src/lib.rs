//! Quantization recipes and their report.
