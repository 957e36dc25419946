//! Our encoder against the `tokenizers` crate: every supported pre-tokenizer and both kinds of models, on text of
//! eight languages, on real corpora, and on arbitrary strings.

mod common;

use common::{MULTILINGUAL, corpora, spm_files, trained};
use proptest::prelude::*;
use serde_json::{Value, json};
use shakti_tokenizer::Tokenizer;

/// Both readers of one `tokenizer.json`.
struct Pair {
    name: String,
    ours: Tokenizer,
    oracle: tokenizers::Tokenizer,
}

impl Pair {
    fn new(name: impl Into<String>, json: &str) -> Self {
        let name = name.into();
        let ours = Tokenizer::from_tokenizer_json(json).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut oracle: tokenizers::Tokenizer = json.parse().unwrap();
        oracle.set_encode_special_tokens(true);
        Self { name, ours, oracle }
    }

    fn expected(&self, text: &str) -> Vec<u32> {
        self.oracle.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// Same ids; for byte-level vocabularies also the same text back.
    fn check(&self, text: &str) {
        let mut ids = Vec::new();
        self.ours.encode(text, &mut ids);
        if ids != self.expected(text) {
            panic!("{}: {:?}", self.name, self.smallest_difference(text));
        }
        assert!(ids.iter().all(|&id| !self.ours.is_special(id)), "{}", self.name);
        if !self.name.starts_with("spm") {
            assert_eq!(self.ours.decode(&ids), text, "{}", self.name);
        }
    }

    /// A short part of `text` on which the two differ.
    fn smallest_difference<'t>(&self, text: &'t str) -> &'t str {
        let differs = |text: &str| {
            let mut ids = Vec::new();
            self.ours.encode(text, &mut ids);
            ids != self.expected(text)
        };
        let mut text = text;
        'shorter: loop {
            for part in [text.len() / 2, text.len() / 8, 1] {
                let part = part.max(1);
                let front = &text[text.ceil_char_boundary(part)..];
                let back = &text[..text.floor_char_boundary(text.len() - part)];
                for shorter in [front, back] {
                    if shorter.len() < text.len() && differs(shorter) {
                        text = shorter;
                        continue 'shorter;
                    }
                }
            }
            return text;
        }
    }
}

const CONTRACTIONS: &str = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const FOLDED: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

/// Pre-tokenizers as tokenizer files in use write them.
fn pre_tokenizers() -> Vec<(&'static str, Value)> {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "pretokenizers": parts});
    let split = |pattern: String| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let plain = format!(r"{FOLDED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}");
    let marks = format!(
        r"{FOLDED}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    let removed = json!({"type": "Split", "pattern": {"Regex": format!("{plain}{{1,3}}{rest}")}, "behavior": "Removed", "invert": true});
    vec![
        ("gpt-2", byte_level(true)),
        ("smollm", sequence(vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)])),
        ("llama-bpe", sequence(vec![split(format!("{plain}{{1,3}}{rest}")), byte_level(false)])),
        ("llama-bpe removed", sequence(vec![removed, byte_level(false)])),
        (
            "llama-bpe cased",
            sequence(vec![
                split(format!("{plain}{{1,3}}{rest}").replace(FOLDED, CONTRACTIONS)),
                byte_level(false),
            ]),
        ),
        ("qwen2", sequence(vec![split(format!("{plain}{rest}")), byte_level(false)])),
        ("qwen35 folded", sequence(vec![split(marks), byte_level(false)])),
        (
            "digits together",
            sequence(vec![
                json!({"type": "Digits", "individual_digits": false}),
                split("[0-9][0-9][0-9]".into()),
                byte_level(true),
            ]),
        ),
    ]
}

/// The same vocabulary under every pre-tokenizer, with and without `ignore_merges`, and ours as trained.
fn byte_level_pairs(json: &str) -> Vec<Pair> {
    let mut pairs = vec![Pair::new("qwen35 as trained", json)];
    let file: Value = serde_json::from_str(json).unwrap();
    for (name, pre) in pre_tokenizers() {
        for ignore_merges in [false, true] {
            let mut file = file.clone();
            file["pre_tokenizer"] = pre.clone();
            file["model"]["ignore_merges"] = json!(ignore_merges);
            pairs.push(Pair::new(format!("{name}, ignore_merges {ignore_merges}"), &file.to_string()));
        }
    }
    pairs
}

