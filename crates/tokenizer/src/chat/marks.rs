//! Private code points that show where messages stand in a rendered text.

use std::ops::Range;

use super::Message;
use crate::error::{ErrorKind, TokenizerError};
use crate::tokenizer::Tokenizer;

/// The first of the private-use planes, and the last code point of all.
const FIRST: u32 = 0xF_0000;
const LAST: u32 = 0x10_FFFF;

/// A block of code points that occur neither in the template nor in any message.
#[derive(Debug)]
pub(super) struct Marks {
    base: u32,
    count: u32,
}

/// A rendered text without marks, and what they said.
#[derive(Debug, Default)]
pub(super) struct Rendering {
    pub text: String,
    /// Stretches in which control tokens may stand.
    pub searchable: Vec<Range<usize>>,
    /// Where the messages' text stands: index of the message, stretch.
    pub contents: Vec<(usize, Range<usize>)>,
    /// Stretches of `{% generation %}` blocks.
    pub generated: Vec<Range<usize>>,
    /// Every mark that opens a message is followed by the one that closes it.
    pub is_balanced: bool,
}

const BREAK: u32 = 0;
const GENERATION: u32 = 1;
const END_GENERATION: u32 = 2;
const CONTENTS: u32 = 3;

impl Marks {
    /// Chooses a free block.
    pub(super) fn new(template: &str, messages: &[Message]) -> Result<Self, TokenizerError> {
        let texts = messages.iter().map(|message| message.content.as_str()).chain([template]);
        // only texts with four-byte characters can use these planes
        let used = texts.filter(|text| text.bytes().any(|byte| byte >= 0xF3)).flat_map(str::chars);
        let mut used: Vec<u32> = used.map(u32::from).filter(|code| *code >= FIRST).collect();
        used.push(LAST + 1);
        used.sort_unstable();
        let count = CONTENTS + 2 * messages.len() as u32;
        let mut base = FIRST;
        for code in used {
            if code >= base + count {
                return Ok(Self { base, count });
            }
            base = base.max(code + 1);
        }
        let why = "too many messages, or too many private-use characters in them".to_owned();
        Err(TokenizerError::new(ErrorKind::Message(why), "messages"))
    }

    fn mark(&self, number: u32) -> char {
        char::from_u32(self.base + number).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// What `{% generation %}` blocks are put between.
    pub(super) fn generation(&self) -> (char, char) {
        (self.mark(GENERATION), self.mark(END_GENERATION))
    }

    /// `content` with a mark inside every control token that stands in it.
    pub(super) fn broken(&self, tokenizer: &Tokenizer, content: &str) -> String {
        let mut text = String::with_capacity(content.len());
        let bytes = content.as_bytes();
        for (at, c) in content.char_indices() {
            text.push(c);
            if tokenizer.added.control_at(&bytes[at..]) {
                text.push(self.mark(BREAK));
            }
        }
        text
    }

    /// `broken`, with the marks of message `index` around it, inside its outer white space.
    pub(super) fn marked(&self, tokenizer: &Tokenizer, index: usize, content: &str) -> String {
        let inner = content.trim();
        if inner.is_empty() {
            return content.to_owned();
        }
        let lead = content.len() - content.trim_start().len();
        let (before, after) = (&content[..lead], &content[lead + inner.len()..]);
        let open = CONTENTS + 2 * index as u32;
        let inner = self.broken(tokenizer, inner);
        format!("{before}{}{inner}{}{after}", self.mark(open), self.mark(open + 1))
    }

    /// `content` with a mark around every character.
    pub(super) fn apart(&self, content: &str) -> String {
        let mark = self.mark(BREAK);
        let inner = content.trim();
        if inner.is_empty() {
            return content.to_owned();
        }
        let lead = content.len() - content.trim_start().len();
        let mut text = content[..lead].to_owned();
        text.push(mark);
        for c in inner.chars() {
            text.extend([c, mark]);
        }
        text.push_str(&content[lead + inner.len()..]);
        text
    }

    /// Takes the marks out of a rendered text.
    pub(super) fn parse(&self, rendered: &str) -> Rendering {
        let mut parsed = Rendering { is_balanced: true, ..Rendering::default() };
        let mut opened: Option<(u32, usize)> = None;
        let mut generation = None;
        let mut search_from = 0;
        for c in rendered.chars() {
            let number = (c as u32).wrapping_sub(self.base);
            let at = parsed.text.len();
            if number >= self.count {
                parsed.text.push(c);
                continue;
            }
            if opened.is_none() {
                parsed.searchable.push(search_from..at);
            }
            search_from = at;
            match number {
                BREAK => {}
                GENERATION => generation = Some(at),
                END_GENERATION => parsed.generated.extend(generation.take().map(|from| from..at)),
                open if (open - CONTENTS).is_multiple_of(2) => {
                    parsed.is_balanced &= opened.is_none();
                    opened = Some((open, at));
                }
                close => match opened.take() {
                    Some((open, from)) if open + 1 == close => {
                        parsed.contents.push(((open - CONTENTS) as usize / 2, from..at));
                    }
                    _ => parsed.is_balanced = false,
                },
            }
        }
        parsed.is_balanced &= opened.is_none();
        parsed.searchable.push(search_from..parsed.text.len());
        parsed
    }
}
