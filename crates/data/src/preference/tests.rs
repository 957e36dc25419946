//! Pairs, rated answers and prompts out of records; what is left out; the order and its position.

use super::*;
use crate::tokens::tests::Bytes;
use crate::tokens::{EncodeError, Targets, tokenize};

use Role::{Assistant, User};

fn turns(turns: &[(Role, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, text)| Message { role, content: text.to_owned() }).collect()
}

fn record(line: u64, kind: RecordKind) -> Result<Record, DataError> {
    Ok(Record { kind, source_documents: vec![], file: Arc::from(Path::new("f.jsonl")), line })
}

fn pair(prompt: &[(Role, &str)], chosen: &[(Role, &str)], rejected: &[(Role, &str)]) -> RecordKind {
    RecordKind::Preference { prompt: turns(prompt), chosen: turns(chosen), rejected: turns(rejected) }
}

fn simple(prompt: &str, chosen: &str, rejected: &str) -> RecordKind {
    pair(&[(User, prompt)], &[(Assistant, chosen)], &[(Assistant, rejected)])
}

fn numbered(kinds: Vec<RecordKind>) -> impl Iterator<Item = Result<Record, DataError>> {
    kinds.into_iter().zip(1..).map(|(kind, line)| record(line, kind))
}

fn texts(sequence: &Sequence) -> (String, String) {
    (Bytes.decode(&sequence.ids[..sequence.prompt_len]), Bytes.decode(sequence.completion()))
}

fn both(prompt: &str, completion: &str) -> (String, String) {
    (prompt.to_owned(), completion.to_owned())
}

#[test]
fn a_pair_shares_the_rendered_prompt() {
    let (found, left_out) = pairs(numbered(vec![simple("q", "aa", "b")]), &Bytes, 100, 1).unwrap();
    assert_eq!(texts(&found[0].chosen), both("<q><", "aa>"));
    assert_eq!(texts(&found[0].rejected), both("<q><", "b>"));
    assert_eq!((found[0].line, found[0].file.to_str()), (1, Some("f.jsonl")));
    assert_eq!((left_out.read(), left_out.rows(), left_out.cut()), (1, &[][..], 0));
    left_out.check().unwrap();
}

#[test]
fn rows_without_a_lesson_are_counted_and_listed() {
    let kinds = vec![
        simple("q", "a", "a"),
        simple("q", " a", "a "),
        simple("q", "", "a"),
        simple("q", "a", " "),
        pair(&[(User, "q")], &[(Assistant, "a")], &[]),
        pair(&[(User, "q")], &[(Assistant, "a"), (User, "h"), (Assistant, "c")], &[(Assistant, "b")]),
        pair(&[(User, "q")], &[(User, "h")], &[(Assistant, "b")]),
        // What follows an answer does not count.
        pair(&[(User, "q")], &[(Assistant, "a"), (User, "h")], &[(Assistant, "b")]),
        // `<longlong><` takes the 11 ids there are.
        simple("longlong", "a", "b"),
        // Of `<long><` 4 ids are left for the answers.
        simple("long", "abcde", "abcdf"),
        simple("long", "abcd", "abc"),
        simple("long", "abc", "abd"),
    ];
    let (found, left_out) = pairs(numbered(kinds), &Bytes, 10, 3).unwrap();
    let rows: Vec<_> = left_out.rows().iter().map(|row| (row.line, row.reason)).collect();
    use Reason::{Empty, Equal, EqualAfterCut, NoRoom, NotOneAnswer};
    let expected = [
        (1, Equal),
        (2, Equal),
        (3, Empty),
        (4, Empty),
        (5, Empty),
        (6, NotOneAnswer),
        (7, NotOneAnswer),
        (9, NoRoom),
        (10, EqualAfterCut),
    ];
    assert_eq!(rows, expected);
    assert_eq!(found.iter().map(|pair| pair.line).collect::<Vec<_>>(), [8, 11, 12]);
    assert_eq!(texts(&found[1].chosen), both("<long><", "abcd"));
    assert_eq!((left_out.cut(), left_out.read(), left_out.count(Empty)), (1, 12, 3));
    let shown = left_out.to_string();
    assert!(
        shown.starts_with(
            "9 of 12 records left out, 1 answers cut\n  chosen equals rejected: 2, the first at f.jsonl:1\n"
        ),
        "{shown}"
    );
    assert_eq!(left_out.rows()[7].to_string(), "f.jsonl:9: the prompt leaves no room for an answer");
}

/// Writes another prompt when an answer follows that begins with `!`, as templates do that look ahead.
struct LooksAhead;

impl Encode for LooksAhead {
    fn encode_document(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        Bytes.encode_document(text, ids)
    }

    fn encode_chat(
        &self,
        messages: &[Message],
        ids: &mut Vec<u32>,
        mask: &mut Vec<bool>,
    ) -> Result<(), EncodeError> {
        if messages.last().is_some_and(|last| last.content.starts_with('!')) {
            ids.push(7);
            mask.push(false);
        }
        Bytes.encode_chat(messages, ids, mask)?;
        // Behind the end of the turn.
        ids.push(8);
        mask.push(false);
        Ok(())
    }

