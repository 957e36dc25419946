//! Which model: `-m MODEL`, and `MODEL` where a command has no other positional argument.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use shakti_engine::LoadOptions;
use shakti_kernels::KvType;

/// `-m MODEL` or `MODEL`.
#[derive(Debug, Args)]
pub struct ModelArg {
    /// A GGUF file or a checkpoint folder
    #[arg(value_name = "MODEL", required_unless_present = "model_flag", conflicts_with = "model_flag")]
    model: Option<PathBuf>,
    /// The same, as a flag
    #[arg(short = 'm', long = "model", value_name = "MODEL")]
    model_flag: Option<PathBuf>,
    #[command(flatten)]
    adapter: AdapterArg,
}

/// `--adapter ADAPTER`.
#[derive(Debug, Args)]
pub struct AdapterArg {
    /// A LoRA or DoRA adapter of the model, not merged: a PEFT folder or a GGUF adapter
    #[arg(long = "adapter", value_name = "ADAPTER")]
    path: Option<PathBuf>,
}

impl AdapterArg {
    /// The path given.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl ModelArg {
    /// The path given.
    pub fn path(&self) -> &Path {
        let given = self.model.as_deref().or(self.model_flag.as_deref());
        given.expect("clap demands one of the two")
    }

    /// The adapter given.
    pub fn adapter(&self) -> Option<&Path> {
        self.adapter.path()
    }
}

/// `-m MODEL` where positional arguments mean something else.
#[derive(Debug, Args)]
pub struct ModelFlag {
    /// A GGUF file or a checkpoint folder
    #[arg(short = 'm', long = "model", value_name = "MODEL")]
    pub model: PathBuf,
    #[command(flatten)]
    pub adapter: AdapterArg,
}

/// What keys and values are stored as.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Store the attention's keys and values as f32, f16 or q8_0: fewer bytes for long texts
    #[arg(long, value_name = "TYPE", default_value = KvType::default().name(), value_parser = kv_types())]
    kv_type: KvType,
}

/// How a model that writes is held in memory.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// Keep a 4-bit copy of the output head (Q8_0 or Q6_K) to read less of it where only the highest scores count: same
    /// text, more memory; pays on models with a large vocabulary
    #[arg(long)]
    head_screen: bool,
}

impl CacheArgs {
    /// As the engine takes it.
    pub fn options(&self) -> LoadOptions {
        LoadOptions { kv_type: self.kv_type, ..LoadOptions::default() }
    }
}

impl ServeArgs {
    /// As the engine takes it.
    pub fn options(&self) -> LoadOptions {
        LoadOptions { head_screen: self.head_screen, ..self.cache.options() }
    }
}

fn kv_types() -> impl TypedValueParser<Value = KvType> {
    PossibleValuesParser::new(KvType::ALL.map(KvType::name)).map(|name| {
        let named = KvType::ALL.into_iter().find(|kind| kind.name() == name);
        named.expect("clap lets only these names pass")
    })
}
