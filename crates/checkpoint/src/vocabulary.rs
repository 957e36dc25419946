//! The vocabulary that lies with a model: `tokenizer.json` in a folder, `tokenizer.` keys in a GGUF file.

use std::path::Path;

use shakti_gguf::GgufFile;
use shakti_tokenizer::{GgufLookup, GgufVocabulary, Tokenizer, TokenizerError};

use crate::model_file::{ModelFile, TokenizerSource};

/// The keys of a GGUF file, as the tokenizer asks for them.
struct Keys<'a>(&'a GgufFile);

impl GgufLookup for Keys<'_> {
    fn string(&self, key: &str) -> Option<&str> {
        self.0.str(key).ok().flatten()
    }

    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
        self.0.array(key).ok().flatten()?.strings().ok()?.try_for_each(|text| text.map(&mut *each)).ok()
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        self.0.array(key).ok().flatten()?.to_f32s().ok()
    }

    fn integers(&self, key: &str) -> Option<Vec<i32>> {
        self.0.array(key).ok().flatten()?.to_i32s().ok()
    }

    fn integer(&self, key: &str) -> Option<u64> {
        self.0.u64(key).ok().flatten()
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        self.0.bool(key).ok().flatten()
    }
}

/// The vocabulary of a GGUF file.
///
/// # Errors
/// Names the key that is missing or cannot be used.
pub fn tokenizer_of_gguf(file: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&Keys(file))
}

/// The vocabulary of a GGUF file, for few short texts.
///
/// # Errors
/// Names the key that is missing or cannot be used.
pub fn vocabulary_of_gguf(file: &GgufFile) -> Result<GgufVocabulary, TokenizerError> {
    GgufVocabulary::from_gguf(&Keys(file))
}

impl ModelFile {
    /// Reads the vocabulary.
    ///
    /// # Errors
    /// Names the file and field, or the key, that is missing or cannot be used.
    pub fn read_tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        match self.tokenizer() {
            TokenizerSource::Folder(folder) => Tokenizer::open(folder),
            TokenizerSource::Gguf(file) => tokenizer_of_gguf(file),
        }
    }
}

/// Whether a path is a GGUF file, by its first bytes.
pub fn is_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}
