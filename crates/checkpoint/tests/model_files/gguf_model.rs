//! GGUF models: what goes out comes back, files of llama.cpp open, and what is not implemented is refused by name.

use std::path::Path;

use crate::common::{
    MadeUp, assert_same_tensors, biased_config, golden, plain_config, tokenizer, variant_config,
};
use shakti_checkpoint::{
    CheckpointError, ExportReport, ExportTokenizer, GgufExport, GgufModel, ModelFile, Overwrite,
    TokenizerSource, is_gguf, tensor_as, tensor_f32, tokenizer_of_gguf,
};
use shakti_gguf::{GgufFile, GgufWriter, TensorType, Value};
use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, ParamSpec, TensorSource};
use shakti_tokenizer::{TokenKind, Tokenizer};

fn export(path: &Path, config: &ModelConfig, dtype: DType, source: &dyn TensorSource) -> ExportReport {
    let tokenizer = tokenizer();
    let dtype = |_: &ParamSpec| dtype;
    let export = GgufExport {
        config,
        name: "made up",
        file_type: 0,
        dtype: &dtype,
        tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
        extra: &[("general.license", Value::String("CC-BY-4.0"))],
    };
    export.write(path, Overwrite::Refuse, source).expect("a writable folder")
}

#[test]
fn a_model_comes_back() {
    let temporary = tempfile::tempdir().expect("a folder");
    for (name, config) in
        [("plain", plain_config()), ("variant", variant_config()), ("biased", biased_config())]
    {
        let path = temporary.path().join(format!("{name}.gguf"));
        let report = export(&path, &config, DType::F32, &MadeUp);
        assert_eq!(report.bytes, path.metadata().expect("written").len());
        assert_eq!(report.tensors.len(), config.parameters().len());
        let ModelFile::Gguf(model) = ModelFile::open(&path).expect("our own file") else {
            panic!("{name} is a GGUF file")
        };
        assert_eq!(model.config(), &config);
        assert_same_tensors(&config, &model, &MadeUp);
        assert_eq!(model.chat_template().expect("a string").as_deref(), Some("{{ messages }}"));
        assert_same_vocabulary(&tokenizer_of_gguf(model.file()).expect("our own vocabulary"));
        let again = temporary.path().join(format!("{name}-again.gguf"));
        export(&again, model.config(), DType::F32, &model);
        assert_eq!(
            std::fs::read(&path).ok(),
            std::fs::read(&again).ok(),
            "read and written again, the same bytes"
        );
    }
}

/// Ids, kinds and texts are those of the vocabulary that was exported; the rest is unused.
fn assert_same_vocabulary(found: &Tokenizer) {
    let expected = tokenizer();
    assert_eq!(found.special_ids(), expected.special_ids());
    let text = "the fever\n is  39.5\u{b0} \u{92c}\u{941}<|end|>";
    let ids = |tokenizer: &Tokenizer| {
        let mut ids = Vec::new();
        tokenizer.encode_with_special(text, &mut ids);
        ids
    };
    assert_eq!(ids(found), ids(&expected));
    assert_eq!(found.decode(&ids(found)), text);
    assert_eq!(found.vocab_size(), 300);
    for id in 0..300 {
        let kind = expected.token_kind(id).unwrap_or(TokenKind::Unused);
        assert_eq!((found.token_kind(id), id >= 264), (Some(kind), kind == TokenKind::Unused), "token {id}");
    }
}

#[test]
fn token_ids_of_the_configuration_are_kept() {
    let temporary = tempfile::tempdir().expect("a folder");
    // The vocabulary says 1 and 6.
    for eos in [vec![1, 6], vec![6, 1], vec![5], vec![1, 6, 7, 8]] {
        let path = temporary.path().join(format!("{eos:?}.gguf"));
        let mut config = plain_config();
        config.eos_token_ids = eos.clone();
        export(&path, &config, DType::F32, &MadeUp);
        let model = GgufModel::open(&path).expect("our own file");
        assert_eq!(model.config().eos_token_ids, eos);
        assert_eq!(model.file().get("shakti.eos_token_ids").is_some(), eos != [1, 6]);
    }
}

