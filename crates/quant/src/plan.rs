//! Which format each tensor gets.

use std::fmt;
use std::str::FromStr;

use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, ParamSpec};

use crate::QuantError;

/// A quantization type by its well-known name. The `_m` types mix: tensors that are hurt most by rounding (the
/// values' projection and the down projection, in the first and last eighth of the layers and every third between)
/// get Q6_K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileType {
    name: &'static str,
    base: DType,
    mixed: bool,
    /// `general.file_type` of GGUF.
    gguf_id: u32,
}

const TYPES: [FileType; 14] = [
    FileType::new("f32", DType::F32, false, 0),
    FileType::new("f16", DType::F16, false, 1),
    FileType::new("bf16", DType::BF16, false, 32),
    FileType::new("q8_0", DType::Q8_0, false, 7),
    FileType::new("q6_k", DType::Q6_K, false, 18),
    FileType::new("q5_0", DType::Q5_0, false, 8),
    FileType::new("q5_1", DType::Q5_1, false, 9),
    FileType::new("q5_k", DType::Q5_K, false, 16),
    FileType::new("q5_k_s", DType::Q5_K, false, 16),
    FileType::new("q5_k_m", DType::Q5_K, true, 17),
    FileType::new("q4_0", DType::Q4_0, false, 2),
    FileType::new("q4_1", DType::Q4_1, false, 3),
    FileType::new("q4_k_s", DType::Q4_K, false, 14),
    FileType::new("q4_k_m", DType::Q4_K, true, 15),
];

impl FileType {
    const fn new(name: &'static str, base: DType, mixed: bool, gguf_id: u32) -> Self {
        Self { name, base, mixed, gguf_id }
    }

    /// Every type, largest first.
    pub fn all() -> &'static [FileType] {
        &TYPES
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The format of most tensors.
    pub fn base(self) -> DType {
        self.base
    }

    /// `general.file_type` of GGUF.
    pub fn gguf_id(self) -> u32 {
        self.gguf_id
    }

    /// The type whose base format holds most of a mixed plan's values, the mixing variant where there is one.
    pub fn most_like(plan: &[TensorPlan]) -> FileType {
        let values = |kind: &FileType| -> usize {
            let same = plan.iter().filter(|tensor| tensor.dtype == kind.base);
            same.map(|tensor| tensor.spec.num_elements()).sum()
        };
        TYPES.into_iter().max_by_key(|kind| (values(kind), kind.mixed)).unwrap_or(TYPES[0])
    }

    /// Format of the output head where none is asked for: Q8_0 for Q8_0, Q6_K below it, as llama.cpp does.
    fn default_embedding(self) -> DType {
        match self.base {
            DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 => self.base,
            _ => DType::Q6_K,
        }
    }

    fn of_layer_tensor(self, name: &str, layer: usize, layers: usize) -> DType {
        let sensitive = name.ends_with("v_proj.weight") || name.ends_with("down_proj.weight");
        let eighth = layers / 8;
        let chosen = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
        if self.mixed && sensitive && chosen { DType::Q6_K } else { self.base }
    }
}

impl FromStr for FileType {
    type Err = QuantError;

    fn from_str(name: &str) -> Result<Self, QuantError> {
        let lower = name.to_ascii_lowercase();
        TYPES.into_iter().find(|kind| kind.name == lower).ok_or_else(|| QuantError::UnknownType {
            name: name.into(),
            known: TYPES.map(|kind| kind.name).join(", "),
        })
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The format of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// Name and shape.
    pub spec: ParamSpec,
    /// Format that is stored.
    pub dtype: DType,
    /// Format that was wanted, where rows do not fit its blocks.
    pub wanted: Option<DType>,
    /// Stored bytes.
    pub bytes: usize,
}

/// A plan for every parameter, in state-dict order. `embedding` overrides the type of the embedding table and of
/// an untied head.
pub fn plan(config: &ModelConfig, kind: FileType, embedding: Option<DType>) -> Vec<TensorPlan> {
    config.parameters().into_iter().map(|spec| tensor_plan(config, kind, embedding, spec)).collect()
}

fn tensor_plan(
    config: &ModelConfig,
    kind: FileType,
    embedding: Option<DType>,
    spec: ParamSpec,
) -> TensorPlan {
    let [_, cols] = spec.shape[..] else {
        // Norms and biases are a thousandth of the weights and every product passes through them.
        return TensorPlan { bytes: 4 * spec.num_elements(), spec, dtype: DType::F32, wanted: None };
    };
    let wanted = match spec.name.as_str() {
        "lm_head.weight" => embedding.unwrap_or(kind.default_embedding()),
        "model.embed_tokens.weight" if config.tie_word_embeddings => {
            embedding.unwrap_or(kind.default_embedding())
        }
        "model.embed_tokens.weight" => embedding.unwrap_or(kind.base),
        name => {
            let layer = name.split('.').nth(2).and_then(|index| index.parse().ok()).unwrap_or(0);
            kind.of_layer_tensor(name, layer, config.num_hidden_layers)
        }
    };
    let dtype = wanted.for_row_len(cols);
    let rows = spec.num_elements() / cols;
    let bytes = rows * (cols / dtype.block_len()) * dtype.block_bytes();
    TensorPlan { spec, dtype, wanted: (dtype != wanted).then_some(wanted), bytes }
}

/// Bytes of all tensors.
pub fn total_bytes(plan: &[TensorPlan]) -> usize {
    plan.iter().map(|tensor| tensor.bytes).sum()
}
