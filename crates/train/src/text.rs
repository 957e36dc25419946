//! The tokenizer of a run: opened or trained, with its chat template and its files.

use std::path::Path;
use std::sync::Arc;

use shakti_checkpoint::{FolderContents, ModelFile, TokenizerSource};
use shakti_data::{Corpus, DataError, Split, TextEncoder};
use shakti_tokenizer::{ChatTemplate, Tokenizer, TrainOptions, TrainedFiles};

use crate::TrainError;

/// Pairs that occur less often are not merged into a token.
const MIN_FREQUENCY: u64 = 2;
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";

/// A tokenizer, its chat template (ours if it has none), and the files they came from.
#[derive(Clone)]
pub(crate) struct Text {
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    files: FolderContents,
}

impl Text {
    /// Opens a folder that holds `tokenizer.json`, or that file.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let tokenizer = Tokenizer::open(path)?;
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let files = FolderContents::of_tokenizer(&file)?;
        let template = ChatTemplate::of(&tokenizer)?;
        Ok(Self { tokenizer: tokenizer.into(), template: template.into(), files })
    }

    /// The tokenizer of an open model; one that lies in a GGUF file has no files of its own.
    pub(crate) fn of_model(model: &ModelFile) -> Result<Self, TrainError> {
        if let TokenizerSource::Folder(folder) = model.tokenizer() {
            return Self::open(folder);
        }
        let tokenizer = model.read_tokenizer()?;
        let template = ChatTemplate::of(&tokenizer)?;
        Ok(Self { tokenizer: tokenizer.into(), template: template.into(), files: FolderContents::default() })
    }

    /// Trains one on the training records of all files of the corpus.
    pub(crate) fn train(corpus: &Corpus, vocab_size: usize) -> Result<Self, TrainError> {
        let mut failure: Option<DataError> = None;
        let records = corpus.records(Split::Train, None).map_while(|record| match record {
            Ok(record) => Some(record.texts().map(str::to_owned).collect::<Vec<_>>()),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let options = TrainOptions { vocab_size, min_frequency: MIN_FREQUENCY };
        let trained = shakti_tokenizer::train(records.flatten(), &options);
        if let Some(error) = failure {
            return Err(error.into());
        }
        let TrainedFiles { tokenizer_json, tokenizer_config_json, special_tokens_map_json, chat_template } =
            trained?;
        let tokenizer = Tokenizer::from_json(&tokenizer_json, &tokenizer_config_json)?;
        let template = ChatTemplate::new(&chat_template)?;
        let files = FolderContents {
            tokenizer_json: Some(tokenizer_json),
            tokenizer_config_json: Some(tokenizer_config_json),
            chat_template: Some(chat_template),
            others: vec![(SPECIAL_TOKENS_FILE.into(), special_tokens_map_json.into_bytes())],
        };
        Ok(Self { tokenizer: tokenizer.into(), template: template.into(), files })
    }

    /// What turns records into ids and mask.
    pub(crate) fn encoder(&self) -> TextEncoder<'_> {
        TextEncoder { tokenizer: &self.tokenizer, template: &self.template }
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(crate) fn files(&self) -> &FolderContents {
        &self.files
    }
}
