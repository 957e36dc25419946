//! Vocabularies by path.

use std::path::Path;

use shakti_checkpoint::{is_gguf, tokenizer_of_gguf};
use shakti_gguf::GgufFile;
use shakti_tokenizer::Tokenizer;

use crate::failure::{Failure, FailureExt};

/// Opens the vocabulary of a GGUF file, a checkpoint folder, a tokenizer folder or a `tokenizer.json`.
///
/// # Errors
/// Names the file and field that cannot be used.
pub fn open(path: &Path) -> Result<Tokenizer, Failure> {
    if !path.exists() {
        let failure = Failure::bad_input(format!("{}: no such file or folder", path.display()));
        return Err(
            failure.hint("a vocabulary is a model, a folder with tokenizer.json, or that file itself")
        );
    }
    if is_gguf(path) {
        return tokenizer_of_gguf(&GgufFile::open(path)?)
            .context(format!("{}: cannot use the vocabulary", path.display()));
    }
    Ok(Tokenizer::open(path)?)
}