    fn encode_prompt(&self, messages: &[Message], ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        Bytes.encode_prompt(messages, ids)
    }

    fn decode(&self, ids: &[u32]) -> String {
        Bytes.decode(ids)
    }
}

#[test]
fn both_sides_begin_with_the_prompt_and_end_with_the_turn() {
    let kinds = vec![simple("q", "a", "!b"), simple("q", "!a", "b"), simple("q", "a", "b")];
    let (found, left_out) = pairs(numbered(kinds), &LooksAhead, 100, 1).unwrap();
    let reasons: Vec<_> = left_out.rows().iter().map(|row| (row.line, row.reason)).collect();
    assert_eq!(reasons, [(1, Reason::PrefixDiffers), (2, Reason::PrefixDiffers)]);
    assert_eq!(texts(&found[0].chosen), both("<q><", "a>"));
}

#[test]
fn more_than_one_in_twenty_at_fault_is_an_error() {
    let rows = |faulty: usize, all: usize| {
        let kind = |row| simple("q", "a", if row < faulty { "a" } else { "b" });
        pairs(numbered((0..all).map(kind).collect()), &Bytes, 100, 1).unwrap().1
    };
    rows(2, 40).check().unwrap();
    assert_eq!(
        rows(2, 39).check().unwrap_err().to_string(),
        "f.jsonl: 2 of 39 records cannot be learned from, more than 5%: 2 chosen equals rejected; the first on lines 1, 2"
    );
    assert!(rows(6, 40).check().unwrap_err().to_string().ends_with("lines 1, 2, 3, 4, 5, ..."));
    // Splits of one file count together, files each for themselves.
    let mut sum = rows(2, 39);
    sum.add(rows(0, 1));
    sum.check().unwrap();
    let other = Record { file: Arc::from(Path::new("g.jsonl")), ..record(3, simple("q", "a", "a")).unwrap() };
    sum.add(pairs(std::iter::once(Ok(other)), &Bytes, 100, 1).unwrap().1);
    assert!(sum.check().unwrap_err().to_string().starts_with("g.jsonl: 1 of 1 records"));
    // Length is no fault.
    let long = pairs(numbered(vec![simple("long", "a", "b")]), &Bytes, 3, 1).unwrap().1;
    assert_eq!(long.count(Reason::NoRoom), 1);
    long.check().unwrap();
}

#[test]
fn judged_answers_come_from_labels_and_from_pairs() {
    let rated_chat = |list: &[(Role, &str)], good| RecordKind::Rated { messages: turns(list), good };
    let kinds = vec![
        rated_chat(&[(User, "q"), (Assistant, "a"), (User, "r"), (Assistant, "b")], true),
        rated_chat(&[(User, "q"), (Assistant, "a"), (User, "r")], false),
        rated_chat(&[(User, "q"), (Assistant, " ")], true),
        rated_chat(&[(User, "q")], true),
        simple("q", "a", "b"),
    ];
    let (found, left_out) = rated(numbered(kinds), &Bytes, 100, 2).unwrap();
    let found: Vec<_> = found.iter().map(|item| (texts(&item.sequence), item.good, item.line)).collect();
    let expected = [
        (both("<q><a><r><", "b>"), true, 1),
        (both("<q><", "a>"), false, 2),
        (both("<q><", "a>"), true, 5),
        (both("<q><", "b>"), false, 5),
    ];
    assert_eq!(found, expected);
    assert_eq!((left_out.count(Reason::Empty), left_out.rows().len()), (2, 2));
}

#[test]
fn prompts_end_where_the_last_answer_begins() {
    let chat = |list: &[(Role, &str)]| RecordKind::Chat(turns(list));
    let kinds = vec![
        chat(&[(User, "q"), (Assistant, "a"), (User, "r"), (Assistant, "b"), (User, "t")]),
        chat(&[(User, "q")]),
        simple("q", "a", "b"),
        RecordKind::Rated { messages: turns(&[(User, "q"), (Assistant, "c")]), good: false },
        chat(&[(User, "qqqqqqqqq"), (Assistant, "a")]),
    ];
    let (found, left_out) = prompts(numbered(kinds), &Bytes, 10, 2).unwrap();
    let shown: Vec<_> =
        found.iter().map(|prompt| (Bytes.decode(&prompt.ids), prompt.answer.as_str())).collect();
    let expected = [("<q><a><r><", "b"), ("<q><", ""), ("<q><", "a"), ("<q><", "c")];
    assert_eq!(shown, expected.map(|(ids, answer)| (ids.to_owned(), answer)));
    assert_eq!(found[0].messages, turns(&[(User, "q"), (Assistant, "a"), (User, "r")]));
    assert_eq!((left_out.rows()[0].line, left_out.count(Reason::NoRoom)), (5, 1));
}

