//! Every layout and every kind of damage, through real files.

use super::*;
use crate::record::{Message, Role};
use std::io::Write;
use std::path::PathBuf;

fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn read_with(
    name: &str,
    bytes: &[u8],
    settings: &ReaderSettings,
) -> Result<(FileFormat, Vec<Record>), DataError> {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = RecordReader::open(&file(&dir, name, bytes), settings)?;
    let records = (&mut reader).collect::<Result<_, _>>()?;
    Ok((reader.format(), records))
}

fn read(name: &str, bytes: &[u8]) -> (FileFormat, Vec<Record>) {
    read_with(name, bytes, &ReaderSettings::default()).unwrap()
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    let settings = ReaderSettings { max_record_bytes: 1000, ..Default::default() };
    let error = read_with(name, bytes, &settings).unwrap_err();
    let text = error.to_string();
    let file = error.file().unwrap().to_string_lossy().into_owned();
    text.replace(&file, name)
}

fn chat(turns: &[(Role, &str)]) -> RecordKind {
    RecordKind::Chat(turns.iter().map(|&(role, text)| Message { role, content: text.to_owned() }).collect())
}

fn kinds(records: Vec<Record>) -> Vec<RecordKind> {
    records.into_iter().map(|record| record.kind).collect()
}

use Role::{Assistant, System, User};

#[test]
fn every_layout_becomes_the_same_conversation() {
    let expected = chat(&[(System, "s"), (User, "q"), (Assistant, "a")]);
    for line in [
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        r#"{"prompt":"q","completion":"a","system":"s"}"#,
        r#"{"question":"q","answer":"a","system":"s"}"#,
        r#"{"instruction":"q","input":"","output":"a","system":"s"}"#,
        r#"{"instruction":"q","response":"a","system":"s"}"#,
        r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"system":"s","tools":"[]"}"#,
    ] {
        let (_, records) = read("a.jsonl", line.as_bytes());
        assert_eq!(kinds(records), std::slice::from_ref(&expected), "{line}");
    }
    let (_, records) = read("a.jsonl", br#"{"instruction":"q","input":"x","output":"a"}"#);
    assert_eq!(kinds(records), [chat(&[(User, "q\n\nx"), (Assistant, "a")])]);
}

#[test]
fn json_lines_lists_and_sequences_give_the_same_records() {
    let lines = "{\"text\":\"a \\\"]}\\\" b\"}\n\n  {\"text\":\"c\\\\\"}  \r\n{\"text\":\"d\\n\"}";
    let list = "[ {\"text\":\"a \\\"]}\\\" b\"},\n\n  {\"text\":\"c\\\\\"}  \r\n,{\"text\":\n\"d\\n\"}]\n";
    let sequence = lines.replace('\n', "\n\n");
    let expected = ["a \"]}\" b", "c\\", "d\n"].map(|text| RecordKind::Text(text.into()));
    let line_numbers = |records: &[Record]| records.iter().map(|r| r.line).collect::<Vec<_>>();
    let (format, records) = read("x.jsonl", lines.as_bytes());
    assert_eq!(
        (format.container, format.layout, format.to_string()),
        (Container::JsonLines, Layout::Text, "JSON lines of text".into())
    );
    assert_eq!(line_numbers(&records), [1, 3, 4]);
    assert_eq!(kinds(records), expected);
    let (format, records) = read("x.json", list.as_bytes());
    assert_eq!(format.container, Container::Json);
    assert_eq!(line_numbers(&records), [1, 3, 4]);
    assert_eq!(kinds(records), expected);
    assert_eq!(kinds(read("x.json", sequence.as_bytes()).1), expected);
    let pretty = read("x.json", b"[{\n\"text\":\n\"a\"},\n{\"text\":\"b\"}]").1;
    assert_eq!(line_numbers(&pretty), [1, 4]);
}

