//! Damaged model files: whatever the bytes, opening and reading ends with a model or an error, never with a panic.

use std::fs;

use shakti_checkpoint::{
    CheckpointError, ExportTokenizer, FolderContents, GgufExport, ModelFile, Overwrite, tensor_f32,
};
use shakti_kernels::blocks::DType;

use crate::common::{MadeUp, plain_config, tokenizer, variant_config};

fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A few changed bytes (digits for digits, now and then) in the first `range` bytes, rarely a cut.
fn damage(bytes: &mut Vec<u8>, range: usize, state: &mut u64) {
    for _ in 0..=mix(state) % 4 {
        let at = mix(state) as usize % range.min(bytes.len());
        bytes[at] = match (mix(state) % 3, bytes[at]) {
            (0, b'0'..=b'9') => b'0' + (mix(state) % 10) as u8,
            (1, byte) => byte ^ (1 << (mix(state) % 8)),
            _ => mix(state) as u8,
        };
    }
    if mix(state).is_multiple_of(8) {
        bytes.truncate(mix(state) as usize % bytes.len());
    }
}

fn read_all(path: &std::path::Path) -> Result<(), CheckpointError> {
    let model = ModelFile::open(path)?;
    for spec in model.config().parameters() {
        tensor_f32(&model, &spec)?;
    }
    model.chat_template()?;
    // The vocabulary has an error type and tests of its own; here it must only not panic.
    let _ = model.read_tokenizer();
    Ok(())
}

/// `SHAKTI_FUZZ_ROUNDS` makes it longer.
fn rounds() -> u64 {
    std::env::var("SHAKTI_FUZZ_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(400)
}

#[test]
fn damaged_gguf_models() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model.gguf");
    let (mut config, tokenizer) = (variant_config(), tokenizer());
    config.num_hidden_layers = 1;
    config.num_kv_heads.truncate(1);
    config.layer_types.truncate(1);
    let export = GgufExport {
        config: &config,
        name: "damaged",
        file_type: 0,
        dtype: &|_| DType::Q4_0,
        tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
        extra: &[],
    };
    export.write(&path, Overwrite::Refuse, &MadeUp).expect("writable");
    let valid = fs::read(&path).expect("readable");
    let header = valid.len()
        - shakti_gguf::GgufFile::open(&path)
            .expect("valid")
            .tensors()
            .iter()
            .map(|t| t.byte_len() as usize)
            .sum::<usize>();
    let (mut opened, mut refused) = (0, 0);
    for round in 0..rounds() {
        let mut state = round;
        let mut bytes = valid.clone();
        damage(&mut bytes, header, &mut state);
        fs::write(&path, &bytes).expect("writable");
        match read_all(&path) {
            Ok(()) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 0, "the damage must reach both outcomes");
}

#[test]
fn damaged_folders() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model");
    let mut config = plain_config();
    config.num_hidden_layers = 1;
    config.num_kv_heads.truncate(1);
    config.layer_types.truncate(1);
    let contents = FolderContents::default();
    shakti_checkpoint::write_folder(&path, Overwrite::Refuse, &config, &MadeUp, DType::F16, &contents)
        .expect("writable");
    for (name, range) in [("config.json", usize::MAX), ("model.safetensors", 1400)] {
        let file = path.join(name);
        let valid = fs::read(&file).expect("readable");
        let (mut opened, mut refused) = (0, 0);
        for round in 0..rounds() {
            let mut state = round;
            let mut bytes = valid.clone();
            damage(&mut bytes, range, &mut state);
            fs::write(&file, &bytes).expect("writable");
            match read_all(&path) {
                Ok(()) => opened += 1,
                Err(_) => refused += 1,
            }
        }
        println!("{name}: {opened} opened, {refused} refused");
        assert!(opened > 0 && refused > 0, "the damage must reach both outcomes");
        fs::write(&file, &valid).expect("writable");
    }
}
