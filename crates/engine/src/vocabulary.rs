//! A model's vocabulary: with all its tables, or with what its texts have needed so far.

use std::borrow::Cow;
use std::sync::Arc;

use shakti_checkpoint::{ModelFile, TokenizerSource, vocabulary_of_gguf};
use shakti_tokenizer::{GgufVocabulary, Tokenizer, TokenizerError};

use crate::EngineError;

#[derive(Debug)]
pub(crate) enum Vocabulary {
    /// Everything was built when it was opened.
    Whole(Arc<Tokenizer>),
    /// What is needed is built when it is needed.
    OnDemand(Box<GgufVocabulary>),
}

impl Vocabulary {
    /// Reads the vocabulary of a file; that of a folder as a whole.
    pub fn read(file: &ModelFile, on_demand: bool) -> Result<Self, TokenizerError> {
        match file.tokenizer() {
            TokenizerSource::Gguf(gguf) if on_demand => {
                Ok(Self::OnDemand(Box::new(vocabulary_of_gguf(gguf)?)))
            }
            _ => Ok(Self::Whole(Arc::new(file.read_tokenizer()?))),
        }
    }

    /// All of it.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, EngineError> {
        match self {
            Self::Whole(tokenizer) => Ok(tokenizer),
            Self::OnDemand(vocabulary) => vocabulary.tokenizer().map_err(encode_error),
        }
    }

    /// Ids of a plain text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let (adds_bos, special) = match self {
            Self::Whole(tokenizer) => (tokenizer.adds_bos(), tokenizer.special_ids()),
            Self::OnDemand(vocabulary) => (vocabulary.adds_bos(), vocabulary.special_ids()),
        };
        let mut ids: Vec<u32> = special.bos.filter(|_| adds_bos).into_iter().collect();
        match self {
            Self::Whole(tokenizer) => tokenizer.encode(text, &mut ids),
            Self::OnDemand(vocabulary) => vocabulary.encode(text, &mut ids).map_err(encode_error)?,
        }
        Ok(ids)
    }

    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Whole(tokenizer) => tokenizer.vocab_size(),
            Self::OnDemand(vocabulary) => vocabulary.vocab_size(),
        }
    }

    pub fn chat_template(&self) -> Option<&str> {
        match self {
            Self::Whole(tokenizer) => tokenizer.chat_template(),
            Self::OnDemand(vocabulary) => vocabulary.chat_template(),
        }
    }

    pub fn stop_ids(&self) -> Vec<u32> {
        match self {
            Self::Whole(tokenizer) => tokenizer.stop_ids(),
            Self::OnDemand(vocabulary) => vocabulary.special_ids().stop_ids(),
        }
    }

    pub fn is_special(&self, id: u32) -> bool {
        match self {
            Self::Whole(tokenizer) => tokenizer.is_special(id),
            Self::OnDemand(vocabulary) => vocabulary.is_special(id),
        }
    }

    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        match self {
            Self::Whole(tokenizer) => Cow::Borrowed(tokenizer.token_bytes(id)),
            Self::OnDemand(vocabulary) => Cow::Owned(vocabulary.token_bytes(id)),
        }
    }
}

fn encode_error(error: TokenizerError) -> EngineError {
    EngineError::Encode(Box::new(error))
}
