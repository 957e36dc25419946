//! Running the binary, and a small model with random weights to run it on.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use shakti_checkpoint::{FolderContents, Overwrite, write_folder};
use shakti_kernels::blocks::DType;
use shakti_model::{Layout, ModelConfig, Parameters, preset};
use shakti_tokenizer::{Tokenizer, TrainOptions, train};
use tempfile::TempDir;

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8 output");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Standard output of a run that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }

    /// The one JSON object of a run with `--json` that succeeded.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("one JSON object")
    }

    /// Standard error of a run that was refused: exit code 2 and nothing on standard output.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "stderr: {}", self.stderr);
        self.stderr
    }
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shakti"));
    command.args(["--threads", "1"]).stdin(Stdio::null());
    command
}

/// Runs `shakti` with these arguments.
pub fn shakti(args: &[&str]) -> Run {
    Run::new(command().args(args).output().expect("the binary runs"))
}

/// Runs `shakti` with text on standard input.
pub fn shakti_with_input(args: &[&str], input: &str) -> Run {
    let mut child = command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    match child.stdin.take().expect("a pipe").write_all(input.as_bytes()) {
        // It may refuse its arguments and end before it reads; what it printed says so.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        result => result.expect("the binary reads"),
    }
    Run::new(child.wait_with_output().expect("the binary ends"))
}

/// A command that runs the program named after it in a namespace of its own (`--net`, `--mount`), where the system
/// allows one.
#[cfg(target_os = "linux")]
pub fn namespace(kind: &str) -> Option<Command> {
    // As root a namespace of its own is enough; others need a user namespace around it.
    let ways = [&[kind][..], &["--user", "--map-root-user", kind]];
    let way = ways.iter().find(|way| {
        let probe = Command::new("unshare").args(**way).arg("true").stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    })?;
    let mut command = Command::new("unshare");
    command.args(*way).stdin(Stdio::null());
    Some(command)
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8 paths in tests")
}

/// A folder with a small random model, its vocabulary and chat template, and a text file.
pub fn fixture() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            write_model(&folder.path().join("model"));
            std::fs::write(folder.path().join("text.txt"), TEXT).expect("a text file");
            folder
        })
        .path()
}

/// The small model.
pub fn model() -> PathBuf {
    fixture().join("model")
}

/// What the vocabulary was learnt from.
pub const TEXT: &str = "Asthma is a disease of the lungs. What is asthma? The lungs take up air.\n";

fn write_model(path: &Path) {
    let options = TrainOptions { vocab_size: 300, min_frequency: 1 };
    let files = train([TEXT].into_iter(), &options).expect("a text to learn from");
    let tokenizer =
        Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json).expect("a vocabulary");
    let config = small_config(&tokenizer);
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 5);
    let contents = FolderContents {
        tokenizer_json: Some(files.tokenizer_json),
        tokenizer_config_json: Some(files.tokenizer_config_json),
        chat_template: Some(files.chat_template),
        others: Vec::new(),
    };
    write_folder(path, Overwrite::Refuse, &config, &params, DType::F32, &contents)
        .expect("a folder to write");
}

fn small_config(tokenizer: &Tokenizer) -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_kv_heads = vec![2, 1];
    config.head_dim = 16;
    config.layer_types.truncate(2);
    config.sliding_window = 48;
    config.vocab_size = tokenizer.vocab_size();
    config.max_position_embeddings = 256;
    config.initializer_range = 0.3;
    config.bos_token_id = tokenizer.special_ids().bos;
    config.eos_token_ids = tokenizer.stop_ids();
    config
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
