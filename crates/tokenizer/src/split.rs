//! Pre-tokenizers: how text is cut into the pieces inside which tokens may merge.
//!
//! The patterns that tokenizer files name are known by their text (`tokenizer.json`) or by their GGUF name
//! (`tokenizer.ggml.pre`) and are written out by hand here: one pass, no regular expression engine. Each scanner
//! answers one question, how long the first piece of a text is; a pre-tokenizer is a list of scanners, each
//! cutting the pieces of the one before. A pattern or name that is not in these tables is refused by name.

use crate::unicode::{Class, class};

/// The pattern of GPT-2.
pub(crate) const GPT2_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The family of patterns that began with GPT-4's: words take one character before them along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordRule {
    /// Combining marks are part of words (else vowel signs of Indic scripts cut them).
    pub marks: bool,
    /// At most this many digits in a piece.
    pub digits: usize,
    /// Contractions are matched by `(?i:…)`, which also takes U+017F (long s) for an s.
    pub folded: bool,
}

impl WordRule {
    /// The pattern this rule computes, as `tokenizer.json` spells it.
    pub(crate) fn pattern(self) -> String {
        let contractions = if self.folded {
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        } else {
            "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
        };
        let (word, marks) = if self.marks { (r"[\p{L}\p{M}]+", r"\p{M}") } else { (r"\p{L}+", "") };
        let digits = if self.digits == 1 { String::new() } else { format!("{{1,{}}}", self.digits) };
        format!(
            r"{contractions}|[^\r\n\p{{L}}\p{{N}}]?{word}|\p{{N}}{digits}| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    }
}

/// One scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// GPT-2's pattern.
    Gpt2,
    /// The later family.
    Words(WordRule),
    /// `\p{N}`: every number character alone.
    EachNumber,
    /// `\p{N}+`: runs of number characters apart.
    Numbers,
    /// `[0-9][0-9][0-9]`: triples of ASCII digits apart.
    DigitTriples,
    /// Runs of `\p{P}` and `$+<=>^~|`, and the backtick if `true`.
    Punctuation(bool),
    /// A piece begins at every U+0020.
    AtSpace,
}

/// A list of scanners with the name GGUF files know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PreTokenizer {
    /// Value of `tokenizer.ggml.pre`.
    pub name: &'static str,
    pub stages: &'static [Stage],
    /// A piece that is a token is taken whole, whatever its merges would give.
    pub ignore_merges: bool,
}

const fn words(marks: bool, digits: usize) -> Stage {
    Stage::Words(WordRule { marks, digits, folded: false })
}

const GPT2: &[Stage] = &[Stage::Gpt2];
const SMOLLM: &[Stage] = &[Stage::EachNumber, Stage::Gpt2];
const LLAMA3: &[Stage] = &[words(false, 3)];
const QWEN2: &[Stage] = &[words(false, 1)];
/// What our own tokenizers are trained with: words with their combining marks, single digits.
pub(crate) const QWEN35: &[Stage] = &[words(true, 1)];
const FALCON: &[Stage] = &[Stage::Punctuation(true), Stage::Gpt2, Stage::DigitTriples];
const DEFAULT: &[Stage] = &[Stage::Punctuation(false), Stage::Gpt2, Stage::Numbers, Stage::DigitTriples];

/// Every GGUF name that is known, the name to write first in its group.
const NAMES: &[(&[&str], &[Stage], bool)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "mellum",
            "modern-bert",
            "a.x-4.0",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
        ],
        GPT2,
        false,
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        SMOLLM,
        false,
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        LLAMA3,
        true,
    ),
    (&["glm4", "glm5"], LLAMA3, true),
    (&["smaug-bpe", "dbrx", "chatglm-bpe"], LLAMA3, false),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "grok-2", "megrez"],
        QWEN2,
        false,
    ),
    (&["qwen35"], QWEN35, false),
    (&["falcon"], FALCON, false),
    (&["default", ""], DEFAULT, false),
];

impl PreTokenizer {
    /// The pre-tokenizer that GGUF files call `name`.
    pub(crate) fn from_gguf_name(name: &str) -> Option<Self> {
        NAMES.iter().find_map(|&(names, stages, ignore_merges)| {
            let name = *names.iter().find(|known| **known == name)?;
            Some(Self { name, stages, ignore_merges })
        })
    }

    /// Do files without `tokenizer.ggml.add_bos_token` mean yes?
    pub(crate) fn adds_bos_by_default(self) -> bool {
        self.stages == LLAMA3 && self.ignore_merges && !self.name.starts_with("glm")
    }

    /// The GGUF name of `stages`, if there is one.
    pub(crate) fn gguf_name(stages: &[Stage], ignore_merges: bool) -> Option<&'static str> {
        let unfolded: Vec<Stage> = stages.iter().map(|stage| stage.unfolded()).collect();
        NAMES.iter().find(|(_, known, ignore)| *known == unfolded && *ignore == ignore_merges).map(|n| n.0[0])
    }
}

impl Stage {
    /// The scanner of a `Split` pattern in `tokenizer.json`.
    pub(crate) fn from_pattern(pattern: &str) -> Option<Self> {
        if pattern == GPT2_PATTERN {
            return Some(Self::Gpt2);
        }
        if pattern == "[0-9][0-9][0-9]" {
            return Some(Self::DigitTriples);
        }
        let rules = [false, true].into_iter().flat_map(|marks| {
            [1, 3]
                .into_iter()
                .flat_map(move |digits| [false, true].map(|folded| WordRule { marks, digits, folded }))
        });
        rules.into_iter().find(|rule| rule.pattern() == pattern).map(Self::Words)
    }

