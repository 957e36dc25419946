//! The GGUF container: bounds-checked mapped reading and atomic writing.
