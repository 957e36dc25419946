//! `shakti merge`: a model with an adapter merged into its weights, and what that cost.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::{
    CheckpointError, FolderContents, Merged, ModelFile, Overwrite, TokenizerSource, read_adapter,
    write_folder,
};
use shakti_engine::{LoadOptions, Model};
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::Adapter;

use super::quality::Quality;
use super::quantize::{Request, SAMPLE, write_tensors};
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Merge an adapter into the weights of its model: a checkpoint folder, or a GGUF file of any type
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti merge -m model-q4_0.gguf --adapter out/lora/adapter -o merged.gguf --type q4_0"
)]
pub struct MergeArgs {
    /// The model: a GGUF file or a checkpoint folder
    #[arg(short, long, value_name = "BASE")]
    model: PathBuf,
    /// The adapter: a PEFT folder or a GGUF adapter
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,
    /// What to write: a GGUF file if the name ends with .gguf, else a checkpoint folder
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
    /// Type of the weights: f32, f16 or bf16; a GGUF file takes every type of `shakti quantize`
    #[arg(long = "type", value_name = "TYPE", default_value = "f32")]
    kind: String,
    /// Held-out text for the perplexity before and after and the KL divergence between them [default: a held-out textbook
    /// section inside this program]
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Replace the output
    #[arg(long)]
    force: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    out: PathBuf,
    #[serde(flatten)]
    quality: Quality,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &MergeArgs, settings: &Settings) -> Result<(), Failure> {
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    if !args.force && args.out.exists() {
        // The writers refuse too, but only after the work.
        return Err(CheckpointError::AlreadyExists { path: args.out.clone() }.into());
    }
    settings.check_exists(&args.model)?;
    let cpu = settings.cpu();
    let adapted = settings.open_model((&args.model, Some(&args.adapter)), LoadOptions::default())?;
    let sample = args.sample(&adapted)?;
    let base = ModelFile::open(&args.model)?;
    let adapter = read_adapter(&args.adapter, base.config())?;
    let warnings = args.write(&cpu, &base, &adapter, overwrite)?;
    for warning in &warnings {
        settings.output.warn(warning);
    }
    let quality = Quality::measure(&adapted, &Model::open(&args.out, cpu)?, &sample)?;
    let text = format!("wrote {}\n{}", args.out.display(), quality.text());
    settings.output.result(&Report { out: args.out.clone(), quality, warnings }, text)?;
    Ok(())
}

impl MergeArgs {
    /// Ids of the text to measure on.
    fn sample(&self, model: &Model) -> Result<Vec<u32>, Failure> {
        let Some(path) = &self.eval else { return Ok(model.encode_text(SAMPLE)?) };
        let text =
            std::fs::read_to_string(path).context(format!("{}: cannot read the text", path.display()))?;
        let ids = model.encode_text(&text)?;
        if ids.len() < 2 {
            let why = format!("{}: {} tokens, expected at least 2 to measure", path.display(), ids.len());
            return Err(Failure::bad_input(why));
        }
        Ok(ids)
    }

    /// Writes the merged model and returns what a user must know.
    fn write(
        &self,
        cpu: &Cpu,
        base: &ModelFile,
        adapter: &Adapter,
        overwrite: Overwrite,
    ) -> Result<Vec<String>, Failure> {
        let merged = Merged::new(base.config(), base, adapter, cpu);
        if self.out.extension().is_some_and(|end| end == "gguf") {
            let request = Request::of_type(self.kind.parse()?).requantizing();
            let made = write_tensors(cpu, (base, &merged), &request, (&self.out, overwrite))?;
            return Ok(made.warnings().to_vec());
        }
        let dtype: DType = self.kind.parse()?;
        if dtype.is_quantized() {
            return Err(Failure::bad_input(format!("--type {dtype}: a folder holds f32, f16 or bf16"))
                .hint("quantized weights go into GGUF: -o OUT.gguf"));
        }
        let TokenizerSource::Folder(folder) = base.tokenizer() else {
            let why = format!("{}: a GGUF file has no tokenizer.json for a folder", self.model.display());
            return Err(Failure::bad_input(why).hint("write a GGUF file: -o OUT.gguf"));
        };
        let files = FolderContents::of_tokenizer(&folder.join("tokenizer.json"))?;
        let contents = FolderContents { chat_template: base.chat_template()?, ..files };
        write_folder(&self.out, overwrite, base.config(), &merged, dtype, &contents)?;
        Ok(Vec::new())
    }
}