    fn unfolded(self) -> Self {
        match self {
            Self::Words(rule) => Self::Words(WordRule { folded: false, ..rule }),
            other => other,
        }
    }

    /// Bytes of the first piece of `text`, which is not empty.
    fn first_piece(self, text: &str) -> usize {
        match self {
            Self::Gpt2 => gpt2(text),
            Self::Words(rule) => word_rule(text, rule),
            Self::EachNumber => match text.chars().next() {
                Some(c) if class(c) == Class::Number => c.len_utf8(),
                _ => run(text, |c| class(c) != Class::Number),
            },
            Self::Numbers => alternate(text, |c| class(c) == Class::Number),
            Self::DigitTriples => digit_triples(text),
            Self::Punctuation(backtick) => alternate(text, |c| {
                class(c) == Class::Punctuation
                    || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
                    || (backtick && c == '`')
            }),
            Self::AtSpace => text[1..].find(' ').map_or(text.len(), |at| at + 1),
        }
    }
}

/// Calls `found` with the pieces of `text` in order; together they are `text`.
pub(crate) fn split<'t>(stages: &[Stage], text: &'t str, found: &mut impl FnMut(&'t str)) {
    let Some((stage, later)) = stages.split_first() else {
        found(text);
        return;
    };
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(stage.first_piece(rest));
        if later.is_empty() {
            found(piece);
        } else {
            split_boxed(later, piece, found);
        }
        rest = after;
    }
}

/// The recursion of `split` behind a trait object, so that it is one instance whatever the depth.
fn split_boxed<'t>(stages: &[Stage], text: &'t str, found: &mut dyn FnMut(&'t str)) {
    split(stages, text, &mut |piece| found(piece));
}

/// Bytes of the longest start of `text` whose characters all satisfy `test`.
fn run(text: &str, test: impl Fn(char) -> bool) -> usize {
    text.char_indices().find(|&(_, c)| !test(c)).map_or(text.len(), |(at, _)| at)
}

/// Bytes of the first run of characters that answer `test` alike.
fn alternate(text: &str, test: impl Fn(char) -> bool) -> usize {
    let first = text.chars().next().is_some_and(&test);
    run(text, |c| test(c) == first)
}

fn digit_triples(text: &str) -> usize {
    let digit = |b: &u8| b.is_ascii_digit();
    match text.as_bytes().windows(3).position(|w| w.iter().all(digit)) {
        Some(0) => 3,
        Some(at) => at,
        None => text.len(),
    }
}

/// Bytes of a contraction (`'s`, `'ll`, …) at the start of `text`, 0 if there is none.
fn contraction(text: &str, any_case: bool, folded: bool) -> usize {
    let mut chars = text.chars();
    if chars.next() != Some('\'') {
        return 0;
    }
    let lower = |c: Option<char>| match c {
        Some('\u{17F}') if folded => ('s', 2),
        Some(c) if any_case => (c.to_ascii_lowercase(), c.len_utf8()),
        Some(c) => (c, c.len_utf8()),
        None => (' ', 0),
    };
    let (first, len) = lower(chars.next());
    let (second, _) = lower(chars.next());
    match (first, second) {
        ('s' | 't' | 'm' | 'd', _) => 1 + len,
        ('r' | 'v', 'e') | ('l', 'l') => 3,
        _ => 0,
    }
}

fn gpt2(text: &str) -> usize {
    let len = contraction(text, false, false);
    if len > 0 {
        return len;
    }
    let lead = usize::from(text.starts_with(' '));
    let kind = |c: char| match class(c) {
        Class::Mark | Class::Punctuation => Class::Other,
        class => class,
    };
    match text[lead..].chars().next().map(kind) {
        None | Some(Class::Space) => spaces(text),
        Some(first) => lead + run(&text[lead..], |c| kind(c) == first),
    }
}

/// `\s+(?!\S)|\s+`: a run of white space, without its last character if text follows.
fn spaces(text: &str) -> usize {
    let len = run(text, |c| class(c) == Class::Space);
    let last = text[..len].chars().next_back().map_or(0, char::len_utf8);
    if len < text.len() && len > last { len - last } else { len }
}

fn word_rule(text: &str, rule: WordRule) -> usize {
    let len = contraction(text, true, rule.folded);
    if len > 0 {
        return len;
    }
    let is_word = |c: char| match class(c) {
        Class::Letter => true,
        Class::Mark => rule.marks,
        _ => false,
    };
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let second = chars.next();
    let lead = first.len_utf8();
    let first_class = class(first);
    let newline = |c: char| matches!(c, '\r' | '\n');
    if is_word(first) || (!newline(first) && first_class != Class::Number && second.is_some_and(is_word)) {
        return lead + run(&text[lead..], is_word);
    }
    if first_class == Class::Number {
        let mut digits = text.char_indices().skip_while({
            let mut left = rule.digits;
            move |&(_, c)| {
                let more = left > 0 && class(c) == Class::Number;
                left = left.saturating_sub(1);
                more
            }
        });
        return digits.next().map_or(text.len(), |(at, _)| at);
    }
    let is_symbol = |c: char| !is_word(c) && !matches!(class(c), Class::Space | Class::Number);
    let skip = usize::from(first == ' ');
    let symbols = run(&text[skip..], is_symbol);
    if symbols > 0 {
        let end = skip + symbols;
        return end + run(&text[end..], newline);
    }
    let white = run(text, |c| class(c) == Class::Space);
    match text[..white].rfind(newline) {
        Some(at) => at + 1,
        None => spaces(text),
    }
}

#[cfg(test)]
mod tests;
