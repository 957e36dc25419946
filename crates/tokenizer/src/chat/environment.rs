//! The Jinja environment of chat templates, as Hugging Face sets it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind as JinjaKind, State, Value, context};

use super::Message;
use super::marks::Marks;
use crate::error::{ErrorKind, TokenizerError};
use crate::tokenizer::Tokenizer;

const NAME: &str = "chat";

/// A compiled template.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
    source: String,
    has_generation_blocks: bool,
    now: Arc<AtomicU64>,
}

impl Engine {
    pub(super) fn new(source: &str) -> Result<Self, TokenizerError> {
        let (source, has_generation_blocks) = mark_generation_blocks(source);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(JinjaKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.add_filter("generation_marks", generation_marks);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = Arc::new(AtomicU64::new(now));
        let clock = Arc::clone(&now);
        environment.add_function("strftime_now", move |format: String| {
            format_time(&format, clock.load(Ordering::Relaxed))
        });
        environment.add_template_owned(NAME, source.clone()).map_err(failed)?;
        Ok(Self { environment, source, has_generation_blocks, now })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn has_generation_blocks(&self) -> bool {
        self.has_generation_blocks
    }

    pub(super) fn set_time(&mut self, unix_seconds: u64) {
        self.now.store(unix_seconds, Ordering::Relaxed);
    }

    /// The rendered text; `protect` gives the text to use for every message's content.
    pub(super) fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        marks: Option<&Marks>,
        protect: &dyn Fn(usize, &str) -> String,
    ) -> Result<String, TokenizerError> {
        let messages: Vec<Value> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                context! { role => message.role.as_str(), content => protect(index, &message.content) }
            })
            .collect();
        let special = tokenizer.special_ids();
        let name = |id: Option<u32>| {
            let text = |id| Value::from(String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned());
            id.map_or(Value::UNDEFINED, text)
        };
        let generation =
            marks.map(Marks::generation).map(|(open, close)| vec![open.to_string(), close.to_string()]);
        let values = context! {
            messages,
            add_generation_prompt,
            bos_token => name(special.bos),
            eos_token => name(special.eos),
            pad_token => name(special.pad),
            unk_token => name(special.unk),
            tools => Value::from(()),
            documents => Value::from(()),
            generation_mark_texts => generation,
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template.render(values).map_err(failed)
    }
}

/// Our error for one of the template engine's.
fn failed(error: Error) -> TokenizerError {
    let place = match error.line() {
        Some(line) => format!("chat template, line {line}"),
        None => "chat template".to_owned(),
    };
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    TokenizerError::new(ErrorKind::Template(text), place)
}

/// Turns `{% generation %}` blocks into filter blocks, which have the same scope and white-space rules.
fn mark_generation_blocks(source: &str) -> (String, bool) {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let mut has_blocks = false;
    while let Some(start) = rest.find("{%") {
        let (before, inside) = rest.split_at(start + 2);
        let Some(len) = inside.find("%}") else { break };
        let tag = &inside[..len];
        let name = tag.trim_matches(['-', '+']).trim();
        text.push_str(before);
        match name {
            "generation" => text.push_str(&tag.replace("generation", "filter generation_marks")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endfilter")),
            _ => text.push_str(tag),
        }
        has_blocks |= name == "generation";
        rest = &inside[len..];
    }
    text.push_str(rest);
    (text, has_blocks)
}

/// Puts the body of a generation block between its marks.
fn generation_marks(state: &State<'_, '_>, body: String) -> Result<String, Error> {
    let marks = state.lookup("generation_mark_texts").unwrap_or_default();
    let mark = |index: usize| marks.get_item_by_index(index).ok().and_then(|v| v.as_str().map(str::to_owned));
    match (mark(0), mark(1)) {
        (Some(open), Some(close)) => Ok(format!("{open}{body}{close}")),
        _ => Ok(body),
    }
}

/// `tojson` as Python's `json.dumps` writes it.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => Some((item.clone(), key.clone())),
        _ => None,
    };
    let indent = options.get::<Option<usize>>("indent")?.map(|spaces| spaces.min(16));
    let item = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or((item.to_owned(), ": ".to_owned()));
    let style = JsonStyle {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
    };
    options.assert_all_used()?;
    let mut text = String::new();
    style.write(&value, 0, &mut text)?;
    Ok(Value::from_safe_string(text))
}

/// The options of `json.dumps`.
struct JsonStyle {
    ascii: bool,
    sort: bool,
    indent: Option<usize>,
    item: String,
    key: String,
}

