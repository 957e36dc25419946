//! Writing a model as GGUF v3: architecture "llama" if all layers have the same number of KV heads, else "deci".

use std::path::Path;

use shakti_gguf::{GgufError, GgufErrorKind, GgufWriter, Overwrite, Place, Value};
use shakti_kernels::blocks::DType;
use shakti_model::{LayerType, ModelConfig, ModelError, NormType, ParamSpec, TensorSource};

use super::{
    BLOCK_SIZE_KEY, ExportTokenizer, GLOBAL_BLOCKS_KEY, LAYER_TYPES_KEY, LOCAL_BLOCKS_KEY, NORM_TYPE_KEY,
    RANDOM_BLOCKS_KEY, SEED_KEY, SLIDING_WINDOW_KEY, tensor_type,
};
use crate::CheckpointError;
use crate::hf::dense_warning;
use crate::names::{RotaryRows, gguf_name};
use crate::recode::tensor_as;

/// Version of the rounding rules of ggml's block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// Everything that a GGUF file says besides the weights.
pub struct GgufExport<'a> {
    /// The model's configuration.
    pub config: &'a ModelConfig,
    /// A name for people, `general.name`.
    pub name: &'a str,
    /// `general.file_type`: llama.cpp's number of the recipe (0 F32, 1 F16, 2 Q4_0, 7 Q8_0, 15 Q4_K_M, 32 BF16 ...).
    pub file_type: u32,
    /// The type of every tensor; vectors (norms, biases) are F32 whatever it says.
    pub dtype: &'a dyn Fn(&ParamSpec) -> DType,
    /// The vocabulary.
    pub tokenizer: ExportTokenizer<'a>,
    /// Further entries: licence, attribution, a report. Keys must not be among those written anyway.
    pub extra: &'a [(&'a str, Value<'a>)],
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// Size of the file.
    pub bytes: u64,
    /// `general.architecture`.
    pub architecture: &'static str,
    /// GGUF name, type and bytes of every tensor.
    pub tensors: Vec<(String, DType, u64)>,
    /// What a user must know, one sentence each.
    pub warnings: Vec<String>,
}

