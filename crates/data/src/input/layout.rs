//! The layouts of JSON records: which fields they have and how they become a text or a conversation.

use crate::error::ErrorKind;
use crate::record::{Message, RecordKind, Role};
use serde_json::{Map, Value};

mod pairs;

type Object = Map<String, Value>;

/// Layout of the records of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `text`.
    Text,
    /// `messages`: a list of `role` and `content`.
    Messages,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `question` and `answer`.
    QuestionAnswer,
    /// Alpaca: `instruction`, `input` (may be absent), `output`; Dolly's `context` and `response` also.
    Alpaca,
    /// ShareGPT: `conversations`, a list of `from` and `value`.
    ShareGpt,
    /// `prompt`, `chosen` and `rejected`, each a text or a list of `role` and `content`.
    PromptChosenRejected,
    /// `chosen` and `rejected`: lists of `role` and `content` that begin with the same turns.
    ChosenRejected,
    /// HH-RLHF: `chosen` and `rejected`, texts whose turns begin with `Human:` and `Assistant:` after a blank line.
    HumanAssistant,
    /// LLaMA-Factory: `conversations` as in ShareGPT, `chosen` and `rejected` one `from` and `value` each.
    ConversationsChosenRejected,
    /// KTO: `prompt` and `completion`, each a text or a list of `role` and `content`, and `label`, true or false.
    RatedCompletion,
    /// KTO: `messages` and `label`, true or false.
    RatedMessages,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt and completion",
            Self::QuestionAnswer => "question and answer",
            Self::Alpaca => "instruction and output (Alpaca)",
            Self::ShareGpt => "conversations (ShareGPT)",
            Self::PromptChosenRejected => "prompt, chosen and rejected",
            Self::ChosenRejected => "chosen and rejected messages",
            Self::HumanAssistant => "chosen and rejected turns (HH-RLHF)",
            Self::ConversationsChosenRejected => "conversations, chosen and rejected (LLaMA-Factory)",
            Self::RatedCompletion => "prompt, completion and label (KTO)",
            Self::RatedMessages => "messages and label (KTO)",
        })
    }
}

impl Layout {
    /// The layout whose fields the object has.
    pub(super) fn of(object: &Object) -> Result<Self, ErrorKind> {
        let has = |field| object.contains_key(field);
        if has("chosen") && has("rejected") {
            return Ok(match object.get("chosen") {
                _ if has("prompt") => Self::PromptChosenRejected,
                _ if has("conversations") => Self::ConversationsChosenRejected,
                Some(Value::String(_)) => Self::HumanAssistant,
                _ => Self::ChosenRejected,
            });
        }
        let rated = object.get("label").is_some_and(Value::is_boolean);
        if rated && has("messages") {
            Ok(Self::RatedMessages)
        } else if rated && has("prompt") && has("completion") {
            Ok(Self::RatedCompletion)
        } else if has("messages") {
            Ok(Self::Messages)
        } else if has("conversations") {
            Ok(Self::ShareGpt)
        } else if has("instruction") {
            Ok(Self::Alpaca)
        } else if has("prompt") && has("completion") {
            Ok(Self::PromptCompletion)
        } else if has("question") && has("answer") {
            Ok(Self::QuestionAnswer)
        } else if has("text") {
            Ok(Self::Text)
        } else {
            Err(ErrorKind::UnknownLayout { found: field_names(object) })
        }
    }

    /// Reads an object that must have this layout.
    pub(super) fn read(self, object: &Object) -> Result<RecordKind, ErrorKind> {
        match self {
            Self::Text => Ok(RecordKind::Text(string(object, "text")?.to_owned())),
            Self::Messages => messages(object, "messages", ROLE_CONTENT).map(RecordKind::Chat),
            Self::ShareGpt => messages(object, "conversations", FROM_VALUE).map(RecordKind::Chat),
            Self::PromptCompletion => pair(object, string(object, "prompt")?, string(object, "completion")?),
            Self::QuestionAnswer => pair(object, string(object, "question")?, string(object, "answer")?),
            Self::Alpaca => alpaca(object),
            Self::PromptChosenRejected => pairs::prompt_chosen_rejected(object),
            Self::ChosenRejected => pairs::chosen_rejected(object),
            Self::HumanAssistant => pairs::human_assistant(object),
            Self::ConversationsChosenRejected => pairs::conversations_chosen_rejected(object),
            Self::RatedCompletion => pairs::rated_completion(object),
            Self::RatedMessages => pairs::rated_messages(object),
        }
    }
}

