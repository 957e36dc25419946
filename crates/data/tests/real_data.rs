//! The quickstart files, and larger real files where they are: splits, duplicates, overlap, every layout.

use shakti_data::{Corpus, CorpusSettings, ReaderSettings, RecordReader, Split};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of larger real files beside the repository; absent in most checkouts.
fn shared(path: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// Every document of a scanned corpus is in one split, by every field that names it.
fn documents_are_whole(corpus: &Corpus) -> usize {
    let mut split_of: HashMap<String, Split> = HashMap::new();
    for split in Split::ALL {
        for record in corpus.records(split, None) {
            for document in record.unwrap().source_documents {
                let before = split_of.insert(document.clone(), split);
                assert!(before.is_none_or(|before| before == split), "{document}");
            }
        }
    }
    split_of.len()
}

#[test]
fn quickstart_files_split_cleanly() {
    let folder = root().join("data/quickstart");
    let paths = [folder.join("medical_text.jsonl.zst"), folder.join("medical_qa.jsonl.zst")];
    let started = std::time::Instant::now();
    let corpus = Corpus::scan(&paths, &CorpusSettings::default()).unwrap();
    println!("scanned in {:?}", started.elapsed());
    let report = corpus.report();
    println!("{report:#?}");
    assert_eq!(report.files.iter().map(|file| file.records).collect::<Vec<_>>(), [807, 9313]);
    assert_eq!(report.duplicates(), 0);
    assert!(report.largest_group * 50 < report.documents, "one group swallows the corpus");
    for split in &report.splits[1..] {
        assert!(split.records > 200 && split.records < 1000, "{split:?}");
    }
    documents_are_whole(&corpus);
    let overlap = corpus.overlap().unwrap();
    for pair in &overlap.pairs {
        println!("{pair}; {} of {} grams", pair.grams_shared, pair.grams);
        let share = pair.grams_shared as f64 / pair.grams as f64;
        assert!(share < 0.05, "{share} of the 13-grams: only standing phrases may be shared");
    }
}

#[test]
fn medquad_answers_and_their_pages_stay_together() {
    let (Some(pages), Some(answers)) =
        (shared("corpus/medical.jsonl.zst"), shared("instruct/medical/medquad_qa.jsonl.zst"))
    else {
        return;
    };
    let mut settings = CorpusSettings::default();
    settings.reader.document_fields = vec!["source".into(), "url".into()];
    let corpus = Corpus::scan(&[&pages, &answers], &settings).unwrap();
    println!("{:#?}", corpus.report());
    assert!(documents_are_whole(&corpus) > 5000);
    // Without any field that names documents, the texts they share still tie most of them together.
    settings.reader.document_fields.clear();
    let by_texts = Corpus::scan(&[&pages, &answers], &settings).unwrap();
    settings.shared_text_characters = usize::MAX;
    let by_records = Corpus::scan(&[&pages, &answers], &settings).unwrap();
    let half_shared = |corpus: &Corpus| {
        let started = std::time::Instant::now();
        let pair = corpus.overlap().unwrap().pairs.swap_remove(1);
        println!("{pair} in {:?}", started.elapsed());
        pair.records_half_shared as f64 / pair.records as f64
    };
    let shares = [&corpus, &by_texts, &by_records].map(half_shared);
    println!(
        "test records half of whose 13-grams are in training, by document, by text, by record: {shares:?}"
    );
    assert!(shares[0] < shares[2] / 2.0 && shares[1] < shares[2] / 2.0);
}

#[test]
fn public_files_of_every_layout_read_to_their_end() {
    for (path, records, format) in [
        ("instruct/llama_factory/alpaca_en_demo.json", 999, "JSON of instruction and output (Alpaca)"),
        (
            "instruct/llama_factory/dpo_en_demo.json",
            300,
            "JSON of conversations, chosen and rejected (LLaMA-Factory)",
        ),
        ("instruct/llama_factory/kto_en_demo.json", 300, "JSON of messages and label (KTO)"),
        ("instruct/ultrafeedback/train_clean.jsonl", 1000, "JSON lines of prompt, chosen and rejected"),
        (
            "instruct/hh_rlhf/helpful-base.test.jsonl.gz",
            2354,
            "JSON lines of chosen and rejected turns (HH-RLHF), gzip",
        ),
        ("instruct/medical/chatdoctor5k.json", 5452, "JSON of instruction and output (Alpaca)"),
        ("instruct/medical/medquad_qa.jsonl.zst", 16407, "JSON lines of question and answer, zstd"),
        (
            "instruct/dolly/dolly_instruction_response_6400.jsonl",
            6400,
            "JSON lines of instruction and output (Alpaca)",
        ),
        ("benchmarks/general/gsm8k/train.jsonl", 7473, "JSON lines of question and answer"),
        ("benchmarks/general/lambada/lambada_test.jsonl", 5153, "JSON lines of text"),
        ("corpus/medical.jsonl.zst", 5958, "JSON lines of text, zstd"),
    ] {
        let Some(path) = shared(path) else { continue };
        let mut reader = RecordReader::open(&path, &ReaderSettings::default()).unwrap();
        let count = (&mut reader).map(Result::unwrap).count();
        assert_eq!((count, reader.format().to_string().as_str()), (records, format), "{}", path.display());
    }
    let Some(path) = shared("instruct/llama_factory/glaive_toolcall_en_demo.json") else { return };
    let error = RecordReader::open(&path, &ReaderSettings::default())
        .and_then(|reader| reader.collect::<Result<Vec<_>, _>>())
        .unwrap_err()
        .to_string();
    assert!(error.contains("conversations["), "{error}");
}
