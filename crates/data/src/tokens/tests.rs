//! Token sources out of records.

use super::*;
use crate::record::Role;
use std::path::Path;
use std::sync::Arc;

/// One token a byte, 256 before and 257 after; in conversations 256 before each message and 257 after it.
pub(crate) struct Bytes;

impl Encode for Bytes {
    fn encode_document(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        ids.push(256);
        ids.extend(text.bytes().map(u32::from));
        ids.push(257);
        Ok(())
    }

    fn encode_chat(
        &self,
        messages: &[Message],
        ids: &mut Vec<u32>,
        mask: &mut Vec<bool>,
    ) -> Result<(), EncodeError> {
        if messages.iter().all(|message| message.role != Role::Assistant) {
            return Err("no answer".into());
        }
        for message in messages {
            let before = ids.len();
            self.encode_document(&message.content, ids)?;
            mask.push(false);
            mask.resize(mask.len() + ids.len() - before - 1, message.role == Role::Assistant);
        }
        Ok(())
    }

    fn encode_prompt(&self, messages: &[Message], ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        messages.iter().try_for_each(|message| self.encode_document(&message.content, ids))?;
        ids.push(256);
        Ok(())
    }

    fn decode(&self, ids: &[u32]) -> String {
        ids.iter()
            .map(|&id| match id {
                256 => '<',
                257 => '>',
                byte => char::from(byte as u8),
            })
            .collect()
    }
}

fn record(line: u64, kind: RecordKind) -> Result<Record, DataError> {
    Ok(Record { kind, source_documents: vec![], file: Arc::from(Path::new("f.jsonl")), line })
}

pub(crate) fn chat(question: &str, answer: &str) -> RecordKind {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    RecordKind::Chat(vec![message(Role::User, question), message(Role::Assistant, answer)])
}

fn records(n: usize) -> Vec<Result<Record, DataError>> {
    (0..n)
        .map(|index| {
            let kind = if index % 3 == 0 {
                RecordKind::Text(format!("text {index}"))
            } else {
                chat(&format!("q{index}"), &format!("a{}", index * index))
            };
            record(index as u64 + 1, kind)
        })
        .collect()
}

#[test]
fn texts_and_conversations_keep_their_tokens_and_masks() {
    let (source, report) = tokenize(records(2).into_iter(), &Bytes, Targets::All, 1).unwrap();
    assert_eq!(Bytes.decode(source.document(0).ids), "<text 0>");
    assert_eq!(Bytes.decode(source.document(1).ids), "<q1><a1>");
    assert_eq!(source.document(1).mask, None);
    let expected = TokenizeReport { documents: 2, tokens: 16, targets: 14, bytes: 10 };
    assert_eq!(report, expected);
    let chats = vec![record(1, chat("q1", "a1"))];
    let (source, report) = tokenize(chats.into_iter(), &Bytes, Targets::Answers, 1).unwrap();
    let document = source.document(0);
    let targets: Vec<u32> = (0..8).filter(|&at| document.is_target(at)).map(|at| document.ids[at]).collect();
    assert_eq!(Bytes.decode(&targets), "a1>");
    assert_eq!((report.targets, source.num_tokens()), (3, 8));
}

#[test]
fn threads_change_nothing() {
    let with = |threads| tokenize(records(1300).into_iter(), &Bytes, Targets::All, threads).unwrap();
    let (one, report) = with(1);
    assert_eq!(report.documents, 1300);
    for threads in [0, 2, 3, 7] {
        let (many, same_report) = with(threads);
        assert_eq!(many.fingerprint(), one.fingerprint());
        assert_eq!(same_report, report);
    }
}

#[test]
fn what_cannot_be_learned_from_is_named_by_file_and_line() {
    let error = tokenize(records(1).into_iter(), &Bytes, Targets::Answers, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.jsonl:1: expected a conversation to learn answers from, found a plain text"
    );
    let question = Message { role: Role::User, content: "q".into() };
    let no_answer = vec![record(7, RecordKind::Chat(vec![question]))];
    let error = tokenize(no_answer.into_iter(), &Bytes, Targets::Answers, 1).unwrap_err();
    assert_eq!(error.to_string(), "f.jsonl:7: tokenizer: no answer");
    let broken = vec![record(1, chat("q", "a")), Err(ErrorKind::Empty.into())];
    assert!(tokenize(broken.into_iter(), &Bytes, Targets::All, 1).is_err());
}

#[test]
fn the_fingerprint_sees_ids_borders_and_masks() {
    let source = |documents: &[(&[u32], Option<&[bool]>)]| {
        let mut source = TokenSource::new();
        for (ids, mask) in documents {
            match mask {
                Some(mask) => source.push_masked(ids, mask),
                None => source.push_text(ids),
            }
        }
        source.fingerprint()
    };
    let all = [
        source(&[(&[1, 2, 3], None)]),
        source(&[(&[1, 2, 4], None)]),
        source(&[(&[1, 2], None), (&[3], None)]),
        source(&[(&[1], None), (&[2, 3], None)]),
        source(&[(&[1, 2, 3], Some(&[false, true, true]))]),
        source(&[(&[1, 2, 3], Some(&[false, false, true]))]),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}
