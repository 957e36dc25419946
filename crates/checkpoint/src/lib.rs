//! Checkpoint folders, Hugging Face and GGUF import and export.
