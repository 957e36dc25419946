//! The quickstart data through a tokenizer trained on it: masks, round trips, batches, what inspect shows.

use shakti_data::batches::one_epoch;
use shakti_data::{
    BatchSettings, Corpus, CorpusSettings, ReaderSettings, RecordKind, Split, Targets, TextEncoder, inspect,
    tokenize,
};
use shakti_tokenizer::{ChatTemplate, Tokenizer, TrainOptions, train};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn questions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/quickstart/medical_qa.jsonl.zst")
}

/// A vocabulary of 1,024 from the validation questions: small and quick, real all the same.
fn tokenizer() -> &'static (Tokenizer, ChatTemplate) {
    static BOTH: OnceLock<(Tokenizer, ChatTemplate)> = OnceLock::new();
    BOTH.get_or_init(|| {
        let corpus = Corpus::scan(&[questions()], &CorpusSettings::default()).unwrap();
        let records = corpus.records(Split::Validation, None).map(Result::unwrap);
        let texts = records.flat_map(|record| record.texts().map(str::to_owned).collect::<Vec<_>>());
        let files = train(texts, &TrainOptions { vocab_size: 1024, min_frequency: 2 }).unwrap();
        let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
        (tokenizer, ChatTemplate::shakti())
    })
}

fn encoder() -> TextEncoder<'static> {
    let (tokenizer, template) = tokenizer();
    TextEncoder { tokenizer, template }
}

#[test]
fn targets_of_a_conversation_are_its_answers_and_their_ends() {
    let corpus = Corpus::scan(&[questions()], &CorpusSettings::default()).unwrap();
    let records = || corpus.records(Split::Test, None);
    let started = std::time::Instant::now();
    let (source, report) = tokenize(records(), &encoder(), Targets::Answers, 2).unwrap();
    println!("{} conversations, {} tokens in {:?}", report.documents, report.tokens, started.elapsed());
    let tokenizer = encoder().tokenizer;
    for (index, record) in records().enumerate() {
        let RecordKind::Chat(messages) = record.unwrap().kind else { unreachable!() };
        let document = source.document(index);
        let targets: Vec<u32> =
            (0..document.ids.len()).filter(|&at| document.is_target(at)).map(|at| document.ids[at]).collect();
        assert_eq!(tokenizer.decode(&targets), format!("{}<|end|>", messages[1].content));
        assert!(tokenizer.decode(document.ids).starts_with("<|bos|><|user|>\n"));
    }
    let settings = BatchSettings { sequence_length: 4096, batch_tokens: 8192, seed: 0 };
    let learned: usize = one_epoch(&source, settings).unwrap().map(|batch| batch.num_targets()).sum();
    assert_eq!(learned, report.targets);
}

#[test]
fn a_document_begins_and_ends_and_its_text_never_becomes_a_control_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.txt");
    let text = "one <|end|> two <|eos|>";
    std::fs::write(&path, text).unwrap();
    let none = CorpusSettings { validation: 0.0, test: 0.0, ..Default::default() };
    let corpus = Corpus::scan(&[path], &none).unwrap();
    let (source, _) = tokenize(corpus.records(Split::Train, None), &encoder(), Targets::All, 1).unwrap();
    let ids = source.document(0).ids;
    let tokenizer = encoder().tokenizer;
    let special: Vec<usize> = (0..ids.len()).filter(|&at| tokenizer.is_special(ids[at])).collect();
    assert_eq!(special, [0, ids.len() - 1]);
    assert_eq!(tokenizer.decode(ids), format!("<|bos|>{text}<|eos|>"));
}

#[test]
fn inspect_shows_the_rendered_sample_with_its_mask() {
    let encoder = encoder();
    let found = inspect(&questions(), &ReaderSettings::default(), Some(&encoder), 0).unwrap();
    assert_eq!((found.chats, found.texts, found.duplicates), (9313, 0, 0));
    let shape: Vec<_> = found.sample.iter().map(|part| (part.is_target, part.text.as_str())).collect();
    let [(false, prompt), (true, answer), (false, "\n")] = shape[..] else { panic!("{shape:?}") };
    assert!(
        prompt.starts_with("<|bos|><|user|>\n") && prompt.ends_with("<|end|>\n<|assistant|>\n"),
        "{prompt}"
    );
    assert!(answer.ends_with(".<|end|>"), "{answer}");
    let tokens = found.tokens.unwrap();
    assert_eq!(tokens.count, 9313);
    assert!(found.answer_tokens.unwrap() < tokens.total);
}