/// Names of a message's fields: who speaks, and what.
type FieldNames = [&'static str; 2];

const ROLE_CONTENT: FieldNames = ["role", "content"];
const FROM_VALUE: FieldNames = ["from", "value"];

fn alpaca(object: &Object) -> Result<RecordKind, ErrorKind> {
    let instruction = string(object, "instruction")?;
    let input = match optional_string(object, "input")? {
        None => optional_string(object, "context")?,
        input => input,
    };
    let output = match optional_string(object, "response")? {
        Some(response) if !object.contains_key("output") => response,
        _ => string(object, "output")?,
    };
    match input {
        Some(input) if !input.trim().is_empty() => pair(object, &format!("{instruction}\n\n{input}"), output),
        _ => pair(object, instruction, output),
    }
}

fn pair(object: &Object, prompt: &str, completion: &str) -> Result<RecordKind, ErrorKind> {
    let mut messages = system_message(object)?;
    messages.push(Message { role: Role::User, content: prompt.to_owned() });
    messages.push(Message { role: Role::Assistant, content: completion.to_owned() });
    Ok(RecordKind::Chat(messages))
}

/// The field `system` that several layouts have beside their turns.
fn system_message(object: &Object) -> Result<Vec<Message>, ErrorKind> {
    let system = optional_string(object, "system")?.filter(|text| !text.trim().is_empty());
    Ok(system.map(|text| Message { role: Role::System, content: text.to_owned() }).into_iter().collect())
}

/// The field `system` and the messages of a list that is not empty.
fn messages(object: &Object, list: &str, names: FieldNames) -> Result<Vec<Message>, ErrorKind> {
    let Some(Value::Array(items)) = object.get(list) else {
        return Err(wrong(object, list, "a list of messages"));
    };
    if items.is_empty() {
        return Err(field(list, "at least one message", "an empty list"));
    }
    let mut messages = system_message(object)?;
    messages.extend(message_list(items, list, names)?);
    Ok(messages)
}

fn message_list(items: &[Value], list: &str, names: FieldNames) -> Result<Vec<Message>, ErrorKind> {
    let each = items.iter().enumerate();
    each.map(|(index, item)| message(item, &format!("{list}[{index}]"), names)).collect()
}

/// One message; `path` is its place in the record.
fn message(item: &Value, path: &str, [role_field, content_field]: FieldNames) -> Result<Message, ErrorKind> {
    let at = |name: &str| format!("{path}.{name}");
    let Value::Object(item) = item else {
        return Err(field(path, "an object", type_name(item)));
    };
    let text = |name: &str| match item.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        other => Err(field(&at(name), "a string", other.map_or("nothing", type_name))),
    };
    let name = text(role_field)?;
    let role = role(name).ok_or_else(|| {
        let expected = "a role among system, user (human), assistant (gpt)";
        field(&at(role_field), expected, &format!("`{}`", name.chars().take(24).collect::<String>()))
    })?;
    Ok(Message { role, content: text(content_field)?.to_owned() })
}

fn role(name: &str) -> Option<Role> {
    match name {
        "system" => Some(Role::System),
        "user" | "human" => Some(Role::User),
        "assistant" | "gpt" => Some(Role::Assistant),
        _ => None,
    }
}

/// The values of the document fields that are present; numbers count as their decimal text.
pub(super) fn document_ids(object: &Object, fields: &[String]) -> Result<Vec<String>, ErrorKind> {
    let mut ids = Vec::new();
    for name in fields {
        match object.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(id)) if id.is_empty() => {}
            Some(Value::String(id)) => ids.push(id.clone()),
            Some(Value::Number(id)) => ids.push(id.to_string()),
            Some(_) => return Err(wrong(object, name, "a string or a number that names the document")),
        }
    }
    Ok(ids)
}

fn string<'a>(object: &'a Object, name: &str) -> Result<&'a str, ErrorKind> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(wrong(object, name, "a string")),
    }
}

fn optional_string<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, ErrorKind> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => string(object, name).map(Some),
    }
}

/// The error for a field that is absent (then the fields that stand there are named) or of another type.
fn wrong(object: &Object, name: &str, expected: &str) -> ErrorKind {
    match object.get(name) {
        Some(value) => field(name, expected, type_name(value)),
        None => field(name, expected, &field_names(object)),
    }
}

fn field(name: &str, expected: &str, found: &str) -> ErrorKind {
    ErrorKind::Field { field: name.into(), expected: expected.into(), found: found.into() }
}

/// The names of an object's fields, at most eight, each at most 24 characters.
fn field_names(object: &Object) -> String {
    if object.is_empty() {
        return "no fields".into();
    }
    let short = |name: &String| format!("`{}`", name.chars().take(24).collect::<String>());
    let names: Vec<String> = object.keys().take(8).map(short).collect();
    let more = if object.len() > 8 { format!(" and {} more", object.len() - 8) } else { String::new() };
    format!("only the fields {}{more}", names.join(", "))
}

/// What a JSON value is, in words.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
