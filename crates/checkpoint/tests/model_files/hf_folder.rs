//! Hugging Face folders: those that Transformers wrote, our own, and damaged ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::common::{
    MadeUp, TOKENIZER_CONFIG, assert_same_tensors, biased_config, golden, plain_config, tokenizer_json,
    variant_config,
};
use shakti_checkpoint::{
    CheckpointError, FolderContents, HfFolder, ModelFile, Overwrite, PlainModel, load_parameters, tensor_f32,
    verify_manifest, write_folder,
};
use shakti_kernels::blocks::DType;
use shakti_model::{Layout, ModelConfig, TensorSource};

fn write(path: &Path, config: &ModelConfig) {
    let contents = FolderContents {
        tokenizer_json: Some(tokenizer_json()),
        tokenizer_config_json: Some(TOKENIZER_CONFIG.to_owned()),
        chat_template: Some("{{ messages[0] }}".to_owned()),
        others: vec![("README.md".to_owned(), b"# A model\n".to_vec())],
    };
    write_folder(path, Overwrite::Refuse, config, &MadeUp, DType::F32, &contents).expect("a writable folder");
}

#[test]
fn folders_of_transformers_open() {
    let folder = HfFolder::open(golden("tiny_llama")).expect("written by Transformers 5");
    assert!(folder.config().is_plain() && !folder.config().tie_word_embeddings);
    let tied = HfFolder::open(golden("tiny_llama_tied")).expect("written by Transformers 4");
    assert!(tied.config().tie_word_embeddings);
    let spec = &tied.config().parameters()[0];
    assert_eq!(tied.tensor(spec).expect("the embedding").dtype, DType::BF16);
    assert_eq!(tensor_f32(&tied, spec).expect("decodable").len(), spec.num_elements());
    for name in ["tiny_shakti", "tiny_layernorm"] {
        HfFolder::open(golden(name)).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_folder_comes_back() {
    let temporary = tempfile::tempdir().expect("a folder");
    for (name, config) in
        [("plain", plain_config()), ("variant", variant_config()), ("biased", biased_config())]
    {
        let path = temporary.path().join("deep").join(name);
        write(&path, &config);
        let ModelFile::Folder(folder) = ModelFile::open(&path).expect("our own folder") else {
            panic!("{name} is a folder")
        };
        verify_manifest(&path).expect("checksums hold");
        assert_eq!(folder.config(), &config);
        assert_eq!(folder.chat_template().expect("readable").as_deref(), Some("{{ messages[0] }}"));
        fs::remove_file(path.join("chat_template.jinja")).expect("removable");
        assert_eq!(folder.chat_template().expect("readable").as_deref(), Some("{{ messages }}"));
        assert_same_tensors(&config, &folder, &MadeUp);
        let tokenizer = ModelFile::open(&path).expect("as before").read_tokenizer().expect("a vocabulary");
        assert_eq!(tokenizer.special_ids().eos, Some(1));
        let again = temporary.path().join(format!("{name}-again"));
        write(&again, folder.config());
        for file in ["config.json", "model.safetensors", "generation_config.json", "checksums.sha256"] {
            assert_eq!(fs::read(path.join(file)).ok(), fs::read(again.join(file)).ok(), "{name}/{file}");
        }
    }
}

#[test]
fn parameters_load_and_are_written_back() {
    let temporary = tempfile::tempdir().expect("a folder");
    let config = variant_config();
    let layout = Arc::new(Layout::new(&config));
    let parameters = load_parameters(layout.clone(), &MadeUp).expect("made up");
    assert_eq!(parameters.data.len(), layout.num_elements());
    let path = temporary.path().join("model");
    let contents = FolderContents::default();
    write_folder(&path, Overwrite::Refuse, &config, &parameters, DType::F32, &contents).expect("writable");
    let folder = HfFolder::open(&path).expect("our own folder");
    assert_eq!(load_parameters(layout, &folder).expect("readable").data, parameters.data);
}

#[test]
fn half_precision_is_the_rounding_of_the_values() {
    let temporary = tempfile::tempdir().expect("a folder");
    let config = plain_config();
    for dtype in [DType::F16, DType::BF16] {
        let path = temporary.path().join(dtype.name());
        let contents = FolderContents::default();
        write_folder(&path, Overwrite::Refuse, &config, &MadeUp, dtype, &contents).expect("writable");
        let folder = HfFolder::open(&path).expect("our own folder");
        for spec in config.parameters() {
            let exact = MadeUp::values(&spec);
            let stored = tensor_f32(&folder, &spec).expect("decodable");
            let close = exact.iter().zip(&stored).all(|(a, b)| (a - b).abs() <= a.abs() / 256.0 + 1e-7);
            assert!(close, "{dtype} {}", spec.name);
        }
    }
    let path = temporary.path().join("q4_0");
    let refused =
        write_folder(&path, Overwrite::Refuse, &config, &MadeUp, DType::Q4_0, &FolderContents::default());
    assert!(matches!(refused, Err(CheckpointError::NotExpressible { .. })));
    assert_eq!(
        fs::read_dir(temporary.path()).expect("readable").count(),
        2,
        "nothing is left of the refused one"
    );
}

#[test]
fn existing_outputs_are_kept() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model");
    let config = plain_config();
    let contents = FolderContents::default();
    write(&path, &config);
    let refused = write_folder(&path, Overwrite::Refuse, &config, &MadeUp, DType::F32, &contents);
    assert!(matches!(refused, Err(CheckpointError::AlreadyExists { .. })));
    write_folder(&path, Overwrite::Replace, &config, &MadeUp, DType::BF16, &contents).expect("asked for");
    assert!(!path.join("README.md").exists(), "the folder is replaced, not mixed");
    assert_eq!(fs::read_dir(temporary.path()).expect("readable").count(), 1);

    let precious = temporary.path().join("photographs");
    fs::create_dir(&precious).expect("a folder");
    let refused = write_folder(&precious, Overwrite::Replace, &config, &MadeUp, DType::F32, &contents);
    assert!(matches!(refused, Err(CheckpointError::NotAModel { .. })), "a folder of something else stays");
    assert!(precious.exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("model.safetensors"))), (0o700, 0o600));
    }
}