#[test]
fn a_vocabulary_larger_than_the_table_is_refused() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (mut config, tokenizer) = (plain_config(), tokenizer());
    config.vocab_size = 263;
    let export = GgufExport {
        config: &config,
        name: "small",
        file_type: 0,
        dtype: &|_| DType::F32,
        tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
        extra: &[],
    };
    let error =
        export.write(&temporary.path().join("model.gguf"), Overwrite::Refuse, &MadeUp).expect_err("264 ids");
    assert!(
        error.to_string().contains("a vocabulary of 264 ids for an embedding table of 263 rows"),
        "{error}"
    );
}

#[test]
fn goldens_survive_gguf() {
    let temporary = tempfile::tempdir().expect("a folder");
    let nothing =
        GgufFile::from_bytes(GgufWriter::new().write_to(Vec::new()).and_then(|f| f.finish()).expect("empty"));
    let nothing = nothing.expect("an empty file");
    for name in ["tiny_shakti", "tiny_llama", "tiny_llama_tied", "tiny_layernorm"] {
        let folder = ModelFile::open(golden(name)).expect("a golden");
        // These have 97 tokens and no vocabulary.
        let path = temporary.path().join(format!("{name}.gguf"));
        let export = GgufExport {
            config: folder.config(),
            name,
            file_type: 0,
            dtype: &|_| DType::F32,
            tokenizer: ExportTokenizer::CopyOf(&nothing),
            extra: &[],
        };
        export.write(&path, Overwrite::Refuse, &folder).expect("writable");
        let model = GgufModel::open(&path).expect("our own file");
        let mut config = folder.config().clone();
        // Training settings have no place in GGUF.
        (config.hidden_dropout, config.initializer_range) = (0.0, 0.02);
        assert_eq!(model.config(), &config);
        for spec in config.parameters() {
            let expected = tensor_f32(&folder, &spec).expect("decodable");
            assert_eq!(tensor_f32(&model, &spec).expect("decodable"), expected, "{name} {}", spec.name);
        }
    }
}

#[test]
fn variable_kv_heads_are_said_as_deci() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("variant.gguf");
    let config = variant_config();
    let report = export(&path, &config, DType::F16, &MadeUp);
    assert_eq!(report.architecture, "deci");
    assert_eq!(report.warnings.len(), 2);
    assert!(report.warnings[1].contains("up to 48 tokens only"), "{:?}", report.warnings);
    let file = GgufFile::open(&path).expect("our own file");
    assert_eq!(file.require_str("general.architecture").expect("a string"), "deci");
    let list = |key: &str| file.require_array(key).expect(key).to_i64s().expect(key);
    assert_eq!(list("deci.attention.head_count_kv"), [4, 2, 1]);
    assert_eq!(list("deci.attention.head_count"), [4, 4, 4]);
    assert_eq!(list("deci.feed_forward_length"), [96, 96, 96]);
    assert_eq!(file.u64("shakti.block_sparse.seed").expect("a number"), Some(u64::MAX - 5));
    assert_eq!(file.u64("deci.rope.dimension_count").expect("a number"), Some(16));
    let norm = file.tensor("blk.0.attn_norm.weight").expect("present");
    assert_eq!(norm.tensor_type(), TensorType::F32, "vectors stay F32");
    assert_eq!(file.tensor("blk.0.attn_q.weight").expect("present").tensor_type(), TensorType::F16);
    assert_eq!(file.require_array("tokenizer.ggml.tokens").expect("present").len(), config.vocab_size);

    let plain = temporary.path().join("plain.gguf");
    let report = export(&plain, &plain_config(), DType::F16, &MadeUp);
    assert_eq!((report.architecture, report.warnings.len()), ("llama", 0));
    let file = GgufFile::open(&plain).expect("our own file");
    assert!(!file.metadata().any(|(key, _)| key.starts_with("shakti.")));
}

#[test]
fn query_and_key_rows_are_interleaved_in_the_file() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("variant.gguf");
    let config = biased_config();
    export(&path, &config, DType::F32, &MadeUp);
    let file = GgufFile::open(&path).expect("our own file");
    for (hf, gguf, heads) in [
        ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight", 4),
        ("model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight", 2),
        ("model.layers.2.self_attn.k_proj.bias", "blk.2.attn_k.bias", 1),
        ("model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight", 2),
    ] {
        let spec = config.parameters().into_iter().find(|spec| spec.name == hf).expect(hf);
        let source = MadeUp.tensor(&spec).expect("made up").bytes;
        let stored = file.tensor_bytes(file.tensor(gguf).expect(gguf));
        let row_bytes = source.len() / (heads * 16);
        let row = |bytes: &[u8], head: usize, row: usize| {
            let at = (head * 16 + row) * row_bytes;
            bytes[at..at + row_bytes].to_vec()
        };
        for head in 0..heads {
            for pair in 0..8 {
                let (even, odd) =
                    if hf.contains("v_proj") { (pair, pair + 8) } else { (2 * pair, 2 * pair + 1) };
                assert_eq!(row(stored, head, even), row(&source, head, pair), "{hf}");
                assert_eq!(row(stored, head, odd), row(&source, head, pair + 8), "{hf}");
            }
        }
    }
}