impl JsonStyle {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > 64 {
            return Err(Error::new(JinjaKind::InvalidOperation, "tojson: too deep"));
        }
        match value.kind() {
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.list(('{', '}'), &keys, depth, out, |key, out| {
                    self.string(&key.to_string(), out);
                    out.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(('[', ']'), &items, depth, out, |item, out| self.write(item, depth + 1, out))
            }
            ValueKind::String => {
                self.string(value.as_str().unwrap_or_default(), out);
                Ok(())
            }
            ValueKind::None | ValueKind::Undefined => {
                out.push_str("null");
                Ok(())
            }
            ValueKind::Bool => {
                out.push_str(if value.is_true() { "true" } else { "false" });
                Ok(())
            }
            ValueKind::Number => {
                out.push_str(&value.to_string());
                Ok(())
            }
            other => Err(Error::new(JinjaKind::InvalidOperation, format!("tojson: cannot write {other}"))),
        }
    }

    fn list(
        &self,
        brackets: (char, char),
        items: &[Value],
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(brackets.0);
        let line = |depth: usize| self.indent.map(|spaces| format!("\n{}", " ".repeat(spaces * depth)));
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item);
            }
            out.push_str(&line(depth + 1).unwrap_or_default());
            write(item, out)?;
        }
        if !items.is_empty() {
            out.push_str(&line(depth).unwrap_or_default());
        }
        out.push(brackets.1);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        for c in serde_json::Value::from(text).to_string().chars() {
            if self.ascii && !c.is_ascii() {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(c);
            }
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// `strftime` in UTC, for the directives that templates use; others are an error.
fn format_time(format: &str, unix_seconds: u64) -> Result<String, Error> {
    let days = unix_seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (unix_seconds / 3600 % 24, unix_seconds / 60 % 60, unix_seconds % 60);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => text.push_str(&year.to_string()),
            Some('y') => text.push_str(&format!("{:02}", year % 100)),
            Some('m') => text.push_str(&format!("{month:02}")),
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('B') => text.push_str(month_name),
            Some('b') => text.push_str(&month_name[..3]),
            Some('A') => text.push_str(day_name),
            Some('a') => text.push_str(&day_name[..3]),
            Some('H') => text.push_str(&format!("{hour:02}")),
            Some('M') => text.push_str(&format!("{minute:02}")),
            Some('S') => text.push_str(&format!("{second:02}")),
            Some('%') => text.push('%'),
            other => {
                let why =
                    format!("strftime_now: no directive %{}", other.map_or(String::new(), String::from));
                return Err(Error::new(JinjaKind::InvalidOperation, why));
            }
        }
    }
    Ok(text)
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01: whole 400-year cycles of 146,097 days,
/// counted from March so that the leap day comes last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * cycle + year_of_cycle + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_formatted_like_strftime() {
        let format = "%a %A %d %b %B %Y-%m-%d %y %H:%M:%S %%";
        assert_eq!(
            format_time(format, 951_826_245).unwrap(),
            "Tue Tuesday 29 Feb February 2000-02-29 00 12:10:45 %"
        );
        assert_eq!(format_time("%d %b %Y", 0).unwrap(), "01 Jan 1970");
        assert!(format_time("%Q", 0).unwrap_err().to_string().contains("%Q"));
    }

    #[test]
    fn tojson_is_python_s() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", to_json);
        let render = |expression: &str| {
            let value =
                context! { v => context! { b => vec![1, 2], a => "é<\"\n", n => (), t => true, f => 0.5 } };
            environment.render_str(&format!("{{{{ {expression} }}}}"), value).unwrap()
        };
        assert_eq!(
            render("v|tojson(sort_keys=true)"),
            r#"{"a": "é<\"\n", "b": [1, 2], "f": 0.5, "n": null, "t": true}"#
        );
        assert_eq!(render("v.a|tojson(ensure_ascii=true)"), r#""\u00e9<\"\n""#);
        assert_eq!(render("[v.b, []]|tojson(indent=2)"), "[\n  [\n    1,\n    2\n  ],\n  []\n]");
        assert_eq!(render("v.b|tojson(separators=[',', ':'])"), "[1,2]");
    }

    #[test]
    fn generation_blocks_become_filters() {
        let (text, has) = mark_generation_blocks("a{%- generation -%}b{% endgeneration %}{% if x %}");
        assert_eq!(text, "a{%- filter generation_marks -%}b{% endfilter %}{% if x %}");
        assert!(has);
        assert!(!mark_generation_blocks("{{ generation }}{% set generation = 1 %}").1);
        assert_eq!(mark_generation_blocks("a{%}b"), ("a{%}b".to_owned(), false));
    }
}
