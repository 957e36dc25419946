//! `shakti tokenizer`: train a vocabulary, encode and decode with one.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Mutex;

use clap::{Args, Subcommand};
use serde::Serialize;
use shakti_checkpoint::files::{create_folder, write_files};
use shakti_checkpoint::{CheckpointError, Overwrite};
use shakti_data::{DataError, ReaderSettings, RecordReader};
use shakti_tokenizer::{TrainOptions, train};

use crate::args::model::ModelFlag;
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;
use crate::vocabulary;

/// Train a vocabulary, encode and decode with one
#[derive(Debug, Args)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    Train(TrainArgs),
    Encode(EncodeArgs),
    Decode(DecodeArgs),
}

/// Learn a byte-level BPE vocabulary from files
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti tokenizer train data/quickstart/medical_qa.jsonl.zst --vocab-size 4096 -o out/tokenizer"
)]
struct TrainArgs {
    /// Text, JSON lines or JSON, also .gz and .zst
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Folder to write tokenizer.json, tokenizer_config.json and chat_template.jinja into
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Number of ids, the 7 control tokens and 256 bytes included
    #[arg(long, value_name = "N", default_value_t = 4096)]
    vocab_size: usize,
    /// Pairs that occur less often are not merged
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
    /// Replace what the folder holds
    #[arg(long)]
    force: bool,
}

/// Print the ids of a text
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti tokenizer encode -m out/tokenizer \"Asthma is a disease of the lungs.\""
)]
struct EncodeArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// The text; without one, standard input is read
    #[arg(value_name = "TEXT")]
    text: Option<String>,
}

/// Print the text of ids
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti tokenizer decode -m out/tokenizer 300 301 302")]
struct DecodeArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// The ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<u32>,
}

/// Runs the command.
pub fn run(args: &TokenizerArgs, settings: &Settings) -> Result<(), Failure> {
    match &args.command {
        TokenizerCommand::Train(args) => run_train(args, settings),
        TokenizerCommand::Encode(args) => run_encode(args, settings),
        TokenizerCommand::Decode(args) => run_decode(args, settings),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct TrainReport {
    vocab_size: usize,
    records: usize,
    bytes: u64,
    tokens: u64,
    bytes_per_token: f64,
    files: Vec<String>,
}

fn run_train(args: &TrainArgs, settings: &Settings) -> Result<(), Failure> {
    let tokenizer_file = args.out.join("tokenizer.json");
    if !args.force && tokenizer_file.exists() {
        // Said before the work, not after it.
        return Err(CheckpointError::AlreadyExists { path: tokenizer_file }.into());
    }
    let options = TrainOptions { vocab_size: args.vocab_size, min_frequency: args.min_frequency };
    let failed = Mutex::new(None);
    let trained = train(texts(&args.files, &failed), &options);
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error.into());
    }
    let files = trained?;
    let tokenizer =
        shakti_tokenizer::Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json)?;
    let mut report = TrainReport {
        vocab_size: tokenizer.vocab_size(),
        records: 0,
        bytes: 0,
        tokens: 0,
        bytes_per_token: 0.0,
        files: Vec::new(),
    };
    let failed = Mutex::new(None);
    let mut ids = Vec::new();
    for text in texts(&args.files, &failed) {
        ids.clear();
        tokenizer.encode(&text, &mut ids);
        report.records += 1;
        report.bytes += text.len() as u64;
        report.tokens += ids.len() as u64;
    }
    report.bytes_per_token = report.bytes as f64 / report.tokens.max(1) as f64;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    create_folder(&args.out)?;
    write_files(&args.out, files.files().map(|(name, text)| (name, text.as_bytes())), overwrite)?;
    report.files.extend(files.files().map(|(name, _)| args.out.join(name).display().to_string()));
    let text = format!(
        "{} ids in {}; {} records, {} bytes, {} tokens: {:.2} bytes per token on the training text",
        report.vocab_size,
        args.out.display(),
        report.records,
        report.bytes,
        report.tokens,
        report.bytes_per_token
    );
    Ok(settings.output.result(&report, text)?)
}

/// Every text of every file; the first error ends the iteration and is left in `failed`.
fn texts<'a>(
    files: &'a [PathBuf],
    failed: &'a Mutex<Option<DataError>>,
) -> impl Iterator<Item = String> + Send + 'a {
    let records =
        files.iter().flat_map(|file| -> Box<dyn Iterator<Item = Result<Vec<String>, DataError>> + Send> {
            match RecordReader::open(file, &ReaderSettings::default()) {
                Ok(reader) => Box::new(reader.map(|record| Ok(record?.texts().map(str::to_owned).collect()))),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
    let keep = |record: Result<Vec<String>, DataError>| match record {
        Ok(texts) => Some(texts),
        Err(error) => {
            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            None
        }
    };
    records.map_while(keep).flatten()
}

/// What `--json` prints.
#[derive(Serialize)]
struct EncodeReport {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

fn run_encode(args: &EncodeArgs, settings: &Settings) -> Result<(), Failure> {
    let tokenizer = vocabulary::open(&args.model.model)?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            text
        }
    };
    let mut ids = Vec::new();
    tokenizer.encode(&text, &mut ids);
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let tokens =
        ids.iter().map(|id| String::from_utf8_lossy(tokenizer.token_bytes(*id)).into_owned()).collect();
    Ok(settings.output.result(&EncodeReport { ids, tokens }, text)?)
}

/// What `--json` prints.
#[derive(Serialize)]
struct DecodeReport {
    text: String,
}

fn run_decode(args: &DecodeArgs, settings: &Settings) -> Result<(), Failure> {
    let tokenizer = vocabulary::open(&args.model.model)?;
    if let Some(id) = args.ids.iter().find(|id| **id as usize >= tokenizer.vocab_size()) {
        return Err(Failure::bad_input(format!(
            "id {id} is outside the vocabulary of {}",
            tokenizer.vocab_size()
        )));
    }
    let text = tokenizer.decode(&args.ids);
    Ok(settings.output.result(&DecodeReport { text: text.clone() }, text)?)
}
