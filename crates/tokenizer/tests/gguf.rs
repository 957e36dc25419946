//! Vocabularies in GGUF files against what llama.cpp gives for them, and through our own metadata back.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{MULTILINGUAL, Metadata, corpora, spm_files, trained, workspace};
use shakti_gguf::GgufFile;
use shakti_tokenizer::{ErrorKind, GgufLookup, GgufValue, GgufVocabulary, Tokenizer};

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, &mut ids);
    ids
}

fn open(path: &Path) -> Result<Tokenizer, shakti_tokenizer::TokenizerError> {
    Tokenizer::from_gguf(&Metadata(&GgufFile::open(path).unwrap()))
}

/// Metadata in memory.
#[derive(Default, Clone)]
struct InMemory(BTreeMap<String, GgufValue>);

impl InMemory {
    fn of(tokenizer: &Tokenizer) -> Self {
        let metadata = tokenizer.to_gguf_metadata().unwrap();
        Self(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

macro_rules! get {
    ($self:ident, $key:ident, $kind:ident, $value:ident => $get:expr) => {
        match $self.0.get($key)? {
            GgufValue::$kind($value) => Some($get),
            _ => None,
        }
    };
}

impl GgufLookup for InMemory {
    fn string(&self, key: &str) -> Option<&str> {
        get!(self, key, String, text => text.as_str())
    }
    fn for_each_string<'a>(&'a self, key: &str, each: &mut dyn FnMut(&'a str)) -> Option<()> {
        get!(self, key, Strings, texts => texts.iter().for_each(|text| each(text)))
    }
    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        get!(self, key, Floats, numbers => numbers.clone())
    }
    fn integers(&self, key: &str) -> Option<Vec<i32>> {
        get!(self, key, Integers, numbers => numbers.clone())
    }
    fn integer(&self, key: &str) -> Option<u64> {
        get!(self, key, U32, number => u64::from(*number))
    }
    fn boolean(&self, key: &str) -> Option<bool> {
        get!(self, key, Bool, flag => *flag)
    }
}

#[test]
fn ids_equal_llama_cpp_s_on_goldens() {
    for name in ["spm_q4_0", "bpe_q4_k_m"] {
        let folder = workspace().join("golden/gguf");
        let tokenizer = open(&folder.join(format!("{name}.gguf"))).unwrap();
        let cases = std::fs::read_to_string(folder.join(format!("{name}.tokens.json"))).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_str(&cases).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(encode(&tokenizer, text), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
        }
    }
}

/// `LLAMA_CPP_MODELS` names the folder with llama.cpp's `ggml-vocab-*.gguf` files.
#[test]
fn ids_equal_llama_cpp_s_vocabularies() {
    let Some(folder) = std::env::var_os("LLAMA_CPP_MODELS") else {
        eprintln!("skipped: LLAMA_CPP_MODELS is not set");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    paths.sort();
    let mut cases = 0;
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let tokenizer = match open(&path) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unsupported(_)), "{name}: {error}");
                eprintln!("{name}: {error}");
                continue;
            }
        };
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap_or_default();
        let expected = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap_or_default();
        for (text, ids) in texts.split("\n__ggml_vocab_test__\n").zip(expected.lines()) {
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(encode(&tokenizer, text), ids, "{name}: {text:?}");
            cases += 1;
        }
        check_metadata(&name, &tokenizer);
        eprintln!("{name}: {} tokens, {cases} cases so far", tokenizer.vocab_size());
    }
    assert!(cases > 0);
}

/// What is written reads as the same vocabulary.
fn check_metadata(name: &str, tokenizer: &Tokenizer) {
    let metadata = InMemory::of(tokenizer);
    let again = Tokenizer::from_gguf(&metadata).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(InMemory::of(&again).0, metadata.0, "{name}");
    assert_eq!(again.special_ids(), tokenizer.special_ids(), "{name}");
    assert_eq!((again.adds_bos(), again.adds_eos()), (tokenizer.adds_bos(), tokenizer.adds_eos()), "{name}");
    for id in 0..tokenizer.vocab_size() as u32 {
        let is_hole = tokenizer.token_bytes(id).is_empty();
        assert!(is_hole || again.token_bytes(id) == tokenizer.token_bytes(id), "{name}: {id}");
        assert_eq!(again.token_kind(id), tokenizer.token_kind(id), "{name}: {id}");
    }
    for text in MULTILINGUAL.lines().chain(corpora(20_000).iter().map(String::as_str)) {
        assert_eq!(encode(&again, text), encode(tokenizer, text), "{name}: {text:?}");
    }
}

