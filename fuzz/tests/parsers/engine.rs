//! GGUF opened for one short text and a few tokens, beside the same file opened as usual.

use std::path::Path;
use std::sync::Arc;

use shakti_engine::{CacheMode, LoadOptions, Model, Session};
use shakti_fuzz::{Target, scratch_folder};
use shakti_kernels::{Cpu, KernelSet};

use crate::{file, golden};

/// Ids of a text and the bits of the scores after it, all NaN alike; `None` where the file is refused.
fn answer(path: &Path, cpu: &Arc<Cpu>, at_once: bool) -> Option<(Vec<u32>, Vec<u32>)> {
    let options = LoadOptions { one_short_text: at_once, few_tokens: at_once, ..LoadOptions::default() };
    let model = Model::open_with(path, cpu.clone(), options).ok()?;
    let ids = model.encode_text("The heart \u{939} \u{1f600}").ok()?;
    let mut session = Session::new(model.network(), CacheMode::Bounded { max_seq_len: 64 });
    let scores = session.feed(&ids).ok()?;
    let bits = scores.iter().map(|score| if score.is_nan() { f32::NAN } else { *score }.to_bits());
    Some((ids, bits.collect()))
}

#[test]
fn gguf_at_once() {
    let folder = scratch_folder();
    let seeds = vec![golden("gguf/spm_q4_0.gguf"), golden("gguf/bpe_q4_k_m.gguf")];
    let words = [
        "llama.block_count",
        "llama.attention.head_count",
        "token_embd.weight",
        "\u{0}",
        "blk.0.attn_q.weight",
    ];
    let cpu = Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), 1));
    Target { test: "engine::gguf_at_once", seeds, words: &words, rounds: 500 }.run(|bytes| {
        let path = file(folder.path(), "a.gguf", bytes);
        let at_once = answer(&path, &cpu, true);
        // What is refused as a whole may still answer a text that does not meet the damage.
        if let Some(whole) = answer(&path, &cpu, false) {
            assert!(at_once.as_ref() == Some(&whole), "opened at once, the file answers otherwise");
        }
        at_once.is_some()
    });
}
