//! `shakti export`: a model for other programs, as a Hugging Face folder or a GGUF file.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use shakti_checkpoint::{
    FolderContents, ModelFile, Overwrite, PlainModel, TokenizerSource, read_adapter, write_adapter_folder,
    write_adapter_gguf, write_folder,
};
use shakti_kernels::blocks::DType;

use super::quantize::{Request, write_gguf};
use crate::failure::Failure;
use crate::settings::Settings;

/// Write a model for Transformers (hf) or llama.cpp (gguf)
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti export out/quickstart/sft/model exported --to hf")]
pub struct ExportArgs {
    /// A checkpoint folder or a GGUF file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The folder or file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The format
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// Type of the weights: f32, f16 or bf16; gguf takes every type of `shakti quantize` [default: f32]
    #[arg(long = "type", value_name = "TYPE", default_value = "f32")]
    kind: String,
    /// Write this adapter of IN instead: a PEFT folder (hf) or what llama.cpp takes with --lora (gguf), in f32
    #[arg(long, value_name = "ADAPTER")]
    adapter: Option<PathBuf>,
    /// Replace the output
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A folder that `LlamaForCausalLM` loads; KV heads are repeated where layers have different numbers
    Hf,
    /// A GGUF file; KV heads stay as they are
    Gguf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    out: PathBuf,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &ExportArgs, settings: &Settings) -> Result<(), Failure> {
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let source = ModelFile::open(&args.input)?;
    let warnings = match (args.to, &args.adapter) {
        (_, Some(adapter)) => write_adapter(args, &source, adapter, overwrite)?,
        (Format::Gguf, None) => {
            let request = Request::of_type(args.kind.parse()?);
            write_gguf(&settings.cpu(), &source, &request, (&args.out, overwrite))?.warnings().to_vec()
        }
        (Format::Hf, None) => to_folder(args, &source, overwrite)?,
    };
    for warning in &warnings {
        settings.output.warn(warning);
    }
    let text = format!("wrote {}", args.out.display());
    settings.output.result(&Report { out: args.out.clone(), warnings }, text)?;
    Ok(())
}

fn write_adapter(
    args: &ExportArgs,
    source: &ModelFile,
    adapter: &Path,
    overwrite: Overwrite,
) -> Result<Vec<String>, Failure> {
    let adapter = read_adapter(adapter, source.config())?;
    match args.to {
        Format::Gguf => write_adapter_gguf(&args.out, overwrite, &adapter, source.config())?,
        Format::Hf => {
            write_adapter_folder(&args.out, overwrite, &adapter, &args.input.display().to_string())?;
        }
    }
    Ok(Vec::new())
}

fn to_folder(args: &ExportArgs, source: &ModelFile, overwrite: Overwrite) -> Result<Vec<String>, Failure> {
    let dtype: DType = args.kind.parse()?;
    if dtype.is_quantized() {
        return Err(Failure::bad_input(format!(
            "--type {dtype}: a Hugging Face folder holds f32, f16 or bf16"
        ))
        .hint("quantized weights go into GGUF: --to gguf"));
    }
    let TokenizerSource::Folder(folder) = source.tokenizer() else {
        return Err(Failure::bad_input(format!(
            "{}: --to hf reads checkpoint folders",
            args.input.display()
        ))
        .hint("a GGUF file has no tokenizer.json to hand on"));
    };
    let files = FolderContents::of_tokenizer(&folder.join("tokenizer.json"))?;
    let contents = FolderContents { chat_template: source.chat_template()?, ..files };
    let plain = PlainModel::new(source.config(), source)?;
    write_folder(&args.out, overwrite, plain.config(), &plain, dtype, &contents)?;
    Ok(plain.warnings())
}
