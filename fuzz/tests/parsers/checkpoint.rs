//! Model files: safetensors, and GGUF as a model.

use shakti_checkpoint::safetensors::SafetensorsFile;
use shakti_checkpoint::{MANIFEST_FILE, ModelFile, verify_manifest, write_manifest};
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
        let Ok(model) = ModelFile::open(file(folder.path(), "a.gguf", bytes)) else { return false };
        let Ok(tokenizer) = model.read_tokenizer() else { return false };
        let mut ids = Vec::new();
        tokenizer.encode("The heart \u{939} \u{1f600}", &mut ids);
        tokenizer.decode(&ids);
        model.chat_template().is_ok() && model.weight_bytes() > 0
    });
}

#[test]
fn checksums() {
    let folder = scratch_folder();
    file(folder.path(), "a", b"some bytes");
    file(folder.path(), "b", b"others");
    write_manifest(folder.path()).expect("checksums");
    let seeds = vec![std::fs::read(folder.path().join(MANIFEST_FILE)).expect("the file of checksums")];
    let words = ["../a", "/", "\n", "  a", "  c"];
    Target { test: "checkpoint::checksums", seeds, words: &words, rounds: 1_000 }.run(|bytes| {
        file(folder.path(), MANIFEST_FILE, bytes);
        verify_manifest(folder.path()).is_ok()
    });
}