/// Writes a folder, lets `damage` at it and returns the message it is refused with.
fn refusal(damage: impl FnOnce(&Path)) -> String {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model");
    write(&path, &plain_config());
    damage(&path);
    HfFolder::open(&path).expect_err("must be refused").to_string()
}

/// Rewrites `config.json` with one text replaced.
fn edit_config(path: &Path, from: &str, to: &str) {
    let file = path.join("config.json");
    let text = fs::read_to_string(&file).expect("readable");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).expect("writable");
}

#[test]
fn disagreements_are_named() {
    let error = refusal(|path| edit_config(path, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"));
    assert!(error.contains("tensor `model.layers.2.self_attn.q_proj.weight` is missing"), "{error}");
    let error = refusal(|path| edit_config(path, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"));
    assert!(error.contains("tensor `model.layers.1.") && error.contains("not part of the model"), "{error}");
    let error = refusal(|path| edit_config(path, "\"intermediate_size\": 96", "\"intermediate_size\": 97"));
    let expected = "tensor `model.layers.0.mlp.gate_proj.weight`: expected shape [97, 64], found [96, 64]";
    assert!(error.contains(expected), "{error}");
    let error = refusal(|path| edit_config(path, "\"vocab_size\"", "\"vocabulary\""));
    assert!(error.contains("config.json: ") && error.contains("`vocab_size`"), "{error}");
    let error = refusal(|path| fs::remove_file(path.join("model.safetensors")).expect("removable"));
    assert!(error.contains("expected model.safetensors or model.safetensors.index.json"), "{error}");
    let error = refusal(|path| fs::remove_file(path.join("config.json")).expect("removable"));
    assert!(error.contains("config.json: cannot open the file"), "{error}");
}

#[test]
fn unusable_types_are_named() {
    let error = refusal(|path| {
        let file = path.join("model.safetensors");
        let mut bytes = fs::read(&file).expect("readable");
        let len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header = String::from_utf8(bytes[8..8 + len].to_vec()).expect("JSON");
        // The same size, another type.
        let changed = header.replacen("\"F32\"", "\"I32\"", 1);
        bytes[8..8 + len].copy_from_slice(changed.as_bytes());
        fs::write(file, bytes).expect("writable");
    });
    assert!(
        error.contains("tensor `model.embed_tokens.weight`: expected f32, f16, bf16, found type I32"),
        "{error}"
    );
}

/// Moves every second tensor into a second shard.
fn shard(path: &Path) {
    let file = path.join("model.safetensors");
    let bytes = fs::read(&file).expect("readable");
    let all = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let mut map = serde_json::Map::new();
    let mut shards = [Vec::new(), Vec::new()];
    let mut names = all.names();
    names.sort();
    for (index, name) in names.into_iter().enumerate() {
        let shard = index % 2;
        map.insert(name.to_owned(), format!("model-0000{}-of-00002.safetensors", shard + 1).into());
        shards[shard].push((name, all.tensor(name).expect("present")));
    }
    for (index, tensors) in shards.into_iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", index + 1);
        safetensors::serialize_to_file(tensors, None, &path.join(name)).expect("writable");
    }
    let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    fs::write(path.join("model.safetensors.index.json"), index.to_string()).expect("writable");
    fs::remove_file(file).expect("removable");
}

#[test]
fn shards_are_one_model() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model");
    write(&path, &plain_config());
    shard(&path);
    let folder = HfFolder::open(&path).expect("two shards");
    assert_same_tensors(&plain_config(), &folder, &MadeUp);

    let index = "model.safetensors.index.json";
    let error = refusal(|path| {
        shard(path);
        let text = fs::read_to_string(path.join(index)).expect("readable");
        fs::write(path.join(index), text.replace("model-00001-of-00002", "../model-00001-of-00002"))
            .expect("writable");
    });
    assert!(error.contains("expected the name of a file beside the index"), "{error}");
    let error = refusal(|path| {
        shard(path);
        fs::copy(
            path.join("model-00001-of-00002.safetensors"),
            path.join("model-00002-of-00002.safetensors"),
        )
        .expect("writable");
    });
    assert!(
        error.contains("model-00002-of-00002.safetensors: tensor `") && error.contains("is missing"),
        "{error}"
    );
    let error = refusal(|path| {
        shard(path);
        fs::remove_file(path.join("model-00002-of-00002.safetensors")).expect("removable");
    });
    assert!(error.contains("model-00002-of-00002.safetensors: cannot map the file"), "{error}");
}

/// Adds tensors to a written folder; `change` gets the bytes of the embedding.
fn with_extra(path: &Path, name: &str, shape: &[usize], change: impl Fn(&mut Vec<u8>)) {
    let file = path.join("model.safetensors");
    let bytes = fs::read(&file).expect("readable");
    let all = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let mut extra = all.tensor("model.embed_tokens.weight").expect("present").data().to_vec();
    change(&mut extra);
    let extra = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &extra);
    let mut tensors = all.tensors();
    tensors.push((name.to_owned(), extra.expect("a view")));
    safetensors::serialize_to_file(tensors, None, &file).expect("writable");
}

#[test]
fn leftovers_that_change_nothing_are_accepted() {
    let temporary = tempfile::tempdir().expect("a folder");
    let open = |name: &str, tensor: &str, shape: &[usize], change: &dyn Fn(&mut Vec<u8>)| {
        let path = temporary.path().join(name);
        write(&path, &plain_config());
        with_extra(&path, tensor, shape, change);
        HfFolder::open(&path)
    };
    open("copy", "lm_head.weight", &[300, 64], &|_| {}).expect("a copy of the tied embedding");
    let error =
        open("other", "lm_head.weight", &[300, 64], &|bytes| bytes[5] ^= 1).expect_err("a head of its own");
    assert!(
        matches!(&error, CheckpointError::ExtraTensor { name, .. } if name == "lm_head.weight"),
        "{error}"
    );
    let frequencies = "model.layers.1.self_attn.rotary_emb.inv_freq";
    open("old", frequencies, &[8], &|bytes| bytes.truncate(32))
        .expect("a table that follows from the configuration");
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let error = refusal(|path| {
        shard(path);
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        let bytes = [one, two].map(|name| fs::read(path.join(name)).expect("readable"));
        let [first, second] =
            bytes.each_ref().map(|b| safetensors::SafeTensors::deserialize(b).expect("valid"));
        let mut tensors = second.tensors();
        tensors.extend(first.tensors().into_iter().take(1));
        safetensors::serialize_to_file(tensors, None, &path.join(two)).expect("writable");
    });
    assert!(error.contains("expected every tensor once, found it in "), "{error}");
}

#[test]
fn changed_files_fail_their_checksum() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model");
    write(&path, &plain_config());
    let file = path.join("model.safetensors");
    let mut bytes = fs::read(&file).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    let error = verify_manifest(&path).expect_err("one bit differs").to_string();
    assert!(error.contains("model.safetensors: expected SHA-256"), "{error}");
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    verify_manifest(&path).expect("as before");
    fs::write(path.join("unlisted.bin"), b"x").expect("writable");
    let error = verify_manifest(&path).expect_err("not listed").to_string();
    assert!(error.contains("no line for `unlisted.bin`"), "{error}");
    fs::write(path.join("checksums.sha256"), "nonsense\n").expect("writable");
    let error = verify_manifest(&path).expect_err("no checksum").to_string();
    assert!(error.contains("checksums.sha256: line 1: expected `HASH  NAME`"), "{error}");
}

