//! A conversation: messages, their prompt, and answers that reuse what the cache holds already.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use shakti_model::CacheMode;
use shakti_tokenizer::Message;

use crate::EngineError;
use crate::generate::{GenerateOptions, Generation, generate};
use crate::model::Model;
use crate::session::Session;

/// Tokens that must be left for an answer; fewer make an answer that ends in its first sentence.
const LEAST_ANSWER_TOKENS: usize = 32;

/// A conversation with a model.
#[derive(Debug)]
pub struct Chat {
    model: Arc<Model>,
    session: Session,
    system: Option<String>,
    turns: Vec<Message>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The text and how it came about.
    pub generation: Generation,
    /// Oldest questions, with their answers, that had to be forgotten to make room.
    pub forgotten_turns: usize,
}

impl Chat {
    /// An empty conversation with a context of `max_seq_len` tokens.
    ///
    /// # Errors
    /// A model without a chat template.
    pub fn new(model: &Arc<Model>, max_seq_len: usize) -> Result<Self, EngineError> {
        if !model.has_chat_template() {
            return Err(EngineError::NoChatTemplate);
        }
        let session = Session::new(model.network(), CacheMode::Bounded { max_seq_len });
        Ok(Self { model: model.clone(), session, system: None, turns: Vec::new() })
    }

    /// Sets what frames the conversation; `None` takes it away. The turns stay.
    ///
    /// # Errors
    /// A text that leaves no room for a question; the old one stays then.
    pub fn set_system(&mut self, text: Option<String>) -> Result<(), EngineError> {
        let old = std::mem::replace(&mut self.system, text);
        let fits = self.prompt_of("").and_then(|ids| self.check(&ids, "the system message"));
        if fits.is_err() {
            self.system = old;
        }
        fits
    }

    /// Forgets all turns; the system message stays.
    pub fn reset(&mut self) {
        self.turns.clear();
        self.session.reset();
    }

    /// The questions and answers so far, oldest first.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// Asks a question and streams the answer. Where the history leaves no room for an answer, the oldest turns are
    /// forgotten. A failed question leaves the history as it was.
    ///
    /// # Errors
    /// A question that does not fit even alone, or what [`generate`] reports.
    pub fn ask(
        &mut self,
        question: &str,
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(&str) -> io::Result<ControlFlow<()>>,
    ) -> Result<Answer, EngineError> {
        let (prompt, forgotten_turns) = self.prompt_that_fits(question)?;
        let room = self.max_seq_len() - prompt.len();
        let limit = options.max_new_tokens.filter(|limit| *limit < room);
        let options = GenerateOptions { max_new_tokens: limit, ..options.clone() };
        let generation = generate(&self.model, &mut self.session, &prompt, &options, on_piece)?;
        self.turns.drain(..2 * forgotten_turns);
        self.turns.push(Message::new("user", question));
        self.turns.push(Message::new("assistant", generation.text.as_str()));
        Ok(Answer { generation, forgotten_turns })
    }

    fn max_seq_len(&self) -> usize {
        self.session.max_seq_len().unwrap_or(usize::MAX)
    }

    /// The prompt of a question after as many of the latest turns as fit, and the number of turns left out.
    fn prompt_that_fits(&self, question: &str) -> Result<(Vec<u32>, usize), EngineError> {
        let num_turns = self.turns.len() / 2;
        for forgotten in 0..=num_turns {
            let ids = self.prompt(&self.turns[2 * forgotten..], question)?;
            match self.check(&ids, "the question") {
                Ok(()) => return Ok((ids, forgotten)),
                Err(error) if forgotten == num_turns => return Err(error),
                Err(_) => {}
            }
        }
        unreachable!("the last turn of the loop returns")
    }

    fn prompt_of(&self, question: &str) -> Result<Vec<u32>, EngineError> {
        self.prompt(&[], question)
    }

    fn prompt(&self, turns: &[Message], question: &str) -> Result<Vec<u32>, EngineError> {
        let system = self.system.iter().map(|text| Message::new("system", text.as_str()));
        let question = Message::new("user", question);
        let messages: Vec<Message> = system.chain(turns.iter().cloned()).chain([question]).collect();
        self.model.chat_prompt(&messages)
    }

    fn check(&self, ids: &[u32], what: &'static str) -> Result<(), EngineError> {
        let (found, reserved, max_seq_len) = (ids.len(), LEAST_ANSWER_TOKENS, self.max_seq_len());
        if found + reserved > max_seq_len {
            return Err(EngineError::ContextOverflow { what, found, reserved, max_seq_len });
        }
        Ok(())
    }
}