/// Header, architecture, and GGUF name, type and bytes of every tensor.
type Plan = (GgufWriter, &'static str, Vec<(String, DType, u64)>);

impl GgufExport<'_> {
    /// Writes the file; it appears whole under its name or not at all. Tensors that `source` stores in the type asked
    /// for are copied byte for byte (the rows of queries and keys change places), others are recoded.
    ///
    /// # Errors
    /// If the output exists, the model has no words in this format, or the source or the system fails.
    pub fn write(
        &self,
        path: &Path,
        overwrite: Overwrite,
        source: &dyn TensorSource,
    ) -> Result<ExportReport, CheckpointError> {
        let specs = self.config.parameters();
        let (writer, architecture, tensors) = self.plan(&specs)?;
        let bytes = writer.file_len();
        let mut file = writer.create(path, overwrite).map_err(|error| match error.kind() {
            GgufErrorKind::AlreadyExists => CheckpointError::AlreadyExists { path: path.to_path_buf() },
            _ => error.into(),
        })?;
        for (spec, (name, dtype, _)) in specs.iter().zip(&tensors) {
            let rows = tensor_as(source, spec, *dtype)?;
            match RotaryRows::of(self.config, &spec.name) {
                Some(rotary) => file.write_tensor(name, &rotary.interleave(&rows))?,
                None => file.write_tensor(name, &rows)?,
            }
        }
        file.finish()?;
        Ok(ExportReport { bytes, architecture, tensors, warnings: self.warnings() })
    }

    /// Bytes of the file that [`GgufExport::write`] would make.
    ///
    /// # Errors
    /// The model has no words in this format.
    pub fn file_len(&self) -> Result<u64, CheckpointError> {
        Ok(self.plan(&self.config.parameters())?.0.file_len())
    }

    /// Everything before the tensors' data.
    fn plan(&self, specs: &[ParamSpec]) -> Result<Plan, CheckpointError> {
        let reason =
            |error: ModelError| CheckpointError::NotExpressible { format: "gguf", reason: error.to_string() };
        self.config.clone().language().map_err(reason)?;
        let mut writer = GgufWriter::new();
        let architecture = self.put_model(&mut writer, specs)?;
        self.put_shakti(&mut writer)?;
        self.tokenizer.put(&mut writer, self.config)?;
        for (key, value) in self.extra {
            writer.put(key, *value)?;
        }
        let mut tensors = Vec::with_capacity(specs.len());
        for spec in specs {
            tensors.push(self.plan_tensor(&mut writer, spec)?);
        }
        Ok((writer, architecture, tensors))
    }

    fn plan_tensor(
        &self,
        writer: &mut GgufWriter,
        spec: &ParamSpec,
    ) -> Result<(String, DType, u64), CheckpointError> {
        let dtype = if spec.shape.len() == 1 { DType::F32 } else { (self.dtype)(spec) };
        let unknown = |reason: String| CheckpointError::NotExpressible { format: "gguf", reason };
        let name = gguf_name(&spec.name).ok_or_else(|| unknown(format!("no name for `{}`", spec.name)))?;
        let ggml = tensor_type(dtype).ok_or_else(|| unknown(format!("no tensor type for {dtype}")))?;
        let dims: Vec<u64> = spec.shape.iter().rev().map(|&d| d as u64).collect();
        writer.add_tensor(&name, &dims, ggml)?;
        let bytes = ggml.row_bytes(dims[0]).unwrap_or(0) * dims.iter().skip(1).product::<u64>();
        Ok((name, dtype, bytes))
    }

    /// The keys that other engines read. Returns the architecture.
    fn put_model(
        &self,
        writer: &mut GgufWriter,
        specs: &[ParamSpec],
    ) -> Result<&'static str, CheckpointError> {
        let config = self.config;
        let uniform = config.has_uniform_kv_heads();
        let architecture = if uniform { "llama" } else { "deci" };
        writer.put("general.architecture", architecture)?;
        writer.put("general.type", "model")?;
        writer.put("general.name", self.name)?;
        writer.put("general.file_type", self.file_type)?;
        if specs.iter().any(|spec| spec.shape.len() > 1 && (self.dtype)(spec).is_quantized()) {
            writer.put("general.quantization_version", QUANTIZATION_VERSION)?;
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let mut put = |name: &str, value: usize| writer.put(&key(name), to_u32(name, value)?);
        put("block_count", config.num_hidden_layers)?;
        put("context_length", config.max_position_embeddings)?;
        put("embedding_length", config.hidden_size)?;
        put("vocab_size", config.vocab_size)?;
        put("rope.dimension_count", config.head_dim)?;
        put("attention.key_length", config.head_dim)?;
        put("attention.value_length", config.head_dim)?;
        if uniform {
            put("feed_forward_length", config.intermediate_size)?;
            put("attention.head_count", config.num_attention_heads)?;
            put("attention.head_count_kv", config.num_kv_heads.first().copied().unwrap_or(0))?;
        } else {
            let layers = config.num_hidden_layers;
            let mut put_list = |name: &str, values: &[usize]| {
                let values = values.iter().map(|&v| to_i32(name, v)).collect::<Result<Vec<_>, _>>()?;
                writer.put_array(&key(name), &values)
            };
            put_list("feed_forward_length", &vec![config.intermediate_size; layers])?;
            put_list("attention.head_count", &vec![config.num_attention_heads; layers])?;
            put_list("attention.head_count_kv", &config.num_kv_heads)?;
        }
        writer.put(&key("attention.layer_norm_rms_epsilon"), config.norm_eps)?;
        let theta = config.rope_theta as f32;
        if f64::from(theta) != config.rope_theta {
            let reason = format!("rope_theta {} is no 32-bit float", config.rope_theta);
            return Err(CheckpointError::NotExpressible { format: "gguf", reason });
        }
        writer.put(&key("rope.freq_base"), theta)?;
        Ok(architecture)
    }

    /// The keys that only this project reads, none for a plain model.
    fn put_shakti(&self, writer: &mut GgufWriter) -> Result<(), CheckpointError> {
        let config = self.config;
        if config.norm_type == NormType::LayerNorm {
            writer.put(NORM_TYPE_KEY, "layer_norm")?;
        }
        let has = |kind| config.layer_types.contains(&kind);
        if config.layer_types.iter().any(|kind| *kind != LayerType::FullAttention) {
            let names: Vec<&str> = config.layer_types.iter().map(|kind| kind.name()).collect();
            writer.put_strings(LAYER_TYPES_KEY, &names)?;
        }
        if has(LayerType::SlidingAttention) {
            writer.put(SLIDING_WINDOW_KEY, to_u32(SLIDING_WINDOW_KEY, config.sliding_window)?)?;
        }
        if has(LayerType::BlockSparseAttention) {
            let pattern = &config.block_sparse;
            let mut put = |key: &str, value: usize| writer.put(key, to_u32(key, value)?);
            put(BLOCK_SIZE_KEY, shakti_model::KEY_BLOCK)?;
            put(GLOBAL_BLOCKS_KEY, 1)?;
            put(LOCAL_BLOCKS_KEY, pattern.local_blocks)?;
            put(RANDOM_BLOCKS_KEY, pattern.random_blocks)?;
            writer.put(SEED_KEY, pattern.seed)?;
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.config.has_uniform_kv_heads() {
            warnings.push(format!(
                "KV heads {:?} differ between layers: written as architecture \"deci\", which llama.cpp and \
                 ik_llama.cpp run and some other programs do not know",
                self.config.num_kv_heads
            ));
        }
        if self.config.norm_type == NormType::LayerNorm {
            warnings.push("the model uses LayerNorm: only shakti can run this file".to_owned());
        }
        warnings.extend(dense_warning(self.config));
        warnings
    }
}

fn to_u32(key: &str, value: usize) -> Result<u32, GgufError> {
    u32::try_from(value).map_err(|_| too_large(key, value))
}

fn to_i32(key: &str, value: usize) -> Result<i32, GgufError> {
    i32::try_from(value).map_err(|_| too_large(key, value))
}

fn too_large(key: &str, value: usize) -> GgufError {
    let place = Place::Key(key.to_owned());
    GgufError::new(GgufErrorKind::Overflow, place, "a number of at most 31 bits", value.to_string())
}