#[test]
fn quantized_rows_move_as_bytes() {
    let temporary = tempfile::tempdir().expect("a folder");
    for dtype in [DType::Q8_0, DType::Q5_1, DType::Q4_0] {
        let path = temporary.path().join(format!("{dtype}.gguf"));
        let config = variant_config();
        export(&path, &config, dtype, &MadeUp);
        let model = GgufModel::open(&path).expect("our own file");
        for spec in config.parameters().iter().filter(|spec| spec.shape.len() == 2) {
            let data = model.tensor(spec).expect("present");
            assert_eq!(data.dtype, dtype);
            let expected = tensor_as(&MadeUp, spec, dtype).expect("quantizable");
            assert!(data.bytes == expected, "{dtype} {}", spec.name);
        }
    }
}

#[test]
fn files_of_llama_cpp_open() {
    let bpe = GgufModel::open(golden("gguf/bpe_q4_k_m.gguf")).expect("written by llama.cpp's tools");
    let config = bpe.config();
    assert_eq!((config.head_dim, config.vocab_size, config.rope_theta), (64, 300, 500_000.0));
    assert!(config.tie_word_embeddings && config.is_plain());
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(0), [1].as_slice()));
    let spm = ModelFile::open(golden("gguf/spm_q4_0.gguf")).expect("written by llama.cpp's tools");
    assert_eq!(spm.config().num_kv_heads, [2, 2]);
    assert!(!spm.config().tie_word_embeddings);
    assert!(matches!(spm.tokenizer(), TokenizerSource::Gguf(_)));
    assert_eq!(spm.read_tokenizer().expect("SentencePiece style").vocab_size(), 320);
    assert_eq!(tokenizer_of_gguf(bpe.file()).expect("byte-level").vocab_size(), 300);
    assert!(
        is_gguf(bpe.path()) && !is_gguf(&golden("gguf/bpe_q4_k_m.tokens.json")) && !is_gguf(&golden("gguf"))
    );
    for model in [&bpe as &dyn TensorSource, &spm] {
        let config = if std::ptr::addr_eq(model, &bpe) { bpe.config() } else { spm.config() };
        for spec in config.parameters() {
            let values = tensor_f32(model, &spec).expect("decodable");
            assert!(values.iter().all(|v| v.is_finite()), "{}", spec.name);
        }
    }
}

#[test]
fn a_vocabulary_is_copied_whole() {
    let temporary = tempfile::tempdir().expect("a folder");
    let source = GgufModel::open(golden("gguf/spm_q4_0.gguf")).expect("a golden");
    let path = temporary.path().join("copy.gguf");
    let export = GgufExport {
        config: source.config(),
        name: "copy",
        file_type: 7,
        dtype: &|_| DType::Q8_0,
        tokenizer: ExportTokenizer::CopyOf(source.file()),
        extra: &[],
    };
    export.write(&path, Overwrite::Refuse, &source).expect("writable");
    let copy = GgufModel::open(&path).expect("our own file");
    assert_eq!(copy.config(), source.config());
    let entries = |file: &GgufFile| -> Vec<String> {
        let own = file.metadata().filter(|(key, _)| key.starts_with("tokenizer."));
        own.map(|(key, value)| format!("{key} {value:?}")).collect()
    };
    assert!(entries(source.file()).len() > 5);
    assert_eq!(entries(source.file()), entries(copy.file()));
}

/// An entry to replace (or add) in a copy of a plain model's file; `None` removes it.
type Edit<'a> = (&'a str, Option<Value<'a>>);

