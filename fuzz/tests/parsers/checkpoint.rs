//! Model files: safetensors, and GGUF as a model.

use shakti_checkpoint::GgufModel;
use shakti_checkpoint::safetensors::SafetensorsFile;
use shakti_fuzz::{Target, scratch_folder};

use crate::{JSON_WORDS, file, golden};

#[test]
fn safetensors() {
    let folder = scratch_folder();
    let words =
        [&JSON_WORDS[..], &["\"dtype\"", "\"F32\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\""]]
            .concat();
    let seeds = vec![golden("tiny_llama/expect.safetensors")];
    Target { test: "checkpoint::safetensors", seeds, words: &words, rounds: 3_000 }.run(|bytes| {
        let Ok(open) = SafetensorsFile::open(&file(folder.path(), "a.safetensors", bytes)) else {
            return false;
        };
        open.tensors().iter().map(|tensor| open.bytes(tensor).len()).sum::<usize>() > 0
    });
}

#[test]
fn gguf_model() {
    let folder = scratch_folder();
    let seeds = vec![golden("gguf/spm_q4_0.gguf"), golden("gguf/bpe_q4_k_m.gguf")];
    let words = ["llama.block_count", "llama.attention.head_count", "token_embd.weight", "\u{0}"];
    Target { test: "checkpoint::gguf_model", seeds, words: &words, rounds: 2_000 }.run(|bytes| {
        let Ok(model) = GgufModel::open(file(folder.path(), "a.gguf", bytes)) else { return false };
        model.chat_template().is_ok() && model.weight_bytes() > 0
    });
}
