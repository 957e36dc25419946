//! The layouts of preference stages: pairs of a chosen and a rejected answer, and answers with a judgement.

use super::{
    FROM_VALUE, Object, ROLE_CONTENT, field, message, message_list, messages, string, system_message, wrong,
};
use crate::error::ErrorKind;
use crate::record::{Message, RecordKind, Role};
use serde_json::Value;

/// How the turns of HH-RLHF begin.
const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Lists of `chosen` and `rejected` may repeat the prompt's turns.
pub(super) fn prompt_chosen_rejected(object: &Object) -> Result<RecordKind, ErrorKind> {
    let mut prompt = system_message(object)?;
    prompt.extend(turns(object, "prompt", Role::User)?);
    let side = |name| turns(object, name, Role::Assistant);
    let (chosen, rejected) = (side("chosen")?, side("rejected")?);
    let answers = |messages: &[Message]| messages.first().is_none_or(|first| first.role == Role::Assistant);
    if answers(&chosen) && answers(&rejected) {
        return Ok(RecordKind::Preference { prompt, chosen, rejected });
    }
    let mut both = system_message(object)?;
    let (shared, chosen, rejected) = split_common(chosen, rejected);
    both.extend(shared);
    Ok(RecordKind::Preference { prompt: both, chosen, rejected })
}

/// The prompt is what both lists begin with.
pub(super) fn chosen_rejected(object: &Object) -> Result<RecordKind, ErrorKind> {
    let side = |name| match object.get(name) {
        Some(Value::Array(items)) => message_list(items, name, ROLE_CONTENT),
        _ => Err(wrong(object, name, "a list of messages")),
    };
    let mut prompt = system_message(object)?;
    let (shared, chosen, rejected) = split_common(side("chosen")?, side("rejected")?);
    prompt.extend(shared);
    Ok(RecordKind::Preference { prompt, chosen, rejected })
}

/// The prompt is what both texts begin with, in whole turns.
pub(super) fn human_assistant(object: &Object) -> Result<RecordKind, ErrorKind> {
    let side = |name| {
        let expected = "turns that begin with \"\\n\\nHuman:\" or \"\\n\\nAssistant:\"";
        spoken_turns(string(object, name)?).ok_or_else(|| field(name, expected, "a text without"))
    };
    let (prompt, chosen, rejected) = split_common(side("chosen")?, side("rejected")?);
    Ok(RecordKind::Preference { prompt, chosen, rejected })
}

pub(super) fn conversations_chosen_rejected(object: &Object) -> Result<RecordKind, ErrorKind> {
    let prompt = messages(object, "conversations", FROM_VALUE)?;
    let side = |name| match object.get(name) {
        Some(turn @ Value::Object(_)) => Ok(vec![message(turn, name, FROM_VALUE)?]),
        _ => Err(wrong(object, name, "an object of `from` and `value`")),
    };
    Ok(RecordKind::Preference { prompt, chosen: side("chosen")?, rejected: side("rejected")? })
}

pub(super) fn rated_completion(object: &Object) -> Result<RecordKind, ErrorKind> {
    let mut messages = system_message(object)?;
    messages.extend(turns(object, "prompt", Role::User)?);
    messages.extend(turns(object, "completion", Role::Assistant)?);
    Ok(RecordKind::Rated { messages, good: label(object)? })
}

pub(super) fn rated_messages(object: &Object) -> Result<RecordKind, ErrorKind> {
    let messages = messages(object, "messages", ROLE_CONTENT)?;
    Ok(RecordKind::Rated { messages, good: label(object)? })
}

fn label(object: &Object) -> Result<bool, ErrorKind> {
    object.get("label").and_then(Value::as_bool).ok_or_else(|| wrong(object, "label", "true or false"))
}

/// A field that is a text, said by `speaker`, or a list of messages, which may be empty.
fn turns(object: &Object, name: &str, speaker: Role) -> Result<Vec<Message>, ErrorKind> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(vec![Message { role: speaker, content: text.clone() }]),
        Some(Value::Array(items)) => message_list(items, name, ROLE_CONTENT),
        _ => Err(wrong(object, name, "a string or a list of messages")),
    }
}

/// The turns that both sides begin with, and what is left of each: at least its last turn.
fn split_common(
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> (Vec<Message>, Vec<Message>, Vec<Message>) {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared = chosen.iter().zip(&rejected).take(most).take_while(|(a, b)| a == b).count();
    let own = (chosen.split_off(shared), rejected.split_off(shared));
    (chosen, own.0, own.1)
}

/// The turns of a text, without white space around them; turns of one speaker in a row are one. `None` if the text does
/// not begin with a turn.
fn spoken_turns(text: &str) -> Option<Vec<Message>> {
    let starts = text.match_indices(':').filter_map(|(colon, _)| {
        let (mark, role) = SPEAKERS.into_iter().find(|(mark, _)| text[..=colon].ends_with(mark))?;
        Some((colon + 1 - mark.len(), colon + 1, role))
    });
    let mut starts = starts.peekable();
    let (first, ..) = *starts.peek()?;
    let mut turns: Vec<Message> = Vec::new();
    while let Some((_, start, role)) = starts.next() {
        let content = text[start..starts.peek().map_or(text.len(), |&(next, ..)| next)].trim();
        match turns.last_mut().filter(|last| last.role == role) {
            Some(last) => last.content = format!("{}\n\n{content}", last.content).trim().to_owned(),
            None => turns.push(Message { role, content: content.to_owned() }),
        }
    }
    text[..first].trim().is_empty().then_some(turns)
}

#[cfg(test)]
mod tests;
