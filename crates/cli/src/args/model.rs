//! Which model: `-m MODEL`, and `MODEL` where a command has no other positional argument.

use std::path::{Path, PathBuf};

use clap::Args;

/// `-m MODEL` or `MODEL`.
#[derive(Debug, Args)]
pub struct ModelArg {
    /// A GGUF file or a checkpoint folder
    #[arg(value_name = "MODEL", required_unless_present = "model_flag", conflicts_with = "model_flag")]
    model: Option<PathBuf>,
    /// The same, as a flag
    #[arg(short = 'm', long = "model", value_name = "MODEL")]
    model_flag: Option<PathBuf>,
}

impl ModelArg {
    /// The path given.
    pub fn path(&self) -> &Path {
        let given = self.model.as_deref().or(self.model_flag.as_deref());
        given.expect("clap demands one of the two")
    }
}

/// `-m MODEL` where positional arguments mean something else.
#[derive(Debug, Args)]
pub struct ModelFlag {
    /// A GGUF file or a checkpoint folder
    #[arg(short = 'm', long = "model", value_name = "MODEL")]
    pub model: PathBuf,
}