#[test]
fn compression_changes_nothing() {
    let plain = b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
    let expected = kinds(read("x.jsonl", plain).1);
    for (name, bytes) in [
        ("x.jsonl.gz", gz(plain)),
        ("x.jsonl.zst", zst(plain)),
        ("X.JSONL.GZ", [gz(&plain[..13]), gz(&plain[13..])].concat()),
        ("x.ndjson.zst", [zst(&plain[..13]), zst(&plain[13..])].concat()),
    ] {
        assert_eq!(kinds(read(name, &bytes).1), expected, "{name}");
    }
    assert_eq!(read("x.json.gz", &gz(br#"[{"text":"a"}]"#)).0.to_string(), "JSON of text, gzip");
    assert_eq!(read("x.txt.zst", &zst(b"a")).0.to_string(), "text, zstd");
}

#[test]
fn blank_lines_separate_text_documents_by_the_rule() {
    let text = b"\n\n one\r\n two\n \n three\n\n\n\nfour\n\n\n".as_slice();
    let documents = |rule| {
        let settings = ReaderSettings { text_documents: rule, ..Default::default() };
        let (_, records) = read_with("x.txt", text, &settings).unwrap();
        records
            .into_iter()
            .map(|record| match record.kind {
                RecordKind::Text(text) => (record.line, text),
                _ => unreachable!(),
            })
            .collect::<Vec<_>>()
    };
    let owned = |list: &[(u64, &str)]| list.iter().map(|&(n, t)| (n, t.to_owned())).collect::<Vec<_>>();
    assert_eq!(documents(TextDocuments::TwoBlankLines), owned(&[(3, " one\n two\n\n three"), (10, "four")]));
    assert_eq!(documents(TextDocuments::BlankLine), owned(&[(3, " one\n two"), (6, " three"), (10, "four")]));
    assert_eq!(documents(TextDocuments::WholeFile), owned(&[(3, " one\n two\n\n three\n\n\n\nfour")]));
}

#[test]
fn a_byte_order_mark_is_skipped_or_refused() {
    let mark = b"\xEF\xBB\xBF";
    for (name, body) in [("x.txt", "a"), ("x.jsonl", r#"{"text":"a"}"#), ("x.json", r#"[{"text":"a"}]"#)] {
        let (_, records) = read(name, &[mark, body.as_bytes()].concat());
        assert_eq!(kinds(records), [RecordKind::Text("a".into())], "{name}");
        for utf16 in [b"\xFF\xFEa\0", b"\xFE\xFF\0a"] {
            let expected = format!("{name}:1: expected UTF-8 text, found a UTF-16 byte order mark");
            assert_eq!(refusal(name, utf16), expected);
        }
    }
}

#[test]
fn document_fields_name_the_source() {
    let line = br#"{"text":"a","document":"d","url":"u","source":7,"source_document":null}"#;
    assert_eq!(read("x.jsonl", line).1[0].source_documents, ["d", "u"]);
    let settings = ReaderSettings { document_fields: vec!["source".into()], ..Default::default() };
    assert_eq!(read_with("x.jsonl", line, &settings).unwrap().1[0].source_documents, ["7"]);
    assert_eq!(
        refusal("x.jsonl", br#"{"text":"a","url":["u"]}"#),
        "x.jsonl:1: field `url`: expected a string or a number that names the document, found a list"
    );
}

#[test]
fn a_wrong_field_is_named_with_its_line() {
    let good = "{\"text\":\"a\"}\n";
    let message = r#"{"messages":[{"role":"user","content":"q"},"#;
    let lines = |second: &str| format!("{good}{second}\n");
    for (text, expected) in [
        (lines(r#"{"text":null}"#), "x.jsonl:2: field `text`: expected a string, found null"),
        (
            lines(r#"{"prompt":"q","completion":"a"}"#),
            "x.jsonl:2: field `text`: expected a string, found only the fields `completion`, `prompt`",
        ),
        (lines("{}"), "x.jsonl:2: field `text`: expected a string, found no fields"),
        (lines("[1]"), "x.jsonl:2: field `(the record)`: expected an object, found a list"),
        (lines("{\"text\":"), "x.jsonl:2: invalid JSON at column 8: EOF while parsing a value"),
        (lines("{\"text\":\"a\"} x"), "x.jsonl:2: invalid JSON at column 14: trailing characters"),
        (format!("{message}7]}}"), "x.jsonl:1: field `messages[1]`: expected an object, found a number"),
        (
            format!("{message}{{\"role\":\"tool\",\"content\":\"a\"}}]}}"),
            "x.jsonl:1: field `messages[1].role`: expected a role among system, user (human), assistant (gpt), found `tool`",
        ),
        (
            format!("{message}{{\"role\":\"assistant\"}}]}}"),
            "x.jsonl:1: field `messages[1].content`: expected a string, found nothing",
        ),
        (
            r#"{"messages":[]}"#.to_owned(),
            "x.jsonl:1: field `messages`: expected at least one message, found an empty list",
        ),
        (
            r#"{"conversations":"q"}"#.to_owned(),
            "x.jsonl:1: field `conversations`: expected a list of messages, found a string",
        ),
        (
            r#"{"instruction":"q"}"#.to_owned(),
            "x.jsonl:1: field `output`: expected a string, found only the fields `instruction`",
        ),
    ] {
        assert_eq!(refusal("x.jsonl", text.as_bytes()), expected);
    }
    let unknown = refusal("x.jsonl", br#"{"chosen":"a","refused":"b"}"#);
    assert!(unknown.starts_with("x.jsonl:1: no known layout: expected `text`, "), "{unknown}");
    assert!(unknown.ends_with("found only the fields `chosen`, `refused`"), "{unknown}");
}

#[test]
fn an_error_holds_no_text_of_the_record() {
    let secret = "patient Jane Doe";
    for line in [
        format!(r#"{{"text":{{"{secret}":1}}}}"#),
        format!(r#"{{"text":["{secret}"]}}"#),
        format!(r#"{{"text":"{secret}" "#),
        format!(r#"{{"text":"{secret}\q"}}"#),
    ] {
        for name in ["x.jsonl", "x.json"] {
            let text = refusal(name, line.as_bytes());
            assert!(!text.contains("Jane"), "{text}");
        }
    }
}

#[test]
fn broken_lists_are_refused_where_they_break() {
    for (text, expected) in [
        ("[{\"text\":\"a\"}\n", "x.json:2: the file ends inside the list"),
        ("[", "x.json:1: the file ends inside the list"),
        ("[{\"text\":\"a\"},\n{\"text\":\"", "x.json:2: the file ends inside a record"),
        (
            "[{\"text\":\"a\"},]",
            "x.json:1: invalid JSON at column 1: expected an object after the comma, found something else",
        ),
        (
            "[{\"text\":\"a\"}{",
            "x.json:1: invalid JSON at column 1: expected `,` or `]`, found something else",
        ),
        (
            "[{\"text\":\"a\"}]\n1",
            "x.json:2: invalid JSON at column 1: expected the end of the file, found something else",
        ),
        ("3", "x.json:1: invalid JSON at column 1: expected `[` or `{`, found something else"),
        ("[3]", "x.json:1: invalid JSON at column 1: expected an object, found something else"),
        ("{]}", "x.json:1: invalid JSON at column 2: key must be a string"),
        ("[]", "x.json: the file holds no records"),
    ] {
        assert_eq!(refusal("x.json", text.as_bytes()), expected, "{text}");
    }
    let deep = format!("{{\"text\":{}{}}}", "[".repeat(400), "]".repeat(400));
    assert!(refusal("x.json", deep.as_bytes()).contains("recursion limit"));
}

#[test]
fn empty_files_are_refused() {
    for name in ["x.txt", "x.jsonl", "x.json", "x.txt.gz", "x.jsonl.zst"] {
        assert_eq!(refusal(name, b""), format!("{name}: the file holds no records"));
        let blank = if name.ends_with("gz") {
            gz(b" \n\n")
        } else if name.ends_with("zst") {
            zst(b" \n\n")
        } else {
            b" \n\n".to_vec()
        };
        assert_eq!(refusal(name, &blank), format!("{name}: the file holds no records"));
    }
}

#[test]
fn truncated_and_corrupt_archives_are_refused_at_any_length() {
    let plain: String = (0..2000).map(|i| format!("{{\"text\":\"{}\"}}\n", i * i * 7919)).collect();
    for (name, packed, format) in
        [("x.jsonl.gz", gz(plain.as_bytes()), "gzip"), ("x.jsonl.zst", zst(plain.as_bytes()), "zstd")]
    {
        for len in [1, 3, 5, 9, 17, packed.len() / 2, packed.len() - 1] {
            let text = refusal(name, &packed[..len]);
            assert!(text.contains(&format!("truncated {format} data")), "{len}: {text}");
        }
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x5A);
        let dir = tempfile::tempdir().unwrap();
        let read: Result<Vec<_>, _> = RecordReader::open(&file(&dir, name, &damaged), &Default::default())
            .and_then(|reader| reader.collect());
        assert!(read.is_err(), "{name}");
        let expected =
            format!("{name}: expected {format} data because of the file's name, found other bytes");
        assert_eq!(refusal(name, plain.as_bytes()), expected);
    }
}

#[test]
fn invalid_utf8_is_refused_with_its_byte() {
    assert_eq!(refusal("x.txt", b"ok\nab\xFFc\n"), "x.txt:2: invalid UTF-8 at byte 2 of the line");
    assert_eq!(refusal("x.jsonl", b"{\"text\":\"\xC3\"}"), "x.jsonl:1: invalid UTF-8 at byte 9 of the line");
    assert_eq!(refusal("x.json", b"\n{\"text\":\"\xC3\"}"), "x.json:2: invalid UTF-8 at byte 9 of the line");
}

#[test]
fn a_record_longer_than_the_limit_is_refused_even_out_of_a_small_archive() {
    let long = "a".repeat(1001);
    let record = format!("{{\"text\":\"ok\"}}\n{{\"text\":\"{}\"}}\n", "a".repeat(5000));
    let packed = zst(&vec![b'a'; 50_000_000]);
    assert!(packed.len() < 10_000);
    for (name, bytes, line) in [
        ("x.txt", long.as_bytes(), 1),
        ("x.jsonl", record.as_bytes(), 2),
        ("x.json", record.as_bytes(), 2),
        ("x.txt.zst", &packed, 1),
        ("x.jsonl.zst", &packed, 1),
    ] {
        let text = refusal(name, bytes);
        assert!(
            text.contains(&format!("{name}:{line}: record longer than the limit of 1000 bytes")),
            "{text}"
        );
    }
    let paragraphs = "word word\n\n".repeat(200);
    assert!(refusal("x.txt", paragraphs.as_bytes()).contains("\nhint: separate documents"));
    // 13 bytes around the text.
    for (letters, accepted) in [(989, true), (990, false)] {
        let line = format!("{{\"text\":\"{}\"}}", "a".repeat(letters));
        for name in ["x.jsonl", "x.json"] {
            let settings = ReaderSettings { max_record_bytes: 1000, ..Default::default() };
            assert_eq!(read_with(name, line.as_bytes(), &settings).is_ok(), accepted, "{name} {letters}");
        }
    }
    let exact = "a".repeat(1000);
    let settings = ReaderSettings { max_record_bytes: 1000, ..Default::default() };
    for end in ["", "\n", "\r\n"] {
        assert_eq!(read_with("x.txt", (exact.clone() + end).as_bytes(), &settings).unwrap().1.len(), 1);
    }
}

#[test]
fn unknown_names_folders_and_absent_files_are_refused() {
    assert!(refusal("x.csv", b"a").starts_with("x.csv: unknown kind of file: expected a name that ends in"));
    assert!(refusal("txt", b"a").contains("unknown kind of file"));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("x.txt");
    std::fs::create_dir(&folder).unwrap();
    for path in [folder, dir.path().join("absent.jsonl")] {
        let error = RecordReader::open(&path, &ReaderSettings::default()).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Io(_)), "{error}");
        assert_eq!(error.file().unwrap(), path);
    }
}

#[test]
fn reading_ends_after_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "x.jsonl", b"{\"text\":\"a\"}\nx\n{\"text\":\"b\"}\n");
    let results: Vec<_> = RecordReader::open(&path, &ReaderSettings::default()).unwrap().collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Whatever the bytes, an answer or an error, never a panic; and every record within the limit.
    #[test]
    fn damaged_files_never_panic(
        which in 0usize..7,
        edits in proptest::collection::vec((0usize..400, proptest::prelude::any::<u8>()), 0..6),
        keep in 0usize..400,
    ) {
        let lines = "{\"text\":\"a\"}\n{\"text\":\"b \\\\ \\u00e9\"}\n";
        let chat = r#"[{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}, {"messages":[]}]"#;
        let (name, mut bytes) = match which {
            0 => ("x.txt", b"one\n\n\ntwo \xC3\xA9\r\nthree".to_vec()),
            1 => ("x.jsonl", lines.into()),
            2 => ("x.json", chat.into()),
            3 => ("x.json", lines.into()),
            4 => ("x.jsonl.gz", gz(lines.as_bytes())),
            5 => ("x.json.zst", zst(chat.as_bytes())),
            _ => ("x.txt.zst", zst(&vec![b'a'; 5000])),
        };
        bytes.truncate(keep);
        for (at, byte) in edits {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        let settings = ReaderSettings { max_record_bytes: 200, ..Default::default() };
        if let Ok((_, records)) = read_with(name, &bytes, &settings) {
            proptest::prop_assert!(records.iter().flat_map(Record::texts).all(|text| text.len() <= 200));
        }
    }
}
