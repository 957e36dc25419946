//! Public files of preferences through a tokenizer trained on the quickstart's answers: what is kept, what is left out and
//! where, and rows of one conversation on one side of the splits.

use shakti_data::preference::{Reason, pairs, prompts, rated};
use shakti_data::{
    Corpus, CorpusSettings, PreferencePair, ReaderSettings, RecordKind, RecordReader, Role, Split,
    TextEncoder,
};
use shakti_tokenizer::{ChatTemplate, Tokenizer, TrainOptions, train};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of larger real files beside the repository; absent in most checkouts.
fn shared(path: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data/instruct").join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn encoder() -> TextEncoder<'static> {
    static BOTH: OnceLock<(Tokenizer, ChatTemplate)> = OnceLock::new();
    let (tokenizer, template) = BOTH.get_or_init(|| {
        let path = root().join("data/quickstart/medical_qa.jsonl.zst");
        let records = open(&path).take(400).map(Result::unwrap);
        let texts = records.flat_map(|record| record.texts().map(str::to_owned).collect::<Vec<_>>());
        let files = train(texts, &TrainOptions { vocab_size: 1024, min_frequency: 2 }).unwrap();
        let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).unwrap();
        (tokenizer, ChatTemplate::shakti())
    });
    TextEncoder { tokenizer, template }
}

fn open(path: &Path) -> RecordReader {
    RecordReader::open(path, &ReaderSettings::default()).unwrap()
}

/// Both sides begin with the same prompt, which ends where the answer begins, and end with the end of the turn.
fn check_pair(pair: &PreferencePair, whole: bool) {
    let encoder = encoder();
    let prompt_len = pair.chosen.prompt_len;
    assert_eq!(pair.rejected.prompt_len, prompt_len);
    assert_eq!(pair.chosen.ids[..prompt_len], pair.rejected.ids[..prompt_len]);
    assert!(encoder.tokenizer.decode(&pair.chosen.ids[..prompt_len]).ends_with("<|end|>\n<|assistant|>\n"));
    for side in [&pair.chosen, &pair.rejected] {
        assert!(!side.completion().is_empty());
        assert!(!whole || encoder.tokenizer.decode(side.completion()).ends_with("<|end|>"));
    }
}

#[test]
fn public_pairs_are_kept_or_listed() {
    for (path, records, equal, empty) in [
        ("hh_rlhf/harmless-base.test.jsonl.gz", 2312, &[][..], &[87, 517, 926, 1104][..]),
        ("hh_rlhf/helpful-base.test.jsonl.gz", 2354, &[722, 2169], &[121, 741, 1215, 2064]),
        ("hh_rlhf/helpful-online.test.jsonl.gz", 1137, &[199, 737, 786], &[553, 894, 1054]),
        ("ultrafeedback/train_clean.jsonl", 1000, &[307, 656, 911, 998], &[479, 834]),
        ("ultrafeedback/eval_clean.jsonl", 200, &[44], &[]),
        ("llama_factory/dpo_en_demo.json", 300, &[], &[]),
    ] {
        let Some(path) = shared(path) else { continue };
        let started = std::time::Instant::now();
        let (found, left_out) = pairs(open(&path), &encoder(), 1 << 20, 2).unwrap();
        println!("{}: {} pairs in {:?}; {left_out}", path.display(), found.len(), started.elapsed());
        left_out.check().unwrap();
        let lines = |reason| -> Vec<u64> {
            left_out.rows().iter().filter(|row| row.reason == reason).map(|row| row.line).collect()
        };
        assert_eq!((lines(Reason::Equal).as_slice(), lines(Reason::Empty).as_slice()), (equal, empty));
        assert_eq!((left_out.rows().len(), left_out.read()), (equal.len() + empty.len(), records));
        assert_eq!(found.len() + left_out.rows().len(), records);
        found.iter().for_each(|pair| check_pair(pair, true));
    }
}

#[test]
fn cut_pairs_keep_a_part_of_each_answer() {
    let Some(path) = shared("ultrafeedback/eval_clean.jsonl") else { return };
    let (whole, _) = pairs(open(&path), &encoder(), 1 << 20, 2).unwrap();
    let (found, left_out) = pairs(open(&path), &encoder(), 512, 2).unwrap();
    println!("{left_out}");
    left_out.check().unwrap();
    assert!(left_out.cut() > 0 && left_out.count(Reason::NoRoom) > 0 && !found.is_empty());
    for pair in &found {
        check_pair(pair, false);
        let same = whole.iter().find(|other| other.line == pair.line).unwrap();
        for (cut, whole) in [(&pair.chosen, &same.chosen), (&pair.rejected, &same.rejected)] {
            assert_eq!(cut.ids, whole.ids[..whole.ids.len().min(513)]);
        }
    }
    let (asked, _) = prompts(open(&path), &encoder(), 512, 2).unwrap();
    for pair in &found {
        let prompt = asked.iter().find(|prompt| prompt.line == pair.line).unwrap();
        assert_eq!(prompt.ids, pair.chosen.ids[..pair.chosen.prompt_len]);
    }
}

#[test]
fn public_judgements_are_kept() {
    let Some(path) = shared("llama_factory/kto_en_demo.json") else { return };
    let (found, left_out) = rated(open(&path), &encoder(), 1 << 20, 2).unwrap();
    assert_eq!((found.len(), left_out.rows().len()), (300, 0));
    assert_eq!(found.iter().filter(|item| item.good).count(), 150);
}

#[test]
fn rows_of_one_conversation_are_on_one_side() {
    let Some(path) = shared("hh_rlhf/harmless-base.test.jsonl.gz") else { return };
    let corpus = Corpus::scan(&[path], &CorpusSettings::default()).unwrap();
    println!("{:#?}", corpus.report());
    let mut split_of: HashMap<String, Split> = HashMap::new();
    let mut again = 0;
    for split in Split::ALL {
        for record in corpus.records(split, None) {
            let RecordKind::Preference { prompt, .. } = record.unwrap().kind else { unreachable!() };
            let opening = prompt.into_iter().find(|message| message.role == Role::User).unwrap();
            let before = split_of.insert(opening.content, split);
            again += usize::from(before.is_some());
            assert!(before.is_none_or(|before| before == split));
        }
    }
    assert!(again > 100, "{again} rows share their first turn with another");
}
