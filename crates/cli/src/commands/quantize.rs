//! `shakti quantize`: a model as a GGUF file in fewer bits, with what that cost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::{ExportTokenizer, GgufExport, ModelFile, Overwrite, TokenizerSource};
use shakti_engine::Model;
use shakti_eval::{Document, LossReport, WindowOptions, measure_loss};
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::ParamSpec;
use shakti_quant::{FileType, QuantizedModel, TensorReport, plan};
use shakti_tokenizer::Tokenizer;

use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Write a model as a quantized GGUF file that llama.cpp reads too
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti quantize out/quickstart/sft/model model-q4_0.gguf --type q4_0")]
pub struct QuantizeArgs {
    /// A checkpoint folder or a GGUF file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The GGUF file to write
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
    /// f32, f16, bf16, q8_0, q6_k, q5_0, q5_1, q5_k_s, q5_k_m, q4_0, q4_1, q4_k_s or q4_k_m
    #[arg(short, long = "type", value_name = "TYPE")]
    kind: String,
    /// Type of the embedding table and the output head [default: q6_k, or TYPE if that is larger]
    #[arg(long, value_name = "TYPE")]
    embedding_type: Option<String>,
    /// Text to measure perplexity on, before and after [default: a held-out textbook section inside this program]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Quantize a model that is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// Replace the output file
    #[arg(long)]
    force: bool,
}

/// A section of *Anatomy and Physiology 2e* (OpenStax, Rice University, CC BY 4.0) that the quickstart holds out.
pub const SAMPLE: &str = include_str!("../../../../data/quickstart/held_out_section.txt");

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    out: PathBuf,
    architecture: String,
    tensors: Vec<TensorLine>,
    file_bytes: u64,
    weight_bytes: u64,
    f32_weight_bytes: u64,
    before: LossReport,
    after: LossReport,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct TensorLine {
    name: String,
    shape: Vec<usize>,
    #[serde(rename = "type")]
    dtype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    bytes: usize,
    nmse: f64,
}

/// Runs the command.
pub fn run(args: &QuantizeArgs, settings: &Settings) -> Result<(), Failure> {
    let kind: FileType = args.kind.parse()?;
    let embedding = args.embedding_type.as_deref().map(str::parse::<DType>).transpose()?;
    let sample = match &args.text {
        Some(path) => {
            std::fs::read_to_string(path).context(format!("{}: cannot read the text", path.display()))?
        }
        None => SAMPLE.to_string(),
    };
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let cpu = settings.cpu();
    let source = ModelFile::open(&args.input)?;
    let request = Request { kind, embedding, allow_requantize: args.allow_requantize };
    let made = write_gguf(&cpu, &source, &request, (&args.out, overwrite))?;
    let before = loss_on(&args.input, &cpu, &sample)?;
    let after = loss_on(&args.out, &cpu, &sample)?;
    for warning in &made.export.warnings {
        settings.output.warn(warning);
    }
    let report = Report {
        out: args.out.clone(),
        architecture: made.export.architecture.into(),
        tensors: made.tensors.iter().map(tensor_line).collect(),
        file_bytes: made.export.bytes,
        weight_bytes: made.tensors.iter().map(|tensor| tensor.plan.bytes as u64).sum(),
        f32_weight_bytes: made.tensors.iter().map(|tensor| 4 * tensor.plan.spec.num_elements() as u64).sum(),
        before,
        after,
        warnings: made.export.warnings.clone(),
    };
    settings.output.result(&report, text(&report))?;
    Ok(())
}

/// What to make.
pub struct Request {
    /// The quantization type.
    pub kind: FileType,
    /// Another type for the embedding table and the head.
    pub embedding: Option<DType>,
    /// Whether a quantized source is accepted.
    pub allow_requantize: bool,
}

/// What was made.
pub struct Made {
    export: shakti_checkpoint::ExportReport,
    tensors: Vec<TensorReport>,
}

