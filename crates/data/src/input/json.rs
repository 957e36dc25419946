//! Cuts a JSON list, or objects that stand one after another, into single objects without reading it whole.

use super::Located;
use super::lines::Lines;
use crate::error::ErrorKind;
use serde_json::{Map, Value};

/// Where the reader stands in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Start,
    /// In a list, before its first object.
    ListStart,
    /// In a list, after an object.
    AfterItem,
    /// Objects one after another.
    Sequence,
    End,
}

/// Iterator state over the objects of a `.json` file.
#[derive(Debug, Default)]
pub(super) struct Objects {
    state: State,
}

impl Objects {
    /// The text of the next object with the line it begins on.
    pub(super) fn next(&mut self, lines: &mut Lines) -> Result<Option<(u64, String)>, Located> {
        loop {
            let byte = skip_space(lines)?;
            match (self.state, byte) {
                (State::End | State::Start | State::Sequence, None) => return Ok(None),
                (State::ListStart | State::AfterItem, None) => {
                    return Err((ErrorKind::EndsInside("the list"), lines.line()));
                }
                (State::Start, Some(b'[')) => {
                    lines.advance(b'[');
                    self.state = State::ListStart;
                }
                (State::ListStart | State::AfterItem, Some(b']')) => {
                    lines.advance(b']');
                    self.state = State::End;
                }
                (State::AfterItem, Some(b',')) => {
                    lines.advance(b',');
                    if skip_space(lines)? != Some(b'{') {
                        return Err(unexpected(lines, "an object after the comma"));
                    }
                    return object(lines).map(Some);
                }
                (State::ListStart, Some(b'{')) => {
                    self.state = State::AfterItem;
                    return object(lines).map(Some);
                }
                (State::Start | State::Sequence, Some(b'{')) => {
                    self.state = State::Sequence;
                    return object(lines).map(Some);
                }
                (State::Start, Some(_)) => return Err(unexpected(lines, "`[` or `{`")),
                (State::AfterItem, Some(_)) => return Err(unexpected(lines, "`,` or `]`")),
                (State::ListStart | State::Sequence, Some(_)) => return Err(unexpected(lines, "an object")),
                (State::End, Some(_)) => return Err(unexpected(lines, "the end of the file")),
            }
        }
    }
}

fn unexpected(lines: &Lines, expected: &str) -> Located {
    let problem = format!("expected {expected}, found something else");
    (ErrorKind::Json { column: 1, problem }, lines.line())
}

fn skip_space(lines: &mut Lines) -> Result<Option<u8>, Located> {
    while let Some(byte) = lines.peek()? {
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Ok(Some(byte));
        }
        lines.advance(byte);
    }
    Ok(None)
}

/// Reads from `{` to the brace that closes it; brackets inside strings do not count.
fn object(lines: &mut Lines) -> Result<(u64, String), Located> {
    let first_line = lines.line();
    let (mut text, mut depth, mut in_string, mut escaped) = (Vec::new(), 0usize, false, false);
    let closes = |byte: u8| {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    if !lines.take_through(closes, &mut text)? {
        return Err((ErrorKind::EndsInside("a record"), first_line));
    }
    String::from_utf8(text).map(|text| (first_line, text)).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        (ErrorKind::InvalidUtf8 { byte }, first_line)
    })
}

/// Parses one object.
pub(super) fn parse_object(text: &str) -> Result<Map<String, Value>, ErrorKind> {
    match parse_value(text)? {
        Value::Object(object) => Ok(object),
        other => Err(ErrorKind::Field {
            field: "(the record)".into(),
            expected: "an object".into(),
            found: super::layout::type_name(&other).into(),
        }),
    }
}

/// Parses one JSON value; the error names the column in the text.
pub(crate) fn parse_value(text: &str) -> Result<Value, ErrorKind> {
    serde_json::from_str(text).map_err(|error| {
        let whole = error.to_string();
        let problem = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
        ErrorKind::Json { column: error.column(), problem }
    })
}
