//! A Rust file split into code and comments, line by line, so that rules do not trip over strings and prose.

use std::path::{Path, PathBuf};

/// A Rust source file.
pub struct Source {
    /// Relative to the root of the tree.
    pub path: PathBuf,
    /// The lines, from the first.
    pub lines: Vec<Line>,
}

/// One line of a [`Source`].
#[derive(Default)]
pub struct Line {
    /// The code, without comments and without what stands inside quotes.
    pub code: String,
    /// The text of comments, slashes included.
    pub comment: String,
    /// The line belongs to a test: a `#[cfg(test)]` item or a file of tests.
    pub is_test: bool,
}

/// What the scanner stands in.
#[derive(Clone, Copy)]
enum Inside {
    Code,
    LineComment,
    /// Depth of nesting.
    BlockComment(usize),
    /// The number of `#` that close a raw string; `None` for a string with escapes.
    Quotes(Option<usize>),
}

impl Source {
    /// Splits `text`.
    pub fn new(path: &Path, text: &str) -> Self {
        let mut source = Self { path: path.into(), lines: split(text) };
        source.mark_tests();
        source
    }

    /// Whether the path runs through a folder of this name.
    pub fn is_below(&self, folder: &str) -> bool {
        self.path.parent().is_some_and(|parent| parent.iter().any(|part| part == folder))
    }

    fn mark_tests(&mut self) {
        let is_test_file = self.path.ends_with("tests.rs") || self.is_below("tests");
        let mut index = 0;
        while index < self.lines.len() {
            let begins = self.lines[index].code.trim_start().starts_with("#[cfg(test)]");
            let end = if is_test_file || begins { self.item_end(index) } else { index };
            self.lines[index..=end].iter_mut().for_each(|line| line.is_test |= is_test_file || begins);
            index = end + 1;
        }
    }

    /// The last line of the item whose attributes begin at line `first`: where its braces close, or its semicolon.
    fn item_end(&self, first: usize) -> usize {
        let (mut depth, mut brackets) = (0usize, 0usize);
        for (index, line) in self.lines.iter().enumerate().skip(first) {
            for c in line.code.chars() {
                match c {
                    '[' | '(' => brackets += 1,
                    ']' | ')' => brackets = brackets.saturating_sub(1),
                    '{' => depth += 1,
                    '}' if depth <= 1 => return index,
                    '}' => depth -= 1,
                    ';' if depth == 0 && brackets == 0 => return index,
                    _ => {}
                }
            }
        }
        self.lines.len() - 1
    }
}

fn split(text: &str) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut inside = Inside::Code;
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if rest[0] == '\n' {
            lines.push(Line::default());
            if matches!(inside, Inside::LineComment) {
                inside = Inside::Code;
            }
            at += 1;
            continue;
        }
        let line = lines.last_mut().expect("there is a line");
        let (length, next) = step(rest, inside, &line.code);
        let taken = &rest[..length.min(rest.len())];
        match (inside, next) {
            (Inside::Code, Inside::Code) if taken[0] == '\'' && length > 1 => line.code.push_str("''"),
            (Inside::Code, Inside::Code | Inside::Quotes(_)) => line.code.extend(taken),
            (Inside::Quotes(_), Inside::Code) => line.code.push('"'),
            (Inside::Quotes(_), _) => {}
            _ => line.comment.extend(taken),
        }
        inside = next;
        at += length;
    }
    lines
}

/// How many characters of `rest` (on one line) belong together, and what stands after them.
fn step(rest: &[char], inside: Inside, code_before: &str) -> (usize, Inside) {
    let starts = |pattern: &str| {
        pattern.chars().zip(rest.iter().map(Some).chain(std::iter::repeat(None))).all(|(a, b)| Some(&a) == b)
    };
    match inside {
        Inside::Code if starts("//") => (2, Inside::LineComment),
        Inside::Code if starts("/*") => (2, Inside::BlockComment(1)),
        Inside::Code if starts("\"") => (1, Inside::Quotes(raw_hashes(code_before))),
        Inside::Code if starts("'") => (char_literal(rest), Inside::Code),
        Inside::BlockComment(depth) if starts("/*") => (2, Inside::BlockComment(depth + 1)),
        Inside::BlockComment(1) if starts("*/") => (2, Inside::Code),
        Inside::BlockComment(depth) if starts("*/") => (2, Inside::BlockComment(depth - 1)),
        // A backslash at the end of a line leaves the line's end to be seen.
        Inside::Quotes(None) if starts("\\") && rest.get(1) != Some(&'\n') => (2, inside),
        Inside::Quotes(None) if starts("\"") => (1, Inside::Code),
        Inside::Quotes(Some(hashes))
            if starts("\"") && rest[1..].iter().take_while(|c| **c == '#').count() >= hashes =>
        {
            (1 + hashes, Inside::Code)
        }
        _ => (1, inside),
    }
}

/// For the code before a quote: the number of `#` if it ends like a raw string's opening (`r##`).
fn raw_hashes(code: &str) -> Option<usize> {
    let opening = code.trim_end_matches('#');
    let prefix = opening.strip_suffix('r')?;
    let prefix = prefix.strip_suffix(['b', 'c']).unwrap_or(prefix);
    let is_name = prefix.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    (!is_name).then_some(code.len() - opening.len())
}

/// Length of the character literal that `rest` begins with, or 1 for a lifetime's tick.
fn char_literal(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        let end = rest.iter().skip(3).position(|c| *c == '\'' || *c == '\n');
        end.map_or(rest.len(), |end| end + 4)
    } else if rest.get(2) == Some(&'\'') {
        3
    } else {
        1
    }
}