impl Made {
    /// What a user must know, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.export.warnings
    }
}

/// Quantizes a model in memory and writes the file; its tokenizer and template come along.
pub fn write_gguf(
    cpu: &Cpu,
    source: &ModelFile,
    request: &Request,
    (out, overwrite): (&Path, Overwrite),
) -> Result<Made, Failure> {
    let config = source.config();
    let plan = plan(config, request.kind, request.embedding);
    let model = QuantizedModel::new(cpu, source, &plan, request.allow_requantize, |_| {})?;
    let types: std::collections::HashMap<&str, DType> =
        plan.iter().map(|tensor| (tensor.spec.name.as_str(), tensor.dtype)).collect();
    let dtype = |spec: &ParamSpec| types.get(spec.name.as_str()).copied().unwrap_or(DType::F32);
    let folder_tokenizer = match source.tokenizer() {
        TokenizerSource::Folder(folder) => Some(Tokenizer::open(folder)?),
        TokenizerSource::Gguf(_) => None,
    };
    let tokenizer = match (&folder_tokenizer, source.tokenizer()) {
        (Some(tokenizer), _) => ExportTokenizer::Tokenizer(tokenizer),
        (None, TokenizerSource::Gguf(file)) => ExportTokenizer::CopyOf(file),
        (None, TokenizerSource::Folder(folder)) => {
            return Err(Failure::bad_input(format!("{}: no tokenizer.json", folder.display())));
        }
    };
    let name =
        source.path().file_stem().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let export = GgufExport {
        config,
        name: &name,
        file_type: request.kind.gguf_id(),
        dtype: &dtype,
        tokenizer,
        extra: &[],
    };
    let export = export.write(out, overwrite, &model)?;
    Ok(Made { export, tensors: model.reports })
}

/// The loss of the file as it will be used.
fn loss_on(path: &Path, cpu: &Arc<Cpu>, text: &str) -> Result<LossReport, Failure> {
    let model = Model::open(path, cpu.clone())?;
    let ids = model.encode_text(text);
    let document = Document { ids: &ids, scored_from: 1 };
    let units = measure_loss(&model, &[document], WindowOptions::of(&model))?;
    Ok(LossReport::new(&units, 0)?)
}

fn tensor_line(tensor: &TensorReport) -> TensorLine {
    TensorLine {
        name: tensor.plan.spec.name.clone(),
        shape: tensor.plan.spec.shape.clone(),
        dtype: tensor.plan.dtype.to_string(),
        instead_of: tensor.plan.wanted.map(|wanted| wanted.to_string()),
        bytes: tensor.plan.bytes,
        nmse: tensor.nmse,
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for tensor in &report.tensors {
        let instead = tensor.instead_of.as_ref().map_or_else(String::new, |wanted| {
            format!(
                "  instead of {wanted}: rows of {} are no multiple of 256",
                tensor.shape.last().unwrap_or(&0)
            )
        });
        text += &format!(
            "{:<48} {:>14} {:<5} {:>11} bytes  nmse {:.2e}{instead}\n",
            tensor.name,
            format!("{:?}", tensor.shape),
            tensor.dtype,
            tensor.bytes,
            tensor.nmse
        );
    }
    let ratio = report.f32_weight_bytes as f64 / report.weight_bytes as f64;
    let (before, after) = (report.before.perplexity.value, report.after.perplexity.value);
    text + &format!(
        "\n{}: architecture {}, {:.2} MB\nweights     {:.2} MB, FP32 {:.2} MB: {ratio:.2} times smaller (the paper says about 8x for its 4-bit models)\n\
         perplexity  {before:.3} before, {after:.3} after ({:+.2}%), over {} tokens",
        report.out.display(),
        report.architecture,
        report.file_bytes as f64 / 1e6,
        report.weight_bytes as f64 / 1e6,
        report.f32_weight_bytes as f64 / 1e6,
        100.0 * (after / before - 1.0),
        report.after.tokens
    )
}
