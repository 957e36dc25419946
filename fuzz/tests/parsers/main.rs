//! One fuzz target per parser.

mod checkpoint;
mod data;
mod engine;
mod gguf;
mod model_config;
mod recipe;
mod tokenizer;

use std::path::{Path, PathBuf};

/// Pieces that mean something in JSON.
const JSON_WORDS: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "1.5",
    "18446744073709551615",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"\"",
    "\n",
];

/// A file of the recorded outputs of second implementations.
fn golden(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file for parsers that only read files; each target has its own.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("writing the input");
    path
}
