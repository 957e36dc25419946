//! A model as a file holds it: weights, vocabulary, chat template.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use shakti_checkpoint::{ModelFile, read_adapter};
use shakti_kernels::{Cpu, KvType};
use shakti_model::{ModelConfig, TensorSource};
use shakti_tokenizer::{ChatTemplate, Message, Tokenizer};

use crate::EngineError;
use crate::network::Network;
use crate::vocabulary::Vocabulary;

/// Choices that change memory and speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// What keys and values are stored as.
    pub kv_type: KvType,
    /// Whether to make the copy of [`Network::with_head_screen`].
    pub head_screen: bool,
    /// Whether one short text is all that will be encoded: tables of the vocabulary are then built when another is.
    pub one_short_text: bool,
    /// Whether the model will give a few tokens only: weights are then read where the file has them instead of being
    /// repacked. The file stays open and must not be changed.
    pub few_tokens: bool,
}

/// A model that can read and write text.
#[derive(Debug)]
pub struct Model {
    network: Arc<Network>,
    vocabulary: Vocabulary,
    chat_template: Option<ChatTemplate>,
    stop_ids: Vec<u32>,
}

impl Model {
    /// Opens a Hugging Face folder or a GGUF file; vocabulary and chat template come from the same place.
    ///
    /// # Errors
    /// Names the file and the tensor, key or field that cannot be used.
    pub fn open(path: &Path, cpu: Arc<Cpu>) -> Result<Self, EngineError> {
        Self::open_with(path, cpu, LoadOptions::default())
    }

    /// [`Model::open`] with other than the usual choices.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: &Path, cpu: Arc<Cpu>, options: LoadOptions) -> Result<Self, EngineError> {
        Self::open_adapted(path, None, cpu, options)
    }

    /// [`Model::open_with`], and an adapter beside the weights: a PEFT folder or a GGUF adapter made for this model.
    ///
    /// # Errors
    /// As [`Model::open`], of either.
    pub fn open_adapted(
        path: &Path,
        adapter: Option<&Path>,
        cpu: Arc<Cpu>,
        options: LoadOptions,
    ) -> Result<Self, EngineError> {
        let failed = |what, path: &Path, source| EngineError::Open { what, path: path.to_path_buf(), source };
        let open = |source: Box<dyn std::error::Error + Send + Sync>| failed("model", path, source);
        let file = Arc::new(ModelFile::open(path).map_err(|error| open(error.into()))?);
        let read = |path| {
            read_adapter(path, file.config()).map_err(|error| failed("adapter", path, Box::new(error) as _))
        };
        let adapter = adapter.map(read).transpose()?;
        // A vocabulary of 64,000 takes one thread about as long as the weights keep a second one waiting.
        let (vocabulary, network) = std::thread::scope(|scope| {
            let vocabulary = scope.spawn(|| Vocabulary::read(&file, options.one_short_text));
            let config = file.config().clone();
            let network = if options.few_tokens && !options.head_screen {
                let source: Arc<dyn TensorSource + Send + Sync> = file.clone();
                Network::load_as_stored(config, &source, cpu)
            } else {
                Network::load(config, &*file, cpu)
            };
            let vocabulary = vocabulary.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (vocabulary, network)
        });
        let vocabulary = vocabulary.map_err(|error| open(error.into()))?;
        let network = network.map_err(|error| open(error.into()))?;
        let mut network = network.with_kv_type(options.kv_type);
        if let Some(adapter) = adapter {
            network = network.with_adapter(adapter);
        }
        if options.head_screen {
            network = network.with_head_screen().map_err(|error| open(error.into()))?;
        }
        Self::of(Arc::new(network), vocabulary).map_err(|error| open(error.into()))
    }

    /// A model from parts in memory; the chat template is the one that came with the vocabulary.
    ///
    /// # Errors
    /// A chat template that does not compile, a vocabulary with more ids than the network has.
    pub fn new(network: Arc<Network>, tokenizer: Arc<Tokenizer>) -> Result<Self, EngineError> {
        Self::of(network, Vocabulary::Whole(tokenizer))
    }

    fn of(network: Arc<Network>, vocabulary: Vocabulary) -> Result<Self, EngineError> {
        let (ids, known) = (vocabulary.vocab_size(), network.config().vocab_size);
        if ids > known {
            return Err(EngineError::Vocabulary { ids, known });
        }
        let encode = |error| EngineError::Encode(Box::new(error));
        let chat_template = vocabulary.chat_template().map(ChatTemplate::new).transpose().map_err(encode)?;
        let mut stop_ids = network.config().eos_token_ids.clone();
        stop_ids.extend(vocabulary.stop_ids());
        stop_ids.sort_unstable();
        stop_ids.dedup();
        Ok(Self { network, vocabulary, chat_template, stop_ids })
    }

    /// The numbers.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.network.config()
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// A vocabulary that was opened on demand and is damaged.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, EngineError> {
        self.vocabulary.tokenizer()
    }

    /// Ids that end a text or a turn, ascending.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Whether the model can chat.
    pub fn has_chat_template(&self) -> bool {
        self.chat_template.is_some()
    }

    /// Ids of a plain text, with the id that begins a text if the model was trained with one. Control tokens
    /// spelled in it stay text.
    ///
    /// # Errors
    /// As [`Model::tokenizer`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.vocabulary.encode_text(text)
    }

    /// Ids of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// No chat template, or one that refuses the conversation.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        let template = self.chat_template.as_ref().ok_or(EngineError::NoChatTemplate)?;
        let rendered = template.render(self.tokenizer()?, messages, true);
        Ok(rendered.map_err(|error| EngineError::Encode(Box::new(error)))?.ids)
    }

    /// The bytes that an id adds to a text; `None` for control tokens and ids without a meaning.
    pub fn visible_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        let hidden = self.vocabulary.is_special(id) || id as usize >= self.vocabulary.vocab_size();
        (!hidden).then(|| self.vocabulary.token_bytes(id))
    }
}
