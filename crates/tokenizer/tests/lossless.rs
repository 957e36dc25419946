//! Encode then decode is the identity, control tokens stay out of plain text, long runs stay fast, training is
//! deterministic.

mod common;

use std::time::Instant;

use common::{MULTILINGUAL, corpora, trained};
use proptest::prelude::*;
use shakti_tokenizer::{CONTROL_TOKENS, ErrorKind, Tokenizer, TrainOptions, Utf8Stream, train};

fn tokenizer(vocab_size: usize) -> Tokenizer {
    let files = trained(vocab_size);
    Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, &mut ids);
    ids
}

/// Decoding gives `text`, at once and as a stream, and no id is a control token.
fn check(tokenizer: &Tokenizer, text: &str) {
    let ids = encode(tokenizer, text);
    assert_eq!(tokenizer.decode(&ids), text);
    assert!(ids.iter().all(|id| !tokenizer.is_special(*id)), "{text:?}");
    let mut stream = Utf8Stream::new();
    let mut streamed = String::new();
    ids.iter().for_each(|id| stream.push(tokenizer.token_bytes(*id), &mut streamed));
    stream.finish(&mut streamed);
    assert_eq!(streamed, text);
}

/// What is in no training text: other scripts, controls, private and unassigned code points, U+FFFD, marks alone.
const ODD: [&str; 8] = [
    "",
    "\0\u{1}\u{7F}\u{80}\u{9F}\u{AD}\u{FEFF}\u{FFFD}\u{FFFF}",
    "\u{301}\u{94D}\u{93F}\u{CCD}\u{BCD}",
    "\u{E000}\u{F0000}\u{10FFFF}\u{378}",
    "\u{202E}abc\u{202C}\u{200D}\u{200B}",
    "🧑🏿‍🚀👨‍👩‍👧‍👦🏳️‍🌈🇮🇳",
    "▁▁ ▁<0x0A><0xE2><unk></s>",
    "Ġĉ Ċ ÃĂ",
];

#[test]
fn eight_languages_and_odd_text_come_back() {
    for size in [263, 300, 2000] {
        let tokenizer = tokenizer(size);
        assert!(tokenizer.is_lossless());
        for text in MULTILINGUAL.lines().chain([MULTILINGUAL]).chain(ODD) {
            check(&tokenizer, text);
        }
        for token in CONTROL_TOKENS {
            check(&tokenizer, token);
            check(&tokenizer, &format!("a{token} {token}{token}\n"));
        }
    }
}

#[test]
fn corpora_come_back() {
    let tokenizer = tokenizer(2000);
    for text in corpora(400_000) {
        check(&tokenizer, &text);
    }
}

#[test]
fn trusted_text_gives_control_tokens() {
    let tokenizer = tokenizer(400);
    let mut ids = Vec::new();
    tokenizer.encode_with_special(&CONTROL_TOKENS.concat(), &mut ids);
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(tokenizer.decode(&ids), CONTROL_TOKENS.concat());
    assert_eq!(tokenizer.added_id("<|end|>"), Some(6));
    assert_eq!(tokenizer.added_id("<|end|>x"), None);
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.decode(&[u32::MAX, 1 << 20]), "");
}

/// A quadratic merge loop would take hours here.
#[test]
fn one_million_equal_letters_take_no_long_time() {
    let tokenizer = tokenizer(600);
    let spm = {
        let path = common::workspace().join("golden/gguf/spm_q4_0.gguf");
        Tokenizer::from_gguf(&common::Metadata(&shakti_gguf::GgufFile::open(path).unwrap())).unwrap()
    };
    for tokenizer in [&tokenizer, &spm] {
        for text in ["a".repeat(1 << 20), " ".repeat(1 << 20), "ab".repeat(1 << 19), "ह".repeat(1 << 18)] {
            let start = Instant::now();
            let ids = encode(tokenizer, &text);
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}

#[test]
fn training_is_deterministic_and_has_the_asked_size() {
    let texts = corpora(200_000);
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(MULTILINGUAL.lines()).collect();
    let options = TrainOptions { vocab_size: 1000, min_frequency: 2 };
    let first = train(texts.iter(), &options).unwrap();
    assert_eq!(first, train(texts.iter(), &options).unwrap());
    let tokenizer = Tokenizer::from_tokenizer_json(&first.tokenizer_json).unwrap();
    assert_eq!(tokenizer.vocab_size(), 1000);
    let control: Vec<_> = tokenizer.control_texts().map(|(id, text)| (id, text.to_owned())).collect();
    assert_eq!(control.len(), CONTROL_TOKENS.len());
    for (id, text) in control {
        assert_eq!(CONTROL_TOKENS[id as usize], text);
    }
    let nothing = train(std::iter::empty::<&str>(), &options).unwrap();
    assert_eq!(Tokenizer::from_tokenizer_json(&nothing.tokenizer_json).unwrap().vocab_size(), 263);
    let error = train(texts.iter(), &TrainOptions { vocab_size: 262, min_frequency: 2 }).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Training(_)));
    assert_eq!(error.to_string(), "vocab_size: a vocabulary of 262 is less than 263");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_string_comes_back(text: String) {
        thread_local! {
            static TOKENIZER: Tokenizer = tokenizer(800);
        }
        TOKENIZER.with(|tokenizer| check(tokenizer, &text));
    }
}
