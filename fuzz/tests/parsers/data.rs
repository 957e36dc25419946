//! Files of text and conversations.

use std::io::Write;

use shakti_data::{ReaderSettings, RecordReader};
use shakti_fuzz::{Target, scratch_folder};

use crate::{JSON_WORDS, file};

const RECORDS: &str = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}
{"messages":[{"role":"user","content":"q \u00e9\n"},{"role":"assistant","content":"\ud83d\ude00"}],"source":"d"}
"#;

fn runs(test: &str, name: &str, seeds: Vec<Vec<u8>>, words: &[&str]) {
    let folder = scratch_folder();
    let settings = ReaderSettings { max_record_bytes: 1 << 20, ..Default::default() };
    Target { test, seeds, words, rounds: 3_000 }.run(|bytes| {
        let Ok(reader) = RecordReader::open(&file(folder.path(), name, bytes), &settings) else {
            return false;
        };
        reader.take(10_000).all(|record| record.is_ok())
    });
}

#[test]
fn json_lines() {
    let other = br#"{"instruction":"q","input":"","output":"a","system":"s"}"#.to_vec();
    let share = br#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#.to_vec();
    let text = b"{\"text\":\"some words\",\"id\":7}\n\n{\"text\":\"more\"}\n".to_vec();
    let words = [&JSON_WORDS[..], &["\"messages\"", "\"text\"", "\"role\"", "\"prompt\"", "\r\n"]].concat();
    runs("data::json_lines", "a.jsonl", vec![RECORDS.into(), other, share, text], &words);
}

#[test]
fn json_list() {
    let list = format!("[{}]", RECORDS.trim_end().replace('\n', ",\n"));
    runs("data::json_list", "a.json", vec![list.into_bytes()], &JSON_WORDS);
}

#[test]
fn gzip() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(RECORDS.as_bytes()).expect("compressing");
    runs("data::gzip", "a.jsonl.gz", vec![encoder.finish().expect("compressing")], &[]);
}

#[test]
fn zstandard() {
    let seed = zstd::encode_all(RECORDS.as_bytes(), 3).expect("compressing");
    runs("data::zstandard", "a.jsonl.zst", vec![seed], &[]);
}
