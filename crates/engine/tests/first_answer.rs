//! A model opened for one short text and a few tokens answers as one opened for all that may come.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shakti_engine::{
    CacheMode, GenerateOptions, Generation, LoadOptions, Model, SamplerOptions, Session, generate,
};
use shakti_kernels::{Cpu, KernelSet};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/gguf").join(name)
}

fn open(path: &Path, threads: usize, options: LoadOptions) -> Arc<Model> {
    let cpu = Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), threads));
    Arc::new(Model::open_with(path, cpu, options).expect("a golden model"))
}

fn answer(model: &Arc<Model>, text: &str) -> (Vec<u32>, Generation) {
    let prompt = model.encode_text(text).expect("ids");
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: 256 });
    let options = GenerateOptions {
        max_new_tokens: Some(12),
        sampler: SamplerOptions::greedy(),
        stop_strings: Vec::new(),
        ignore_eos: true,
    };
    let mut go_on = |_: &str| Ok(ControlFlow::Continue(()));
    let generation = generate(model, &mut session, &prompt, &options, &mut go_on).expect("an answer");
    (prompt, generation)
}

#[test]
fn answers_are_the_same() {
    let long = "The patient has asthma. ".repeat(8);
    for name in ["spm_q4_0.gguf", "bpe_q4_k_m.gguf"] {
        let whole = open(&golden(name), 2, LoadOptions::default());
        for threads in [1, 2] {
            for (one_short_text, few_tokens) in [(true, false), (false, true), (true, true)] {
                let options = LoadOptions { one_short_text, few_tokens, ..LoadOptions::default() };
                let model = open(&golden(name), threads, options);
                for text in ["Asthma is", "a", " दमा 🙂", &long] {
                    let ((ids, got), (wanted_ids, wanted)) = (answer(&model, text), answer(&whole, text));
                    assert_eq!(ids, wanted_ids, "{name}: {text:?}");
                    assert_eq!(
                        (got.ids, got.text),
                        (wanted.ids, wanted.text),
                        "{name}: {text:?}, {options:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_read_later_is_checked_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("short.gguf");
    let bytes = std::fs::read(golden("spm_q4_0.gguf")).expect("a golden model");
    std::fs::write(&path, &bytes[..bytes.len() - 100]).expect("written");
    let cpu = Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), 1));
    let options = LoadOptions { one_short_text: true, few_tokens: true, ..LoadOptions::default() };
    let message = |options| {
        let error = Model::open_with(&path, cpu.clone(), options).expect_err("a file without its end");
        let source = std::error::Error::source(&error).expect("a cause");
        (error.to_string(), source.to_string())
    };
    assert_eq!(message(options), message(LoadOptions::default()));
    assert!(message(options).1.contains("tensor"), "{:?}", message(options));
}