#[test]
fn repeated_kv_heads_make_a_plain_llama() {
    let mut config = variant_config();
    let plain = PlainModel::new(&config, &MadeUp).expect("RMSNorm");
    assert!(plain.config().is_plain());
    assert_eq!(plain.config().num_kv_heads, [4, 4, 4]);
    let cost = plain.cost().expect("heads were repeated");
    assert_eq!((cost.num_key_value_heads, cost.kv_bytes_per_token), (4, (7 * 64, 12 * 64)));
    let count =
        |config: &ModelConfig| config.parameters().iter().map(|p| p.num_elements() as u64).sum::<u64>();
    assert_eq!(cost.parameters, (count(&config), count(plain.config())));
    let warnings = plain.warnings();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[1].contains("up to 48 tokens"), "{warnings:?}");

    // Query head i meets KV head i * K / H before and after.
    let width = config.hidden_size * 4 * config.head_dim;
    for name in ["model.layers.1.self_attn.k_proj.weight", "model.layers.2.self_attn.v_proj.weight"] {
        let find =
            |config: &ModelConfig| config.parameters().into_iter().find(|p| p.name == name).expect(name);
        let before = MadeUp.tensor(&find(&config)).expect("made up").bytes.into_owned();
        let after = plain.tensor(&find(plain.config())).expect("repeated").bytes.into_owned();
        let (kv_before, kv_after) = (before.len() / width, after.len() / width);
        for query in 0..config.num_attention_heads {
            let head = |bytes: &[u8], count: usize| {
                let at = query * count / 4;
                bytes[at * width..(at + 1) * width].to_vec()
            };
            assert!(head(&before, kv_before) == head(&after, kv_after), "{name}, query head {query}");
        }
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("llama");
    let contents = FolderContents::default();
    write_folder(&path, Overwrite::Refuse, plain.config(), &plain, DType::F32, &contents).expect("writable");
    assert!(fs::read_to_string(path.join("config.json")).expect("readable").contains("LlamaForCausalLM"));
    HfFolder::open(&path).expect("a plain Llama");

    config.norm_type = shakti_model::NormType::LayerNorm;
    assert!(matches!(PlainModel::new(&config, &MadeUp), Err(CheckpointError::NotExpressible { .. })));
    let uniform = plain_config();
    assert_eq!(PlainModel::new(&uniform, &MadeUp).expect("plain").warnings(), Vec::<String>::new());
}
