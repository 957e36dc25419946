//! Every layout of pairs and judgements, and what is wrong with some.

use super::super::Layout;
use super::*;
use crate::input::json::parse_object;
use Role::{Assistant, System, User};

fn read(json: &str) -> Result<(Layout, RecordKind), ErrorKind> {
    let object = parse_object(json)?;
    let layout = Layout::of(&object)?;
    Ok((layout, layout.read(&object)?))
}

fn turns(turns: &[(Role, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, text)| Message { role, content: text.to_owned() }).collect()
}

fn pair(prompt: &[(Role, &str)], chosen: &[(Role, &str)], rejected: &[(Role, &str)]) -> RecordKind {
    RecordKind::Preference { prompt: turns(prompt), chosen: turns(chosen), rejected: turns(rejected) }
}

#[test]
fn every_layout_becomes_the_same_pair() {
    let expected = pair(&[(User, "q")], &[(Assistant, "a")], &[(Assistant, "b")]);
    let turn = |role: &str, text: &str| format!(r#"{{"role":"{role}","content":"{text}"}}"#);
    let (q, a, b) = (turn("user", "q"), turn("assistant", "a"), turn("assistant", "b"));
    use Layout::{ChosenRejected, ConversationsChosenRejected, HumanAssistant, PromptChosenRejected};
    for (layout, json) in [
        (PromptChosenRejected, r#"{"prompt":"q","chosen":"a","rejected":"b"}"#.to_owned()),
        (PromptChosenRejected, format!(r#"{{"prompt":[{q}],"chosen":[{a}],"rejected":"b"}}"#)),
        (PromptChosenRejected, format!(r#"{{"prompt":"q","chosen":[{q},{a}],"rejected":[{q},{b}],"messages":[{q},{a}]}}"#)),
        (ChosenRejected, format!(r#"{{"chosen":[{q},{a}],"rejected":[{q},{b}]}}"#)),
        (HumanAssistant, r#"{"chosen":"\n\nHuman: q\n\nAssistant: a ","rejected":"\n\nHuman:q \n\nAssistant: b\n"}"#.into()),
        (
            ConversationsChosenRejected,
            r#"{"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"a"},"rejected":{"from":"gpt","value":"b"}}"#.into(),
        ),
    ] {
        assert_eq!(read(&json).unwrap(), (layout, expected.clone()), "{json}");
    }
}

#[test]
fn a_system_message_leads_and_the_shared_beginning_is_the_prompt() {
    let system = pair(&[(System, "s"), (User, "q")], &[(Assistant, "a")], &[(Assistant, "b")]);
    let lists = r#""chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"b"}]"#;
    for json in [
        r#"{"system":"s","prompt":"q","chosen":"a","rejected":"b"}"#.to_owned(),
        format!(r#"{{"system":"s",{lists}}}"#),
        format!(r#"{{"system":"s","prompt":"q",{lists}}}"#),
        format!("{{{lists}}}").replace('[', r#"[{"role":"system","content":"s"},"#),
    ] {
        assert_eq!(read(&json).unwrap().1, system, "{json}");
    }
}

#[test]
fn turns_of_a_text_are_told_apart_and_joined() {
    let hh = |chosen: &str, rejected: &str| {
        let json = serde_json::json!({ "chosen": chosen, "rejected": rejected }).to_string();
        read(&json).map(|(_, kind)| kind)
    };
    let start = "\n\nHuman: q: Human: x\n\nAssistant: Is\n\n\nHuman: r";
    let prompt = [(User, "q: Human: x"), (Assistant, "Is"), (User, "r")];
    // Two answers in a row are one; white space around turns does not count.
    let kind =
        hh(&format!("{start}\n\nAssistant: a\n\nAssistant: b"), &format!("{start}\n\nAssistant:")).unwrap();
    assert_eq!(kind, pair(&prompt, &[(Assistant, "a\n\nb")], &[(Assistant, "")]));
    // A side keeps its last turn, also where all are shared.
    let whole = format!("{start}\n\nAssistant: a");
    assert_eq!(hh(&whole, &whole).unwrap(), pair(&prompt, &[(Assistant, "a")], &[(Assistant, "a")]));
    let longer = hh(&whole, &format!("{whole}\n\nHuman: h")).unwrap();
    assert_eq!(longer, pair(&prompt, &[(Assistant, "a")], &[(Assistant, "a"), (User, "h")]));
    for text in ["", "q", "q\n\nHuman: r", "Human: q"] {
        let error = hh(&whole, text).unwrap_err().to_string();
        assert!(
            error.starts_with("field `rejected`: expected turns that begin with \"\\n\\nHuman:\""),
            "{error}"
        );
    }
}

#[test]
fn a_label_makes_a_judgement() {
    let expected = |good| RecordKind::Rated { messages: turns(&[(User, "q"), (Assistant, "a")]), good };
    for (layout, good, json) in [
        (Layout::RatedCompletion, true, r#"{"prompt":"q","completion":"a","label":true}"#),
        (
            Layout::RatedCompletion,
            false,
            r#"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}],"label":false}"#,
        ),
        (
            Layout::RatedMessages,
            false,
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"label":false}"#,
        ),
    ] {
        assert_eq!(read(json).unwrap(), (layout, expected(good)), "{json}");
    }
    // A label of another kind is a field like others.
    assert_eq!(read(r#"{"prompt":"q","completion":"a","label":1}"#).unwrap().0, Layout::PromptCompletion);
}

#[test]
fn a_wrong_field_is_named() {
    for (json, expected) in [
        (
            r#"{"prompt":7,"chosen":"a","rejected":"b"}"#,
            "field `prompt`: expected a string or a list of messages, found a number",
        ),
        (
            r#"{"prompt":"q","chosen":"a","rejected":null}"#,
            "field `rejected`: expected a string or a list of messages, found null",
        ),
        (r#"{"chosen":[],"rejected":"b"}"#, "field `rejected`: expected a list of messages, found a string"),
        (r#"{"chosen":"\n\nHuman: q","rejected":[]}"#, "field `rejected`: expected a string, found a list"),
        (
            r#"{"chosen":[{"role":"tool","content":"a"}],"rejected":[]}"#,
            "field `chosen[0].role`: expected a role among system, user (human), assistant (gpt), found `tool`",
        ),
        (
            r#"{"conversations":[{"from":"human","value":"q"}],"chosen":"a","rejected":"b"}"#,
            "field `chosen`: expected an object of `from` and `value`, found a string",
        ),
    ] {
        assert_eq!(read(json).unwrap_err().to_string(), expected, "{json}");
    }
    let object = parse_object(r#"{"messages":[{"role":"user","content":"q"}],"label":"yes"}"#).unwrap();
    let error = Layout::RatedMessages.read(&object).unwrap_err().to_string();
    assert_eq!(error, "field `label`: expected true or false, found a string");
}