/// Copies the file with some entries changed and tensors renamed, retyped or dropped.
fn edited(
    edits: &[Edit<'_>],
    tensor: impl Fn(&str) -> Option<(String, Vec<u64>, TensorType)>,
) -> Result<GgufModel, CheckpointError> {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model.gguf");
    export(&path, &plain_config(), DType::F32, &MadeUp);
    let source = GgufFile::open(&path).expect("our own file");
    let mut writer = GgufWriter::new();
    for (key, value) in source.metadata() {
        match edits.iter().find(|(edited, _)| *edited == key) {
            None => writer.put(key, value).expect("valid"),
            Some((_, Some(value))) => writer.put(key, *value).expect("valid"),
            Some((_, None)) => {}
        }
    }
    for (key, value) in edits {
        if let (None, Some(value)) = (source.get(key), value) {
            writer.put(key, *value).expect("valid");
        }
    }
    let mut bytes = Vec::new();
    for info in source.tensors() {
        let unchanged = (info.name().to_owned(), info.dims().to_vec(), info.tensor_type());
        let (name, dims, kind) = tensor(info.name()).unwrap_or(unchanged);
        writer.add_tensor(&name, &dims, kind).expect("valid");
        let len = kind.row_bytes(dims[0]).expect("whole blocks") * dims[1..].iter().product::<u64>();
        bytes.push((name, vec![0; len as usize]));
    }
    let copy = temporary.path().join("copy.gguf");
    let mut file = writer.create(&copy, Overwrite::Refuse).expect("writable");
    for (name, bytes) in bytes {
        file.write_tensor(&name, &bytes).expect("valid");
    }
    file.finish().expect("complete");
    GgufModel::open(&copy)
}

#[track_caller]
fn assert_refused(edit: Edit<'_>, expected: &str) {
    let key = edit.0;
    let error = edited(&[edit], |_| None).expect_err("must be refused").to_string();
    assert!(error.contains("copy.gguf: ") && error.contains(key) && error.contains(expected), "{error}");
}

#[test]
fn keys_that_change_the_function_are_refused() {
    edited(&[], |_| None).expect("an unedited copy");
    assert_refused(("general.architecture", Some("qwen2".into())), "expected llama or deci, found qwen2");
    assert_refused(("general.type", Some("adapter".into())), "expected model, found adapter");
    assert_refused(("split.count", Some(3u16.into())), "found 3");
    assert_refused(("llama.rope.scaling.type", Some("yarn".into())), "found yarn");
    assert_refused(
        ("llama.rope.scaling.factor", Some(4f32.into())),
        "expected 1 (no other value is implemented)",
    );
    assert_refused(("llama.rope.scale_linear", Some(2f32.into())), "expected 1");
    assert_refused(("llama.expert_count", Some(8u32.into())), "expected 0");
    assert_refused(
        ("llama.attention.sliding_window", Some(32u32.into())),
        "expected a key whose effect is known here",
    );
    assert_refused(("llama.attention.scale", Some(0.5f32.into())), "found F32(0.5)");
    assert_refused(("llama.rope.dimension_count", Some(8u32.into())), "expected 16");
    assert_refused(("llama.attention.value_length", Some(32u32.into())), "expected 16");
    assert_refused(("llama.vocab_size", Some(301u32.into())), "expected 300");
    assert_refused(("tokenizer.ggml.bos_token_id", Some(300u32.into())), "expected below 300, found 300");
    assert_refused(("llama.block_count", None), "missing");
    assert_refused(("llama.block_count", Some(u64::MAX.into())), "expected 1 to 4096");
    assert_refused(("llama.block_count", Some("two".into())), "expected an integer");
    assert_refused(("shakti.norm_type", Some("batch_norm".into())), "rms_norm or layer_norm");
    assert_refused(("shakti.block_sparse.block_size", Some(32u32.into())), "expected 64");
    edited(
        &[("llama.rope.scaling.type", Some("none".into())), ("llama.expert_count", Some(0u32.into()))],
        |_| None,
    )
    .expect("values that change nothing");
    edited(&[("tokenizer.ggml.padding_token_id", Some(u32::MAX.into()))], |_| None)
        .expect("padding is inert");
    let error =
        edited(&[("llama.attention.head_count_kv", Some(3u32.into()))], |_| None).expect_err("3 of 4 heads");
    assert!(error.to_string().contains("num_key_value_heads"), "{error}");
}

#[test]
fn rotary_factors_other_than_one_are_refused() {
    let with_factor = |factor: f32| {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("model.gguf");
        export(&path, &plain_config(), DType::F32, &MadeUp);
        let source = GgufFile::open(&path).expect("our own file");
        let mut writer = GgufWriter::new();
        for (key, value) in source.metadata() {
            writer.put(key, value).expect("valid");
        }
        for tensor in source.tensors() {
            writer.add_tensor(tensor.name(), tensor.dims(), tensor.tensor_type()).expect("valid");
        }
        writer.add_tensor("rope_freqs.weight", &[8], TensorType::F32).expect("valid");
        let copy = temporary.path().join("copy.gguf");
        let mut file = writer.create(&copy, Overwrite::Refuse).expect("writable");
        for tensor in source.tensors() {
            file.write_tensor(tensor.name(), source.tensor_bytes(tensor)).expect("valid");
        }
        let factors: Vec<u8> =
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, factor].iter().flat_map(|f| f.to_le_bytes()).collect();
        file.write_tensor("rope_freqs.weight", &factors).expect("valid");
        file.finish().expect("complete");
        GgufModel::open(&copy)
    };
    with_factor(1.0).expect("factors that change nothing");
    let error = with_factor(8.0).expect_err("Llama 3.1's scaling").to_string();
    assert!(error.contains("tensor `rope_freqs.weight`: expected rotary frequency factors of 1"), "{error}");
}

