//! `tokenizer.json`, and chat templates.

use shakti_fuzz::Target;
use shakti_tokenizer::{
    ChatTemplate, DEFAULT_CHAT_TEMPLATE, Message, Tokenizer, TrainOptions, TrainedFiles, train,
};

use crate::JSON_WORDS;

/// Character-level pairs with byte fallback, as conversions from SentencePiece have them.
const SENTENCEPIECE: &str = r#"{"version":"1.0","added_tokens":[{"id":0,"content":"<unk>","single_word":false,"lstrip":false,
"rstrip":false,"normalized":false,"special":true},{"id":1,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,
"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},
{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},"pre_tokenizer":null,"post_processor":null,"decoder":
{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},
{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":{"type":"BPE","dropout":null,"unk_token":"<unk>",
"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,
BYTES"\u2581":258,"a":259,"b":260,"ab":261,"\u2581ab":262},"merges":[["a","b"],["\u2581","ab"]]}}"#;

fn trained() -> TrainedFiles {
    let texts =
        ["The heart pumps blood through the body.", "Das Herz pumpt Blut; \u{939}\u{943}\u{926}\u{92f}."];
    let options = TrainOptions { vocab_size: 300, min_frequency: 1 };
    train(texts.into_iter(), &options).expect("a small vocabulary")
}

fn sentencepiece() -> String {
    let bytes: String = (0..256).map(|byte| format!("\"<0x{byte:02X}>\":{},", byte + 2)).collect();
    SENTENCEPIECE.replace("BYTES", &bytes)
}

#[test]
fn tokenizer_json() {
    let seeds = vec![trained().tokenizer_json.into_bytes(), sentencepiece().into_bytes()];
    let words =
        [&JSON_WORDS[..], &["\"vocab\"", "\"merges\"", "\"BPE\"", "\"ByteLevel\"", "4294967295"]].concat();
    Target { test: "tokenizer::tokenizer_json", seeds, words: &words, rounds: 3_000 }.run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(tokenizer) = Tokenizer::from_tokenizer_json(text) else { return false };
        let mut ids = Vec::new();
        tokenizer.encode("The heart ab \u{939} \u{1f600}<s>", &mut ids);
        tokenizer.decode(&ids);
        true
    });
}

#[test]
fn chat_template() {
    let files = trained();
    let tokenizer = Tokenizer::from_tokenizer_json(&files.tokenizer_json).expect("a tokenizer");
    let words = [
        "{%",
        "%}",
        "{{",
        "}}",
        "for",
        "endfor",
        "if",
        "endif",
        "message",
        "loop",
        "(",
        ")",
        "[0]",
        "range(9999999)",
    ];
    let seeds = vec![DEFAULT_CHAT_TEMPLATE.into()];
    Target { test: "tokenizer::chat_template", seeds, words: &words, rounds: 1_000 }.run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(template) = ChatTemplate::new(text) else { return false };
        let messages = [Message::new("user", "q <|end|>"), Message::new("assistant", "a")];
        template.render(&tokenizer, &messages, false).is_ok()
    });
}