#[test]
fn trained_vocabularies_pass_through_metadata() {
    let files = trained(1000);
    let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    let metadata = InMemory::of(&tokenizer);
    assert_eq!(metadata.string("tokenizer.ggml.pre"), Some("qwen35"));
    assert_eq!(metadata.integer("tokenizer.ggml.bos_token_id"), Some(0));
    assert_eq!(metadata.integer("tokenizer.ggml.eot_token_id"), Some(6));
    assert_eq!(metadata.boolean("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(metadata.integers("tokenizer.ggml.token_type").unwrap()[..8], [3, 3, 3, 3, 3, 3, 3, 1]);
    check_metadata("trained", &tokenizer);
}

/// Scores say the same as merges: the metadata read back gives the ids that `tokenizers` gives for the JSON.
#[test]
fn merges_of_sentence_piece_vocabularies_pass_through_scores() {
    let refused = [("first, split", "words that are cut"), ("always", "a space put only before")];
    let odd = ["", " ", "  a", "aaaaaaaaa", "a  b   c", "▁▁", "<s>", "日本語 한국어 🙂🙂", "\n\n\t x"];
    for (name, json) in spm_files() {
        let tokenizer = Tokenizer::from_tokenizer_json(&json).unwrap();
        if let Some((_, why)) = refused.iter().find(|(refused, _)| *refused == name) {
            let error = tokenizer.to_gguf_metadata().unwrap_err().to_string();
            assert!(error.starts_with(&format!("tokenizer.ggml.model: not supported: {why}")), "{error}");
            continue;
        }
        let again = Tokenizer::from_gguf(&InMemory::of(&tokenizer)).unwrap();
        let mut oracle: tokenizers::Tokenizer = json.parse().unwrap();
        oracle.set_encode_special_tokens(true);
        let texts = corpora(100_000);
        for text in MULTILINGUAL.lines().chain(odd).chain(texts.iter().map(String::as_str)) {
            let expected = oracle.encode_fast(text, false).unwrap();
            assert_eq!(encode(&again, text), expected.get_ids(), "{name}: {text:?}");
        }
    }
}

#[test]
fn what_gguf_cannot_say_is_refused() {
    let (_, json) = spm_files().swap_remove(0);
    let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
    let export = |file: &serde_json::Value| {
        let tokenizer = Tokenizer::from_tokenizer_json(&file.to_string()).unwrap();
        tokenizer.to_gguf_metadata().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(export(&file), Ok(()));
    let mut stripping = file.clone();
    stripping["added_tokens"][1]["rstrip"] = true.into();
    let why = "tokenizer.ggml.tokens: not supported: added token \"<s>\" takes white space beside it along";
    assert_eq!(export(&stripping), Err(why.into()));
    // a token whose merge is missing: scores would make it of any two neighbours
    let merges = file["model"]["merges"].as_array_mut().unwrap();
    let last = merges.pop().unwrap();
    let error = export(&file).unwrap_err();
    assert!(error.starts_with("tokenizer.ggml.merges: not supported: no merge of "), "{last}: {error}");
}

#[test]
fn lying_metadata_is_an_error_with_the_key() {
    let files = trained(300);
    let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    let whole = InMemory::of(&tokenizer);
    let with = |key: &str, value: Option<GgufValue>| {
        let mut metadata = whole.clone();
        match value {
            Some(value) => metadata.0.insert(key.to_owned(), value),
            None => metadata.0.remove(key),
        };
        let error = Tokenizer::from_gguf(&metadata).map(|_| ()).unwrap_err().to_string();
        let on_demand = GgufVocabulary::from_gguf(&metadata);
        let on_demand = on_demand.and_then(|vocabulary| vocabulary.tokenizer().map(|_| ()));
        assert_eq!(on_demand.unwrap_err().to_string(), error);
        error
    };
    let strings = |key: &str| whole.strings(key).unwrap().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let tokens = "tokenizer.ggml.tokens";
    let merges = "tokenizer.ggml.merges";
    for key in ["tokenizer.ggml.model", tokens, merges] {
        assert_eq!(with(key, None), format!("{key}: required field is missing"));
    }
    let unknown = with("tokenizer.ggml.pre", Some(GgufValue::String("tekken".into())));
    assert_eq!(unknown, "tokenizer.ggml.pre: not supported: \"tekken\"");
    let unknown = with("tokenizer.ggml.model", Some(GgufValue::String("rwkv".into())));
    assert_eq!(unknown, "tokenizer.ggml.model: not supported: \"rwkv\"");
    let mut doubled = strings(tokens);
    doubled[20] = doubled[10].clone();
    assert!(with(tokens, Some(GgufValue::Strings(doubled))).ends_with("token 20 repeats token 10"));
    let mut lying = strings(merges);
    lying[1] = "Q zzz".into();
    let error = with(merges, Some(GgufValue::Strings(lying.clone())));
    assert_eq!(error, "tokenizer.ggml.merges[1]: \"zzz\" is no token of the vocabulary");
    lying[1] = "Q".into();
    let error = with(merges, Some(GgufValue::Strings(lying)));
    assert_eq!(error, "tokenizer.ggml.merges[1]: \"Q\" is not two tokens");
    let error = with("tokenizer.ggml.token_type", Some(GgufValue::Integers(vec![1; 7])));
    assert_eq!(error, "tokenizer.ggml.token_type: 7 types for 300 tokens");
    let error = with("tokenizer.ggml.token_type", Some(GgufValue::Integers(vec![9; 300])));
    assert_eq!(error, "tokenizer.ggml.token_type[0]: no token type 9");
    let error = with("tokenizer.ggml.eos_token_id", Some(GgufValue::U32(300)));
    assert_eq!(error, "tokenizer.ggml.eos_token_id: id 300 is out of range for 300 tokens");
}

/// `LLAMA_TOKENIZE` names llama.cpp's program of that name.
#[test]
fn exported_vocabularies_encode_alike_in_llama_cpp() {
    let Some(program) = std::env::var_os("LLAMA_TOKENIZE") else {
        eprintln!("skipped: LLAMA_TOKENIZE is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("vocab.gguf");
    let texts: Vec<String> = corpora(300_000).into_iter().chain([MULTILINGUAL.to_owned()]).collect();
    let options = shakti_tokenizer::TrainOptions { vocab_size: 6000, min_frequency: 2 };
    let files = shakti_tokenizer::train(texts.iter(), &options).unwrap();
    let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    write_vocabulary(&model, &tokenizer);
    let mut count = 0;
    for text in &texts {
        let file = folder.path().join("text");
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(&program);
        command.args(["--ids", "--no-bos", "--no-parse-special", "--no-escape", "--log-disable", "-m"]);
        let output = command.arg(&model).arg("-f").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ids: Vec<u32> = serde_json::from_slice(&output.stdout).unwrap();
        let ours = encode(&tokenizer, text);
        if let Some(at) = (0..ours.len().max(ids.len())).find(|&at| ours.get(at) != ids.get(at)) {
            let near = |ids: &[u32]| tokenizer.decode(&ids[at.saturating_sub(8)..ids.len().min(at + 8)]);
            panic!("id {at}: {:?} is {:?} there", near(&ours), near(&ids));
        }
        count += ids.len();
    }
    eprintln!("{} texts, {count} ids equal llama.cpp's", texts.len());
}

/// A GGUF file without tensors.
fn write_vocabulary(path: &Path, tokenizer: &Tokenizer) {
    let mut writer = shakti_gguf::GgufWriter::new();
    writer.put("general.architecture", "llama").unwrap();
    for key in
        ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]
    {
        writer.put(&format!("llama.{key}"), 1_u32).unwrap();
    }
    writer.put("llama.attention.layer_norm_rms_epsilon", 1e-5_f32).unwrap();
    for (key, value) in tokenizer.to_gguf_metadata().unwrap() {
        match value {
            GgufValue::String(text) => writer.put(key, text.as_str()),
            GgufValue::Strings(texts) => writer.put_strings(key, &texts),
            GgufValue::Floats(numbers) => writer.put_array(key, &numbers),
            GgufValue::Integers(numbers) => writer.put_array(key, &numbers),
            GgufValue::U32(number) => writer.put(key, number),
            GgufValue::Bool(flag) => writer.put(key, flag),
        }
        .unwrap();
    }
    writer.create(path, shakti_gguf::Overwrite::Refuse).unwrap().finish().unwrap();
}

/// A vocabulary on demand against the whole: each text by a fresh one, so that none has the tables of all tokens.
fn check_on_demand(name: &str, gguf: &dyn GgufLookup, texts: &[&str]) {
    let whole = Tokenizer::from_gguf(gguf).unwrap();
    for text in texts {
        let vocabulary = GgufVocabulary::from_gguf(gguf).unwrap();
        let mut ids = Vec::new();
        vocabulary.encode(text, &mut ids).unwrap();
        assert_eq!(ids, encode(&whole, text), "{name}: {text:?}");
    }
    let vocabulary = GgufVocabulary::from_gguf(gguf).unwrap();
    assert_eq!(vocabulary.vocab_size(), whole.vocab_size(), "{name}");
    assert_eq!(vocabulary.special_ids(), whole.special_ids(), "{name}");
    assert_eq!(vocabulary.adds_bos(), whole.adds_bos(), "{name}");
    assert_eq!(vocabulary.chat_template(), whole.chat_template(), "{name}");
    for id in 0..=whole.vocab_size() as u32 {
        assert_eq!(vocabulary.token_bytes(id), whole.token_bytes(id), "{name}: {id}");
        assert_eq!(vocabulary.is_special(id), whole.is_special(id), "{name}: {id}");
    }
    // after some texts, and for long ones, with all tables
    for text in texts.iter().chain([&texts.concat().as_str()]) {
        let mut ids = Vec::new();
        vocabulary.encode(text, &mut ids).unwrap();
        assert_eq!(ids, encode(&whole, text), "{name}: {text:?}");
    }
}

#[test]
fn vocabularies_on_demand_give_the_same_ids() {
    let odd = [
        "",
        " ",
        "  a",
        "aaaaaaaaa",
        "a  b   c",
        "▁▁",
        "▁a",
        " ▁x",
        "<s>",
        "<|end|>",
        "a<|end|>b",
        "日本語 한국어 🙂🙂",
        "\n\n\t x",
        "\u{0}\u{7f}\u{ad}",
        "Ġt Ċ",
        "I'll don't 1234 12",
        "e\u{301} ﬁ",
        "<0x0A>",
    ];
    let corpora = corpora(10_000);
    let mut texts: Vec<&str> = MULTILINGUAL.lines().chain(odd).collect();
    texts.extend(corpora.iter().map(|text| &text[..text.floor_char_boundary(300)]));
    let files = trained(1000);
    let trained = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    check_on_demand("trained", &InMemory::of(&trained), &texts);
    for (name, json) in spm_files() {
        if let Ok(metadata) = Tokenizer::from_tokenizer_json(&json).unwrap().to_gguf_metadata() {
            let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value));
            check_on_demand(name, &InMemory(metadata.collect()), &texts);
        }
    }
    for name in ["spm_q4_0", "bpe_q4_k_m"] {
        let file = GgufFile::open(workspace().join(format!("golden/gguf/{name}.gguf"))).unwrap();
        check_on_demand(name, &Metadata(&file), &texts);
    }
}

#[test]
fn damage_that_takes_all_tables_to_see_is_an_error_where_a_text_meets_it() {
    let files = trained(300);
    let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
    let whole = InMemory::of(&tokenizer);
    let damaged = |key: &str, index: usize, text: &str| {
        let mut metadata = whole.clone();
        let mut texts: Vec<_> = whole.strings(key).unwrap().into_iter().map(str::to_owned).collect();
        texts[index] = text.to_owned();
        metadata.0.insert(key.to_owned(), GgufValue::Strings(texts));
        GgufVocabulary::from_gguf(&metadata).unwrap()
    };
    let missing = damaged("tokenizer.ggml.merges", 1, "Q zzz");
    missing.encode("quiet", &mut Vec::new()).unwrap();
    let expected = "tokenizer.ggml.merges[1]: \"zzz\" is no token of the vocabulary";
    assert_eq!(missing.encode("Qzzz", &mut Vec::new()).unwrap_err().to_string(), expected);
    assert_eq!(missing.encode(&"quiet ".repeat(1000), &mut Vec::new()).unwrap_err().to_string(), expected);
    assert_eq!(missing.tokenizer().unwrap_err().to_string(), expected);
    let token = whole.strings("tokenizer.ggml.tokens").unwrap()[290].to_owned();
    let repeated = damaged("tokenizer.ggml.tokens", 299, &token);
    let text = String::from_utf8(tokenizer.token_bytes(290).to_vec()).unwrap();
    repeated.encode("\u{1}", &mut Vec::new()).unwrap();
    let error = repeated.encode(&text, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.ends_with("token 299 repeats token 290"), "{error}");
}
