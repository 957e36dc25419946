//! `ChatTemplate`: messages to ids and loss mask, by one function for training, evaluation and chat.
//!
//! Text inside a message never becomes a control token. To keep it apart, every message is rendered between two
//! private code points that occur nowhere else (inside its outer white space, so that templates may trim it), and
//! control tokens are looked for only outside of them. The rendering without these marks must be the same text; a
//! template that looks at the first or last characters of a message, or cuts it, gives another text or loses a
//! mark. Then the text without marks is taken, in which every control token that stands in a message was broken by
//! a private code point, and it is checked that no control token of the result contains a character of a message;
//! if one does, rendering fails.
//!
//! The mask is true on what the model must write: from the end of the generation prompt to the end-of-turn token of
//! each assistant message (or the template's own `{% generation %}` blocks). Text is encoded apart on both sides of
//! an answer's start, so the ids of a prompt are a prefix of the ids of the whole conversation.

mod answers;
mod environment;
mod marks;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::added::Match;
use crate::error::{ErrorKind, TokenizerError};
use crate::model::Before;
use crate::tokenizer::Tokenizer;
use environment::Engine;
use marks::{Marks, Rendering};

/// The roles a message may have. Templates put the role between control characters, so it is no free text.
pub const ROLES: [&str; 7] = ["system", "developer", "user", "assistant", "tool", "function", "ipython"];

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// One of `ROLES`.
    pub role: String,
    /// Text; no part of it becomes a control token.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Token ids `[N]`.
    pub ids: Vec<u32>,
    /// Which ids the model must learn to write `[N]`: answers and their end-of-turn tokens.
    pub mask: Vec<bool>,
    /// The text the ids stand for.
    pub text: String,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    engine: Engine,
}

/// What a conversation was rendered to, before encoding.
struct Layout {
    text: String,
    /// Control and added tokens of the template, in order.
    tokens: Vec<Match>,
    rendering: Rendering,
    /// The marks show where every message stands.
    is_tracked: bool,
}

impl ChatTemplate {
    /// Compiles the Jinja text of a template. `strftime_now` answers with the time of this call.
    pub fn new(source: &str) -> Result<Self, TokenizerError> {
        Ok(Self { engine: Engine::new(source)? })
    }

    /// The template of our own models.
    pub fn shakti() -> Self {
        match Self::new(crate::DEFAULT_CHAT_TEMPLATE) {
            Ok(template) => template,
            Err(error) => unreachable!("the built-in template compiles, a test shows it: {error}"),
        }
    }