#[test]
fn the_wrong_kind_of_record_is_named() {
    let (text, chat) = (|| RecordKind::Text("t".into()), || RecordKind::Chat(turns(&[(Assistant, "a")])));
    let judged = || RecordKind::Rated { messages: turns(&[(User, "q"), (Assistant, "a")]), good: true };
    let one = |kind| numbered(vec![kind]);
    let sft = |kind, targets| tokenize(one(kind), &Bytes, targets, 1).map(drop);
    for (result, expected) in [
        (
            pairs(one(chat()), &Bytes, 9, 1).map(drop),
            "expected a preference pair (`chosen` and `rejected`), found a conversation",
        ),
        (
            pairs(one(judged()), &Bytes, 9, 1).map(drop),
            "expected a preference pair (`chosen` and `rejected`), found a rated conversation",
        ),
        (
            rated(one(chat()), &Bytes, 9, 1).map(drop),
            "expected a rated conversation (`label`) or a preference pair, found a conversation",
        ),
        (prompts(one(text()), &Bytes, 9, 1).map(drop), "expected a conversation, found a plain text"),
        (sft(judged(), Targets::All), "expected a text or a conversation, found a rated conversation"),
        (
            sft(simple("q", "a", "b"), Targets::Answers),
            "expected a conversation to learn answers from, found a preference pair",
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), format!("f.jsonl:1: {expected}"));
    }
    assert!(pairs(one(chat()), &Bytes, 0, 1).unwrap_err().to_string().contains("sequence_length"));
    let broken = std::iter::once(Err(ErrorKind::Empty.into()));
    assert!(prompts(broken, &Bytes, 9, 1).is_err());
}

#[test]
fn threads_change_nothing() {
    let kinds = |row: usize| simple(&format!("q{row}"), "a", if row.is_multiple_of(50) { "a" } else { "b" });
    let with = |threads| pairs(numbered((0..1300).map(kinds).collect()), &Bytes, 100, threads).unwrap();
    let (one, report) = with(1);
    assert_eq!((one.len(), report.rows().len()), (1274, 26));
    for threads in [0, 3] {
        let (many, same) = with(threads);
        assert_eq!(many, one);
        assert_eq!(same.rows(), report.rows());
    }
}

#[test]
fn the_fingerprint_sees_ids_borders_and_judgements() {
    let sequence = |ids: &[u32], prompt_len| Sequence { ids: ids.to_vec(), prompt_len };
    let file: Arc<Path> = Arc::from(Path::new("f"));
    let pair = |chosen, rejected| PreferencePair { chosen, rejected, file: file.clone(), line: 1 };
    let judged =
        |good| RatedSequence { sequence: sequence(&[1, 2, 3], 1), good, file: file.clone(), line: 1 };
    let prompt = |answer: &str| Prompt {
        ids: vec![1],
        messages: vec![],
        answer: answer.into(),
        file: file.clone(),
        line: 1,
    };
    let all = [
        pair(sequence(&[1, 2, 3], 1), sequence(&[1, 4], 1)).fingerprint(),
        pair(sequence(&[1, 2], 1), sequence(&[3, 1, 4], 1)).fingerprint(),
        pair(sequence(&[1, 2, 3], 2), sequence(&[1, 4], 1)).fingerprint(),
        pair(sequence(&[1, 4], 1), sequence(&[1, 2, 3], 1)).fingerprint(),
        judged(true).fingerprint(),
        judged(false).fingerprint(),
        prompt("a").fingerprint(),
        prompt("b").fingerprint(),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn an_epoch_gives_every_item_once_and_a_position_goes_on() {
    let order = |items: u128, seed| Shuffled::new("pairs", 0..items, seed).unwrap();
    let take = |order: &mut Shuffled, n: usize| (0..n).map(|_| order.next_index()).collect::<Vec<_>>();
    let mut whole = order(37, 5);
    let all = take(&mut whole, 111);
    for epoch in all.chunks(37) {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..37).collect::<Vec<_>>());
    }
    assert_ne!(all[..37], all[37..74]);
    assert_ne!(all, take(&mut order(37, 6), 111));
    assert_eq!((whole.epoch(), whole.num_items(), whole.position().batches), (3, 37, 111));
    for stop in [0, 1, 36, 37, 38, 110] {
        let mut first = order(37, 5);
        let _ = take(&mut first, stop);
        let json = serde_json::to_string(&first.position()).unwrap();
        let mut second = order(37, 5);
        second.restore(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(take(&mut second, 111 - stop), all[stop..], "{stop}");
    }
}

#[test]
fn a_position_of_other_items_or_another_seed_is_refused() {
    let order = |items: u128, seed| Shuffled::new("pairs", 0..items, seed).unwrap();
    let mut ours = order(5, 1);
    let before = (0..3).map(|_| ours.next_index()).count();
    for other in [order(6, 1), order(5, 2), Shuffled::new("other", 0..5, 1).unwrap()] {
        assert!(ours.restore(&other.position()).is_err());
    }
    let mut damaged = ours.position();
    damaged.parts[0].piece = 5;
    assert!(ours.restore(&damaged).is_err());
    damaged.parts.clear();
    assert!(ours.restore(&damaged).is_err());
    assert_eq!(ours.position().batches, before as u64);
    assert!(Shuffled::new("pairs", [], 1).unwrap_err().to_string().contains("none in `pairs`"));
}
