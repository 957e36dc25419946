//! Model files from outside: what goes out comes back, what others wrote opens, what lies is refused by name.

mod common;
mod gguf_model;
mod hf_folder;
mod hostile;
mod logits;