#[test]
fn tensors_that_disagree_are_named() {
    let refused = |name: &'static str, to: (&str, &[u64], TensorType)| {
        let to = (to.0.to_owned(), to.1.to_vec(), to.2);
        edited(&[], |found| (found == name).then(|| to.clone())).expect_err("must be refused")
    };
    let error = refused("blk.1.attn_k.weight", ("blk.1.attn_qkv.weight", &[64, 32], TensorType::F32));
    assert!(
        matches!(&error, CheckpointError::MissingTensor { name, .. } if name == "blk.1.attn_k.weight"),
        "{error}"
    );
    let error = refused("blk.1.attn_k.weight", ("blk.1.attn_k.weight", &[64, 16], TensorType::F32));
    assert!(
        matches!(&error, CheckpointError::WrongShape { expected, found, .. } if expected == &[32, 64] && found == &[16, 64]),
        "{error}"
    );
    let kind = TensorType::from_name("IQ4_NL").expect("a type");
    let error = refused("blk.1.attn_k.weight", ("blk.1.attn_k.weight", &[64, 32], kind));
    assert!(matches!(&error, CheckpointError::WrongDtype { found, .. } if found == "IQ4_NL"), "{error}");

    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("model.gguf");
    let mut config = plain_config();
    export(&path, &config, DType::F32, &MadeUp);
    // One layer less than the file has.
    config.num_hidden_layers = 1;
    let error = edited(&[("llama.block_count", Some(1u32.into()))], |_| None).expect_err("a layer too many");
    assert!(
        matches!(&error, CheckpointError::ExtraTensor { name, .. } if name.starts_with("blk.1.")),
        "{error}"
    );
}

#[test]
fn failed_exports_leave_nothing() {
    struct Failing;
    impl TensorSource for Failing {
        fn tensor(
            &self,
            spec: &ParamSpec,
        ) -> Result<shakti_model::TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
            if spec.name.contains("layers.1.mlp") {
                Err("no more".into())
            } else {
                MadeUp
                    .tensor(spec)
                    .map(|d| shakti_model::TensorData { dtype: d.dtype, bytes: d.bytes.into_owned().into() })
            }
        }
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let (config, tokenizer) = (plain_config(), tokenizer());
    let mut export = GgufExport {
        config: &config,
        name: "fails",
        file_type: 0,
        dtype: &|_| DType::F32,
        tokenizer: ExportTokenizer::Tokenizer(&tokenizer),
        extra: &[],
    };
    let path = temporary.path().join("model.gguf");
    let error = export.write(&path, Overwrite::Refuse, &Failing).expect_err("the source fails");
    assert!(
        matches!(&error, CheckpointError::Source { name, .. } if name == "model.layers.1.mlp.gate_proj.weight"),
        "{error}"
    );
    export.dtype = &|_| DType::Q4_K;
    let error = export.write(&path, Overwrite::Refuse, &MadeUp).expect_err("rows of 64");
    assert!(
        error.to_string().contains("tensor `token_embd.weight`: expected rows of whole blocks of 256"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(temporary.path()).expect("readable").count(), 0);
    std::fs::write(&path, "precious").expect("writable");
    export.dtype = &|_| DType::F32;
    let error = export.write(&path, Overwrite::Refuse, &MadeUp).expect_err("it exists");
    assert!(matches!(error, CheckpointError::AlreadyExists { .. }));
}
