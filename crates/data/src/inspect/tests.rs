//! The description of small files.

use super::*;
use crate::tokens::tests::Bytes;

fn inspect_text(text: &str, encoder: Option<&dyn Encode>, sample: usize) -> Result<Inspection, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jsonl");
    std::fs::write(&path, text).unwrap();
    inspect(&path, &ReaderSettings::default(), encoder, sample)
}

const CHATS: &str = "{\"prompt\":\"why?\",\"completion\":\"so\",\"document\":\"d\"}\n\
    {\"prompt\":\"how?\",\"completion\":\"thus\",\"document\":\"d\"}\n\
    {\"prompt\":\"why?\",\"completion\":\" so \"}\n";

#[test]
fn counts_lengths_and_duplicates() {
    let found = inspect_text(CHATS, Some(&Bytes), 1).unwrap();
    assert_eq!((found.texts, found.chats, found.messages), (0, 3, [0, 3, 3]));
    assert_eq!((found.documents, found.without_document), (1, 1));
    assert_eq!((found.duplicates, found.blank), (1, 0));
    let characters = Lengths { count: 3, total: 22, min: 6, median: 8, p90: 8, max: 8 };
    assert_eq!(found.characters, characters);
    // Two tokens more for each message.
    assert_eq!(found.tokens.unwrap().total, 22 + 12);
    assert_eq!(found.answer_tokens, Some(2 + 4 + 4 + 3));
    assert!((found.characters.mean() - 22.0 / 3.0).abs() < 1e-12);
}

#[test]
fn the_sample_shows_what_is_learned() {
    let part = |text: &str, is_target| SamplePart { text: text.into(), is_target };
    let found = inspect_text(CHATS, Some(&Bytes), 1).unwrap();
    assert_eq!(found.sample, [part("<how?><", false), part("thus>", true)]);
    assert_eq!(found.sample_line, 2);
    let found = inspect_text(CHATS, None, 99).unwrap();
    let expected =
        [part("user: ", false), part("why?\n", false), part("assistant: ", false), part(" so \n", true)];
    assert_eq!(found.sample, expected);
    assert_eq!((found.sample_line, found.tokens, found.answer_tokens), (3, None, None));
    let found = inspect_text("{\"text\":\"ab\"}\n", Some(&Bytes), 0).unwrap();
    assert_eq!(found.sample, [part("<", false), part("ab>", true)]);
    assert_eq!((found.texts, found.answer_tokens), (1, Some(0)));
}

#[test]
fn a_bad_line_anywhere_is_an_error() {
    let error = inspect_text(&format!("{CHATS}nonsense\n"), None, 0).unwrap_err();
    assert_eq!(error.line(), Some(4));
}

#[test]
fn pairs_and_judgements_are_described() {
    let part = |text: &str, is_target| SamplePart { text: text.into(), is_target };
    let pairs = "{\"prompt\":\"q\",\"chosen\":\"aa\",\"rejected\":\"b\"}\n{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"\"}\n";
    let found = inspect_text(pairs, Some(&Bytes), 0).unwrap();
    assert_eq!((found.texts, found.chats, found.pairs, found.rated), (0, 0, 2, [0, 0]));
    assert_eq!(found.messages, [0, 2, 4]);
    // `<q><aa>` and `<q><b>`; the other row has nothing to learn from.
    assert_eq!((found.tokens.unwrap().total, found.answer_tokens), (7 + 6, Some(3 + 2)));
    assert_eq!(found.left_out.unwrap().count(crate::preference::Reason::Empty), 1);
    let good_bad = [part("\ngood: ", false), part("aa>", true), part("\nbad: ", false), part("b>", true)];
    assert_eq!(found.sample, [vec![part("<q><", false)], good_bad.to_vec()].concat());
    let found = inspect_text(pairs, None, 0).unwrap();
    let shown: String = found.sample.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(shown, "user: q\ngood:\nassistant: aa\nbad:\nassistant: b\n");
    assert!(found.left_out.is_none());
    let judged = "{\"prompt\":\"q\",\"completion\":\"a\",\"label\":false}\n";
    let found = inspect_text(judged, Some(&Bytes), 0).unwrap();
    assert_eq!((found.rated, found.pairs), ([0, 1], 0));
    assert_eq!(found.sample, [part("<q><", false), part("\nbad: ", false), part("a>", true)]);
    let found = inspect_text(judged, None, 0).unwrap();
    let targets: Vec<_> = found.sample.iter().filter(|part| part.is_target).collect();
    assert_eq!(targets, [&part("a\n", true)]);
}
