//! Changes strings inside the text of a JSON value and leaves every other byte as it is.

use super::parse_value;
use crate::error::ErrorKind;
use std::fmt::Write as _;

/// Where the walk stands: in an object behind this key, or in a list at this place.
enum Level {
    Object { key: String, wants_key: bool },
    List { index: usize },
}

/// Calls `change` with the path (such as `messages[2].content`) and the content of every string value; where it returns
/// a text, that takes the string's place. Names of fields are no values. `None` if nothing changed.
///
/// # Errors
/// The text is not JSON, or a string in it is no Unicode.
pub(crate) fn rewrite_strings(
    json: &str,
    mut change: impl FnMut(&str, &str) -> Option<String>,
) -> Result<Option<String>, ErrorKind> {
    check(json)?;
    let mut levels: Vec<Level> = Vec::new();
    let (mut output, mut copied) = (String::new(), 0);
    let (bytes, mut at) = (json.as_bytes(), 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' => levels.push(Level::Object { key: String::new(), wants_key: true }),
            b'[' => levels.push(Level::List { index: 0 }),
            b'}' | b']' => drop(levels.pop()),
            b':' => {
                if let Some(Level::Object { wants_key, .. }) = levels.last_mut() {
                    *wants_key = false;
                }
            }
            b',' => match levels.last_mut() {
                Some(Level::Object { wants_key, .. }) => *wants_key = true,
                Some(Level::List { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let start = at - 1;
                at = end_of_string(bytes, at);
                let content = content(&json[start..at], start)?;
                if let Some(Level::Object { key, wants_key: true }) = levels.last_mut() {
                    *key = content;
                } else if let Some(changed) = change(&path(&levels), &content) {
                    output.push_str(&json[copied..start]);
                    output.push_str(&serde_json::Value::String(changed).to_string());
                    copied = at;
                }
            }
            _ => {}
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    output.push_str(&json[copied..]);
    Ok(Some(output))
}

/// The walk trusts the text to be JSON.
fn check(json: &str) -> Result<(), ErrorKind> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) => Ok(()),
        // Parsed once more, for the error that all readers give.
        Err(_) => parse_value(json).map(drop),
    }
}

/// One behind the closing quote of a string that begins before `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// What a string with its quotes stands for; `start` is its place in the text.
fn content(quoted: &str, start: usize) -> Result<String, ErrorKind> {
    serde_json::from_str(quoted).map_err(|error| {
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or(&problem).to_owned();
        ErrorKind::Json { column: start + error.column(), problem }
    })
}

fn path(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object { key, .. } if path.is_empty() => path.push_str(key),
            Level::Object { key, .. } => write!(path, ".{key}").expect("writing to a string"),
            Level::List { index } => write!(path, "[{index}]").expect("writing to a string"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(json: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        rewrite_strings(json, |path, text| {
            all.push((path.to_owned(), text.to_owned()));
            None
        })
        .unwrap();
        all
    }

    #[test]
    fn values_are_named_by_their_path_and_keys_are_none() {
        let json =
            r#"{"a": "x", "n": 1.50, "list": [{"b": "y\"\\"}, "z", [ "w"]], "e": {"f": {}}, "g": "\u00e9"}"#;
        let expected =
            [("a", "x"), ("list[0].b", "y\"\\"), ("list[1]", "z"), ("list[2][0]", "w"), ("g", "\u{e9}")];
        assert_eq!(paths(json), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }

    #[test]
    fn only_changed_strings_change() {
        let json = "{\"a\" : \"x\",\t\"n\":1.50e+2, \"b\":\"\\u0041\", \"c\":\"x\"}";
        let changed = rewrite_strings(json, |path, _| (path != "b").then(|| "new \"\n".into())).unwrap();
        assert_eq!(
            changed.unwrap(),
            "{\"a\" : \"new \\\"\\n\",\t\"n\":1.50e+2, \"b\":\"\\u0041\", \"c\":\"new \\\"\\n\"}"
        );
        assert_eq!(rewrite_strings(json, |_, _| None).unwrap(), None);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for json in ["", "{", "{\"a\": \"x}", "{\"a\": \"\\ud800\"}", "{} {}"] {
            assert!(matches!(rewrite_strings(json, |_, _| None), Err(ErrorKind::Json { .. })), "{json}");
        }
    }

    proptest! {
        /// Upper case by the walk is upper case by the parser, whatever the value.
        #[test]
        fn the_walk_sees_what_the_parser_sees(keys in prop::collection::vec(".{0,6}", 1..5), texts in prop::collection::vec("\\PC{0,12}|.{0,8}", 5)) {
            let inner: serde_json::Map<String, serde_json::Value> =
                keys.iter().zip(&texts).map(|(key, text)| (key.clone(), text.clone().into())).collect();
            let value = serde_json::json!({ "in": inner, "list": texts, "n": 1, "deep": [[{ "k": texts[0] }], null, true] });
            let changed = rewrite_strings(&value.to_string(), |_, text| Some(text.to_uppercase())).unwrap().unwrap();
            let upper: Vec<String> = texts.iter().map(|text| text.to_uppercase()).collect();
            let changed: serde_json::Value = serde_json::from_str(&changed).unwrap();
            prop_assert_eq!(&changed["list"], &serde_json::json!(upper));
            prop_assert_eq!(&changed["deep"][0][0]["k"], &serde_json::json!(upper[0]));
            for (key, text) in value["in"].as_object().unwrap() {
                prop_assert_eq!(&changed["in"][key], &serde_json::json!(text.as_str().unwrap().to_uppercase()));
            }
        }
    }
}
