//! The tokenizer and its chat template as [`Encode`] asks for them: the same rendering that serves a chat.

use crate::record::Message;
use crate::tokens::{Encode, EncodeError};
use shakti_tokenizer::{ChatTemplate, Tokenizer};

/// Encodes documents with a tokenizer and conversations with a chat template.
#[derive(Clone, Copy, Debug)]
pub struct TextEncoder<'a> {
    /// Text to ids.
    pub tokenizer: &'a Tokenizer,
    /// Messages to ids and mask.
    pub template: &'a ChatTemplate,
}

impl Encode for TextEncoder<'_> {
    /// The begin-of-text id where the tokenizer puts one, the text, and always the end-of-text id if there is
    /// one: the model learns where a text ends, also where the tokenizer does not say so by itself.
    fn encode_document(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        let special = self.tokenizer.special_ids();
        ids.extend(special.bos.filter(|_| self.tokenizer.adds_bos()));
        self.tokenizer.encode(text, ids);
        ids.extend(special.eos);
        Ok(())
    }

    fn encode_chat(
        &self,
        messages: &[Message],
        ids: &mut Vec<u32>,
        mask: &mut Vec<bool>,
    ) -> Result<(), EncodeError> {
        let rendered = self.template.render(self.tokenizer, &rendered_messages(messages), false)?;
        ids.extend(rendered.ids);
        mask.extend(rendered.mask);
        Ok(())
    }

    fn encode_prompt(&self, messages: &[Message], ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        ids.extend(self.template.render(self.tokenizer, &rendered_messages(messages), true)?.ids);
        Ok(())
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids)
    }
}

/// The messages as templates take them.
fn rendered_messages(messages: &[Message]) -> Vec<shakti_tokenizer::Message> {
    let each = messages.iter();
    each.map(|message| shakti_tokenizer::Message::new(message.role.name(), message.content.as_str()))
        .collect()
}
