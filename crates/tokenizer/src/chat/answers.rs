//! Where the answers of the assistant stand in a rendered conversation.

use std::ops::Range;

use super::{ChatTemplate, Layout, Message};
use crate::error::{ErrorKind, TokenizerError};
use crate::tokenizer::Tokenizer;

impl ChatTemplate {
    /// The stretches of `layout` that the model must write, one for every assistant message.
    pub(super) fn answers(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        layout: &Layout,
    ) -> Result<Vec<Range<usize>>, TokenizerError> {
        if self.engine.has_generation_blocks() {
            return Ok(layout.rendering.generated.clone());
        }
        let mut answers: Vec<Range<usize>> = Vec::new();
        for index in (0..messages.len()).filter(|&index| messages[index].role == "assistant") {
            let seek = Seek { template: self, tokenizer, messages, layout, index };
            let start = seek.start()?;
            let end = seek.end(start, add_generation_prompt)?;
            if answers.last().is_some_and(|last| last.end > start) || end < start {
                return Err(seek.lost("it overlaps another"));
            }
            answers.push(start..end);
        }
        Ok(answers)
    }
}

/// The search for one answer.
struct Seek<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    messages: &'a [Message],
    layout: &'a Layout,
    /// The assistant's message.
    index: usize,
}

impl Seek<'_> {
    fn lost(&self, why: &str) -> TokenizerError {
        let why = format!("the answer cannot be found in the rendered conversation: {why}");
        TokenizerError::new(ErrorKind::Mask(why), format!("messages[{}]", self.index))
    }

    /// The rendering of the first `count` messages alone, if the whole begins with it.
    fn prefix(&self, count: usize, add_generation_prompt: bool) -> Option<String> {
        let messages = &self.messages[..count];
        let plain = |_: usize, content: &str| content.to_owned();
        let engine = &self.template.engine;
        let text = engine.render(self.tokenizer, messages, add_generation_prompt, None, &plain).ok()?;
        self.layout.text.starts_with(&text).then_some(text)
    }

    /// Where the message's own text stands.
    fn content(&self) -> Option<Range<usize>> {
        let own = |(index, _): &&(usize, Range<usize>)| self.layout.is_tracked && *index == self.index;
        self.layout.rendering.contents.iter().find(own).map(|(_, range)| range.clone())
    }

    fn control_tokens(&self, within: Range<usize>) -> impl DoubleEndedIterator<Item = (u32, usize)> {
        let tokens = self.layout.tokens.iter().filter(|token| self.tokenizer.is_special(token.id));
        tokens.filter(move |token| within.contains(&token.token_start)).map(|token| (token.id, token.end))
    }

    /// The end of the generation prompt. A template that knows none puts the answer's header into the message:
    /// then the answer begins with its text if a control token stands between.
    fn start(&self) -> Result<usize, TokenizerError> {
        let prompt = self.prefix(self.index, true).map(|text| text.len());
        let bare = self.prefix(self.index, false).map(|text| text.len());
        let content = self.content().map(|range| range.start);
        match (prompt.or(bare), content) {
            (Some(start), Some(content)) if start > content => Ok(content),
            (Some(start), Some(content)) => {
                let has_prompt = prompt.is_some() && prompt != bare;
                let has_header = self.control_tokens(start..content).next().is_some();
                Ok(if has_header && !has_prompt { content } else { start })
            }
            (Some(start), None) => Ok(start),
            (None, Some(content)) => Ok(content),
            (None, None) => Err(self.lost("the template changes earlier turns and the text of messages")),
        }
    }

    /// The end of the first control token after the answer's text, or of the text if none belongs to the message.
    fn end(&self, start: usize, add_generation_prompt: bool) -> Result<usize, TokenizerError> {
        let is_last = self.index + 1 == self.messages.len() && !add_generation_prompt;
        let own = match is_last {
            true => Some(self.layout.text.len()),
            false => self.prefix(self.index + 1, false).map(|text| text.len()).filter(|&end| end > start),
        };
        match (self.content().map(|range| range.end.max(start)), own) {
            (Some(text), Some(limit)) if text <= limit => {
                Ok(self.control_tokens(text..limit).next().map_or(limit, |(_, end)| end))
            }
            (Some(text), _) => {
                let others = self.layout.rendering.contents.iter().map(|(_, range)| range.start);
                let limit = others.filter(|&other| other >= text).fold(self.layout.text.len(), usize::min);
                let stops = self.tokenizer.stop_ids();
                let mut tokens = self.control_tokens(text..limit);
                Ok(tokens.find(|(id, _)| stops.contains(id)).map_or(text, |(_, end)| end))
            }
            (None, Some(limit)) => {
                Ok(self.control_tokens(start..limit).next_back().map_or(limit, |(_, end)| end))
            }
            (None, None) => Err(self.lost("the template changes later turns and the text of messages")),
        }
    }
}