/// Both readers of every SentencePiece-style vocabulary.
fn spm_pairs() -> Vec<Pair> {
    spm_files().into_iter().map(|(name, json)| Pair::new(format!("spm {name}"), &json)).collect()
}

#[test]
fn ids_equal_on_eight_languages() {
    let files = trained(1200);
    for pair in byte_level_pairs(&files.tokenizer_json).iter().chain(&spm_pairs()) {
        pair.check(MULTILINGUAL);
        for line in MULTILINGUAL.lines() {
            pair.check(line);
            pair.check(&format!(" {line} "));
        }
    }
}

#[test]
fn ids_equal_on_corpora() {
    let texts = corpora(1_500_000);
    if texts.is_empty() {
        return;
    }
    let options = shakti_tokenizer::TrainOptions { vocab_size: 8000, min_frequency: 2 };
    let files = shakti_tokenizer::train(texts.iter().step_by(3), &options).unwrap();
    let pairs: Vec<Pair> = byte_level_pairs(&files.tokenizer_json).into_iter().chain(spm_pairs()).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    eprintln!("{} texts, {bytes} bytes, {} tokenizers", texts.len(), pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        // ours on everything, the others on a sample each
        for text in texts.iter().skip(index).step_by(if index == 0 { 1 } else { 8 }) {
            pair.check(text);
        }
    }
}

#[test]
fn written_files_read_alike() {
    let files = trained(900);
    let mut jsons = vec![files.tokenizer_json.clone()];
    let file: Value = serde_json::from_str(&files.tokenizer_json).unwrap();
    for (_, pre) in pre_tokenizers() {
        let mut file = file.clone();
        file["pre_tokenizer"] = pre;
        jsons.push(file.to_string());
    }
    for json in jsons {
        let first = Tokenizer::from_tokenizer_json(&json).unwrap();
        let written = first.to_tokenizer_json().unwrap();
        let pair = Pair::new("written", &written);
        pair.check(MULTILINGUAL);
        assert_eq!(pair.ours.to_tokenizer_json().unwrap(), written);
        let mut ids = Vec::new();
        first.encode(MULTILINGUAL, &mut ids);
        assert_eq!(ids, pair.expected(MULTILINGUAL));
    }
    let trained = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    assert_eq!(trained.to_tokenizer_json().unwrap(), files.tokenizer_json);
}

#[test]
fn added_tokens_are_found_as_the_oracle_finds_them() {
    let files = trained(600);
    let mut file: Value = serde_json::from_str(&files.tokenizer_json).unwrap();
    let size = file["model"]["vocab"].as_object().unwrap().len();
    let texts =
        [("<think>", false, false), ("<th", false, false), ("[x]", true, false), ("[y]", false, true)];
    for (n, (text, lstrip, rstrip)) in texts.into_iter().enumerate() {
        file["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": size + n, "content": text, "single_word": false,
            "lstrip": lstrip, "rstrip": rstrip, "normalized": false, "special": false}));
    }
    let mut pair = Pair::new("added", &file.to_string());
    let texts =
        ["a<think>b", "<th<think>", "a  [x]  b", "a  [y]  b", "[y] [x]", "<|end|>x<think>", "[y]\n\n[y] "];
    for text in texts {
        let mut ids = Vec::new();
        pair.ours.encode(text, &mut ids);
        assert_eq!(ids, pair.expected(text), "{text:?}");
    }
    pair.oracle.set_encode_special_tokens(false);
    for text in texts.into_iter().chain(["<|end|><|end|>", "<|bos|> x <|eos|>", ""]) {
        let mut ids = Vec::new();
        pair.ours.encode_with_special(text, &mut ids);
        assert_eq!(ids, pair.expected(text), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]
    #[test]
    fn ids_equal_on_arbitrary_strings(text in prop_oneof![
        any::<String>(),
        "[ a-zA-Z'\\n\\r\\t0-9.,<|>🙂हिन்é▁]{0,60}",
    ]) {
        thread_local! {
            static PAIRS: Vec<Pair> =
                byte_level_pairs(&trained(700).tokenizer_json).into_iter().chain(spm_pairs()).collect();
        }
        PAIRS.with(|pairs| pairs.iter().for_each(|pair| pair.check(&text)));
    }
}
