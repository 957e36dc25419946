//! TOML text and overrides to a [`Recipe`], with errors that name file, line and key.
//!
//! Each override is read as a TOML document of its own, padded so that its positions continue those of the file;
//! one position then tells which of them an error is about.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Recipe, check, dial};
use crate::TrainError;

/// Longest recipe that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Recipe {
    /// Reads a recipe file and applies `key.sub=value` overrides.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with file and line (or the override) and key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let size = fs::metadata(path).map_err(TrainError::file(path, "read"))?.len();
        if size > MAX_BYTES {
            let problem = format!("a recipe of {size} bytes; at most {MAX_BYTES} are read");
            return Err(TrainError::Recipe {
                place: path.display().to_string(),
                key: String::new(),
                problem,
            });
        }
        let text = fs::read_to_string(path).map_err(TrainError::file(path, "read"))?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// The same from text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, name: &str, overrides: &[String]) -> Result<Self, TrainError> {
        let source = Source::new(text, name, overrides);
        // Lives longer than the table that borrows from it.
        let mut derived = String::new();
        let mut table = source.table(text)?;
        for document in &source.overrides {
            let changes = source.table(&document.padded)?.into_inner();
            drop_replaced(table.get_mut(), &changes);
            merge(table.get_mut(), changes);
        }
        let problem = |table: &DeTable<'_>, (key, problem): check::Problem| TrainError::Recipe {
            place: source.place(span_of(table, key)),
            key: key.into(),
            problem,
        };
        let added = dial::derive(table.get_ref()).map_err(|found| problem(table.get_ref(), found))?;
        derived += &" ".repeat(source.end());
        derived += &added;
        merge(table.get_mut(), source.table(&derived)?.into_inner());
        let located = table.clone();
        let recipe = Recipe::deserialize(table.into_deserializer())
            .map_err(|error| source.error(error.span(), located.get_ref(), error.message()))?;
        check::check(&recipe).map_err(|found| problem(located.get_ref(), found))?;
        Ok(recipe)
    }
}

/// The file and its overrides, one after the other.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
    overrides: Vec<Override<'a>>,
}

struct Override<'a> {
    typed: &'a str,
    /// `key = value` after as many spaces as text precedes it.
    padded: String,
}

impl<'a> Source<'a> {
    fn new(text: &'a str, name: &'a str, overrides: &'a [String]) -> Self {
        let mut start = text.len() + 1;
        let mut read = |typed: &'a String| {
            let padded = " ".repeat(start) + &as_toml(typed);
            start = padded.len() + 1;
            Override { typed, padded }
        };
        Self { text, name, overrides: overrides.iter().map(&mut read).collect() }
    }

    /// A position after all of them.
    fn end(&self) -> usize {
        self.overrides.last().map_or(self.text.len(), |last| last.padded.len()) + 1
    }

    fn table<'b>(&self, text: &'b str) -> Result<Spanned<DeTable<'b>>, TrainError> {
        DeTable::parse(text).map_err(|error| self.error(error.span(), &DeTable::new(), error.message()))
    }

    fn error(&self, span: Option<Range<usize>>, table: &DeTable<'_>, message: &str) -> TrainError {
        let key = span.as_ref().map_or_else(String::new, |span| key_at(table, span));
        TrainError::Recipe { place: self.place(span), key, problem: message.trim_end().replace('\n', ", ") }
    }

    fn place(&self, span: Option<Range<usize>>) -> String {
        let Some(span) = span else { return self.name.into() };
        if span.start <= self.text.len() {
            let line = 1 + self.text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count();
            return format!("{}:{line}", self.name);
        }
        let typed = self.overrides.iter().find(|item| span.start <= item.padded.len());
        typed.map_or_else(|| self.name.into(), |item| format!("--set {}", item.typed))
    }
}

/// `key=value` as a line of TOML; a value that TOML does not know is taken as a string.
fn as_toml(typed: &str) -> String {
    let Some((key, value)) = typed.split_once('=') else { return typed.into() };
    let line = format!("{} = {}", key.trim(), value.trim());
    if DeTable::parse(&line).is_ok() {
        return line;
    }
    format!("{} = {}", key.trim(), toml::Value::from(value.trim()))
}

/// Keys of one section that exclude each other: an override of one takes the place of the others.
const EXCLUSIVE: [(&str, &[&str]); 4] = [
    ("model", &["preset", "config", "from", "size"]),
    ("tokenizer", &["path", "train"]),
    ("train", &["steps", "minutes"]),
    ("train", &["warmup_steps", "warmup_share"]),
];

fn drop_replaced(table: &mut DeTable<'_>, changes: &DeTable<'_>) {
    for (section, keys) in EXCLUSIVE {
        let changed = changes.get(section).and_then(|section| section.get_ref().as_table());
        let Some(changed) = changed.filter(|changed| keys.iter().any(|key| changed.contains_key(*key)))
        else {
            continue;
        };
        if let Some(DeValue::Table(old)) = table.get_mut(section).map(Spanned::get_mut) {
            keys.iter().filter(|key| !changed.contains_key(**key)).for_each(|key| {
                old.remove(*key);
            });
        }
    }
}

fn merge<'a>(table: &mut DeTable<'a>, overrides: DeTable<'a>) {
    for (key, value) in overrides {
        match (table.get_mut(&key).map(Spanned::get_mut), value) {
            (Some(DeValue::Table(old)), value) if value.get_ref().is_table() => {
                if let DeValue::Table(new) = value.into_inner() {
                    merge(old, new);
                }
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// Path of the deepest key whose name or value holds `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> String {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        if key.span() == *span {
            return key.get_ref().to_string();
        }
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, span),
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| item.get_ref().as_table())
                .map(|item| key_at(item, span))
                .collect(),
            _ => String::new(),
        };
        if !inner.is_empty() {
            return format!("{}.{inner}", key.get_ref());
        }
        if holds(value.span()) {
            return key.get_ref().to_string();
        }
    }
    String::new()
}

/// Where the value of a dotted key stands, or the nearest table around it that is there.
fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let (_, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    let inner =
        value.get_ref().as_table().filter(|_| !rest.is_empty()).and_then(|inner| span_of(inner, rest));
    inner.or(Some(value.span()))
}
