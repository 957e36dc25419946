//! What can go wrong in this crate: a kind, the file, the tensor or key, expected against found.

use std::path::{Path, PathBuf};

use shakti_gguf::GgufError;
use shakti_model::ModelError;
use shakti_tokenizer::TokenizerError;

/// An error of reading, writing or converting model files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused something.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The output exists and overwriting was not asked for.
    #[error("{}: output exists", path.display())]
    AlreadyExists {
        /// The output.
        path: PathBuf,
    },
    /// A file that does not hold what its format demands.
    #[error("{}: {place}: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The field, tensor or line.
        place: String,
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The file is not a kind of model file that is read here.
    #[error("{}: expected {expected}, found {found}", path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// What could be read.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The configuration cannot be used.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key and its value.
        source: ModelError,
    },
    /// A GGUF container cannot be read or written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A metadata key of a GGUF file holds a value that is not implemented or contradicts another.
    #[error("{}: key `{key}`: expected {expected}, found {found}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What can be used.
        expected: String,
        /// The value.
        found: String,
    },
    /// A tensor of the configuration is not in the file.
    #[error("{}: tensor `{name}` is missing", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name there.
        name: String,
    },
    /// A tensor in the file that the configuration does not know.
    #[error("{}: tensor `{name}` is not part of the model that the configuration describes", path.display())]
    ExtraTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name there.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{name}`: expected shape {expected:?}, found {found:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor's name there.
        name: String,
        /// The shape of the configuration, row-major.
        expected: Vec<usize>,
        /// The shape in the file, row-major.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that cannot be computed with here.
    #[error("{}: tensor `{name}`: expected {expected}, found type {found}", path.display())]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name there.
        name: String,
        /// The types that can be used.
        expected: String,
        /// The type in the file.
        found: String,
    },
    /// A file does not have the checksum its folder lists.
    #[error("{}: expected SHA-256 {expected}, found {found}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The listed checksum.
        expected: String,
        /// The checksum of the bytes that are there.
        found: String,
    },
    /// The model cannot be said in the format asked for.
    #[error("cannot export to {format}: {reason}")]
    NotExpressible {
        /// The format.
        format: &'static str,
        /// What it lacks.
        reason: String,
    },
    /// The vocabulary cannot be said in the format asked for.
    #[error("vocabulary: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// Whoever was asked for a tensor's bytes failed.
    #[error("tensor `{name}`: {source}")]
    Source {
        /// State-dict name.
        name: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CheckpointError {
    /// What the system reported while `doing` something with a file; a file in the way becomes [`Self::AlreadyExists`].
    pub fn io(path: &Path, doing: &'static str, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            _ => Self::Io { path, doing, source },
        }
    }

    pub(crate) fn damaged(
        path: &Path,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (place, expected, found) = (place.into(), expected.into(), found.into());
        Self::Damaged { path: path.to_path_buf(), place, expected, found }
    }

    pub(crate) fn metadata(
        path: &Path,
        key: impl Into<String>,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        let (key, expected, found) = (key.into(), expected.into(), found.to_string());
        Self::Metadata { path: path.to_path_buf(), key, expected, found }
    }

    /// Whether a file or folder does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}