    /// The template that came with `tokenizer`, or ours if it has none. Ours renders only with our control tokens.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        Self::new(tokenizer.chat_template().unwrap_or(crate::DEFAULT_CHAT_TEMPLATE))
    }

    /// Fixes what `strftime_now` answers, in seconds since 1970 (UTC).
    pub fn set_time(&mut self, unix_seconds: u64) {
        self.engine.set_time(unix_seconds);
    }

    /// Renders a conversation to ids and mask. With `add_generation_prompt` it ends where the assistant's answer
    /// begins. Without, it is an example to learn from: a mask without any answer, or with nothing else, is an
    /// error.
    pub fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Rendered, TokenizerError> {
        for (index, message) in messages.iter().enumerate() {
            if !ROLES.contains(&message.role.as_str()) {
                let why = format!("no such role: {:?} (known: {})", message.role, ROLES.join(", "));
                return Err(message_error(index, why));
            }
        }
        self.check_vocabulary(tokenizer)?;
        let layout = self.layout(tokenizer, messages, add_generation_prompt)?;
        let answers = match self.answers(tokenizer, messages, add_generation_prompt, &layout) {
            Err(_) if add_generation_prompt => Vec::new(),
            answers => answers?,
        };
        let rendered = encode(tokenizer, layout, &answers);
        if !add_generation_prompt {
            check_mask(&rendered)?;
        }
        Ok(rendered)
    }

    /// Our own template means something only to vocabularies with our control tokens.
    fn check_vocabulary(&self, tokenizer: &Tokenizer) -> Result<(), TokenizerError> {
        let missing = |name: &&&str| tokenizer.added_id(name).is_none_or(|id| !tokenizer.is_special(id));
        match ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"].iter().find(missing) {
            Some(name) if self.engine.source() == crate::DEFAULT_CHAT_TEMPLATE => {
                let why =
                    format!("the model has no chat template, and its vocabulary no {name} for the usual one");
                Err(TokenizerError::new(ErrorKind::Template(why), "chat template"))
            }
            _ => Ok(()),
        }
    }

    /// Renders and finds the template's control tokens.
    fn layout(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Layout, TokenizerError> {
        let marks = Marks::new(self.engine.source(), messages)?;
        let render = |protect: &dyn Fn(usize, &str) -> String| -> Result<Rendering, TokenizerError> {
            let text =
                self.engine.render(tokenizer, messages, add_generation_prompt, Some(&marks), protect)?;
            Ok(marks.parse(&text))
        };
        let broken = render(&|_, content| marks.broken(tokenizer, content))?;
        // a template may refuse a message for the marks in it; then they are not needed to know the text
        if let Ok(marked) = render(&|index, content| marks.marked(tokenizer, index, content))
            && marked.is_balanced
            && marked.text == broken.text
        {
            let tokens = find_tokens(tokenizer, &marked);
            return Ok(Layout { text: marked.text.clone(), tokens, rendering: marked, is_tracked: true });
        }
        let apart = render(&|_, content| marks.apart(content))?;
        let tokens = find_tokens(tokenizer, &broken);
        let control = |tokens: &[Match]| -> Vec<u32> {
            tokens.iter().map(|token| token.id).filter(|&id| tokenizer.is_special(id)).collect()
        };
        if control(&tokens) != control(&find_tokens(tokenizer, &apart)) {
            let why = "the template makes control tokens out of the text of messages";
            return Err(TokenizerError::new(ErrorKind::Template(why.into()), "chat template"));
        }
        Ok(Layout { text: broken.text.clone(), tokens, rendering: broken, is_tracked: false })
    }
}

fn message_error(index: usize, why: String) -> TokenizerError {
    TokenizerError::new(ErrorKind::Message(why), format!("messages[{index}]"))
}

/// The template's control and added tokens, looked for outside of messages.
fn find_tokens(tokenizer: &Tokenizer, rendering: &Rendering) -> Vec<Match> {
    let mut tokens = Vec::new();
    for region in &rendering.searchable {
        let text = &rendering.text[..region.end];
        let mut at = region.start;
        while let Some(found) = tokenizer.added.find(text, at, true) {
            at = found.end;
            tokens.push(found);
        }
    }
    tokens
}

/// Encodes the text between the tokens, cut where an answer begins or ends.
fn encode(tokenizer: &Tokenizer, layout: Layout, answers: &[Range<usize>]) -> Rendered {
    let Layout { text, tokens, .. } = layout;
    let mut ids = Vec::new();
    let mut mask = Vec::new();
    let is_answer = |at: usize| answers.iter().any(|range| range.contains(&at));
    let mut before = Before::TextStart;
    let mut at = 0;
    let end = Match { start: text.len(), end: text.len(), id: 0, token_start: text.len() };
    for token in tokens.iter().chain([&end]) {
        while at < token.start {
            let edges = answers.iter().flat_map(|range| [range.start, range.end]);
            let cut = edges.filter(|&edge| edge > at).fold(token.start, usize::min);
            tokenizer.encode_plain(&text[at..cut], before, &mut ids);
            mask.resize(ids.len(), is_answer(at));
            (at, before) = (cut, Before::Text);
        }
        if token.start < token.end {
            ids.push(token.id);
            mask.push(is_answer(token.token_start));
            (at, before) = (token.end, Before::AddedToken);
        }
    }
    Rendered { ids, mask, text }
}

fn check_mask(rendered: &Rendered) -> Result<(), TokenizerError> {
    let answers = rendered.mask.iter().filter(|masked| **masked).count();
    let why = match answers {
        0 => "the loss mask is empty: the conversation has no assistant message that the template shows",
        _ if answers == rendered.ids.len() => {
            "the loss mask is full: the conversation is nothing but answers"
        }
        _ => return Ok(()),
    };
    Err(TokenizerError::new(ErrorKind::Mask(why.into()), "chat template"))
}

#[cfg(test)]
mod tests;
