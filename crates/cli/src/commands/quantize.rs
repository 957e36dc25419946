//! `shakti quantize`: a model as a GGUF file in fewer bits, with what that cost.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::{
    CheckpointError, ExportTokenizer, GgufExport, ModelFile, Overwrite, TokenizerSource,
};
use shakti_engine::Model;
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{ModelConfig, ParamSpec, TensorSource};
use shakti_quant::{
    Calibration, FileType, Options, QuantizedModel, TensorPlan, TensorReport, plan, plan_for_size,
    total_bytes,
};
use shakti_tokenizer::Tokenizer;

use super::quality::Quality;
use crate::failure::{Failure, FailureExt};
use crate::output::Output;
use crate::settings::Settings;

/// Write a model as a quantized GGUF file that llama.cpp reads too
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti quantize out/quickstart/sft/model model-q4_0.gguf --type q4_0\n  \
    shakti quantize out/quickstart/sft/model model.gguf --max-size 3.8MB --calib domain.txt --eval held_out.txt"
)]
pub struct QuantizeArgs {
    /// A checkpoint folder or a GGUF file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The GGUF file to write
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
    /// f32, f16, bf16, q8_0, q6_k, q5_0, q5_1, q5_k_s, q5_k_m, q4_0, q4_1, q4_k_s or q4_k_m
    #[arg(
        short,
        long = "type",
        value_name = "TYPE",
        required_unless_present = "max_size",
        conflicts_with = "max_size"
    )]
    kind: Option<String>,
    /// Choose the type of every tensor so that the file has at most this size: bytes, or a number with kB, MB, GB, KiB,
    /// MiB or GiB
    #[arg(long, value_name = "SIZE", value_parser = file_size)]
    max_size: Option<u64>,
    /// Text of the domain to calibrate on: rounding errors are compensated for the least error of what the layers compute
    /// on it
    #[arg(long, value_name = "FILE")]
    calib: Option<PathBuf>,
    /// Type of the embedding table and the output head [default: q6_k, or TYPE if that is larger]
    #[arg(long, value_name = "TYPE")]
    embedding_type: Option<String>,
    /// Held-out text for perplexity before and after and for the KL divergence between them [default: a held-out
    /// textbook section inside this program]
    #[arg(long, visible_alias = "text", value_name = "FILE")]
    eval: Option<PathBuf>,
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
    #[serde(flatten)]
    quality: Quality,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration_tokens: Option<usize>,
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
    /// Expected squared error of the layer's output over its expected square; with calibration only.
    #[serde(skip_serializing_if = "Option::is_none")]
    weighted_error: Option<f64>,
}

/// Runs the command.
pub fn run(args: &QuantizeArgs, settings: &Settings) -> Result<(), Failure> {
    let target = match (&args.kind, args.max_size) {
        (_, Some(max_bytes)) => Target::Size(max_bytes),
        (kind, None) => Target::Type(kind.as_deref().unwrap_or_default().parse()?),
    };
    let embedding = args.embedding_type.as_deref().map(str::parse::<DType>).transpose()?;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).context(format!("{}: cannot read the text", path.display()))
    };
    let sample = args.eval.as_ref().map_or_else(|| Ok(SAMPLE.to_string()), read)?;
    let calibration = args.calib.as_ref().map(read).transpose()?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    if !args.force && args.out.exists() {
        // The writer refuses too, but only after the work.
        return Err(CheckpointError::AlreadyExists { path: args.out.clone() }.into());
    }
    let cpu = settings.cpu();
    let source = ModelFile::open(&args.input)?;
    let original = Model::open(&args.input, cpu.clone())?;
    // Looked at before anything is written.
    let sample = original.encode_text(&sample)?;
    if let (true, Some(path)) = (sample.len() < 2, &args.eval) {
        let why = format!("{}: {} tokens, expected at least 2 to measure", path.display(), sample.len());
        return Err(Failure::bad_input(why));
    }
    let calibration = match (calibration, &args.calib) {
        (Some(text), Some(path)) => {
            let ids = original.encode_text(&text)?;
            let calibration = Calibration::new(source.config(), &ids).context(path.display())?;
            if ids.len() < FEW_TOKENS {
                settings.output.warn(format!(
                    "{}: {} tokens tell little of what the layers see; {FEW_TOKENS} or more are better",
                    path.display(),
                    ids.len()
                ));
            }
            Some(calibration)
        }
        _ => None,
    };
    let options = Options { allow_requantize: args.allow_requantize, calibration: calibration.as_ref() };
    let progress = Some(settings.output);
    let request = Request { target, embedding, options, progress };
    let made = write_gguf(&cpu, &source, &request, (&args.out, overwrite))?;
    let quality = Quality::measure(&original, &Model::open(&args.out, cpu.clone())?, &sample)?;
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
        quality,
        calibration_tokens: calibration.as_ref().map(Calibration::tokens),
        warnings: made.export.warnings.clone(),
    };
    settings.output.result(&report, text(&report))?;
    Ok(())
}

/// Calibration texts with fewer tokens get a warning.
const FEW_TOKENS: usize = 2_000;

/// What decides the types.
#[derive(Clone, Copy)]
enum Target {
    /// A named recipe.
    Type(FileType),
    /// The most bytes the file may have.
    Size(u64),
}

/// What to make.
pub struct Request<'a> {
    target: Target,
    /// Another type for the embedding table and the head.
    embedding: Option<DType>,
    options: Options<'a>,
    /// Where to say how far it is.
    progress: Option<Output>,
}

impl Request<'_> {
    /// A named recipe, nothing special.
    pub fn of_type(kind: FileType) -> Self {
        Self { target: Target::Type(kind), embedding: None, options: Options::default(), progress: None }
    }

    /// The same for a source that may be quantized already.
    #[must_use]
    pub fn requantizing(self) -> Self {
        Self { options: Options { allow_requantize: true, ..self.options }, ..self }
    }
}

/// A number of bytes, with or without a unit.
fn file_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        unit => return Err(format!("unknown unit `{unit}`: kB, MB, GB, KiB, MiB, GiB or none")),
    };
    match digits.parse::<f64>() {
        Ok(number) if number > 0.0 && number * unit < u64::MAX as f64 => Ok((number * unit) as u64),
        _ => Err(format!("`{digits}` is no positive number")),
    }
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
    request: &Request<'_>,
    out: (&Path, Overwrite),
) -> Result<Made, Failure> {
    write_tensors(cpu, (source, source), request, out)
}

/// [`write_gguf`] of other tensors than those of the file.
pub fn write_tensors(
    cpu: &Cpu,
    (source, tensors): (&ModelFile, &dyn TensorSource),
    request: &Request<'_>,
    (out, overwrite): (&Path, Overwrite),
) -> Result<Made, Failure> {
    let config = source.config();
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
    let frame = Frame { config, name: &name, tokenizer };
    let (plan, file_type) = choose_types(cpu, tensors, request, &frame)?;
    let mut done = 0;
    let model = QuantizedModel::new(cpu, tensors, &plan, request.options, |tensor| {
        done += 1;
        if let Some(output) = request.progress {
            output.progress(format!("{done} of {} tensors: {}", plan.len(), tensor.plan.spec.name));
        }
    })?;
    if let Some(output) = request.progress {
        output.progress("");
    }
    let export = frame.with(&plan, file_type, |export| export.write(out, overwrite, &model))?;
    Ok(Made { export, tensors: model.reports })
}

/// What a file holds beside its tensors.
struct Frame<'a> {
    config: &'a ModelConfig,
    name: &'a str,
    tokenizer: ExportTokenizer<'a>,
}

impl Frame<'_> {
    fn with<T>(&self, plan: &[TensorPlan], file_type: u32, then: impl FnOnce(&GgufExport<'_>) -> T) -> T {
        let types: HashMap<&str, DType> =
            plan.iter().map(|tensor| (tensor.spec.name.as_str(), tensor.dtype)).collect();
        let dtype = |spec: &ParamSpec| types.get(spec.name.as_str()).copied().unwrap_or(DType::F32);
        let Self { config, name, tokenizer } = *self;
        then(&GgufExport { config, name, file_type, dtype: &dtype, tokenizer, extra: &[] })
    }
}

/// The type of every tensor and `general.file_type`.
fn choose_types(
    cpu: &Cpu,
    source: &dyn TensorSource,
    request: &Request<'_>,
    frame: &Frame<'_>,
) -> Result<(Vec<TensorPlan>, u32), Failure> {
    let max_size = match request.target {
        Target::Type(kind) => return Ok((plan(frame.config, kind, request.embedding), kind.gguf_id())),
        Target::Size(max_size) => max_size,
    };
    let floats = plan(frame.config, FileType::all()[0], None);
    let file = frame.with(&floats, 0, |export| export.file_len())?;
    // Padding depends on the types: at most this much a tensor.
    let beside = file - total_bytes(&floats) as u64 + 32 * floats.len() as u64;
    let max_bytes = usize::try_from(max_size.saturating_sub(beside)).unwrap_or(usize::MAX);
    let chosen = plan_for_size(cpu, source, (frame.config, request.embedding), max_bytes, request.options)
        .context(format!("{max_size} bytes, of which {beside} go to vocabulary, names and padding"))?;
    let file_type = FileType::most_like(&chosen).gguf_id();
    Ok((chosen, file_type))
}

fn tensor_line(tensor: &TensorReport) -> TensorLine {
    TensorLine {
        name: tensor.plan.spec.name.clone(),
        shape: tensor.plan.spec.shape.clone(),
        dtype: tensor.plan.dtype.to_string(),
        instead_of: tensor.plan.wanted.map(|wanted| wanted.to_string()),
        bytes: tensor.plan.bytes,
        nmse: tensor.nmse,
        weighted_error: tensor.weighted,
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
        let weighted =
            tensor.weighted_error.map_or_else(String::new, |error| format!("  weighted {error:.2e}"));
        text += &format!(
            "{:<48} {:>14} {:<5} {:>11} bytes  nmse {:.2e}{weighted}{instead}\n",
            tensor.name,
            format!("{:?}", tensor.shape),
            tensor.dtype,
            tensor.bytes,
            tensor.nmse
        );
    }
    let ratio = report.f32_weight_bytes as f64 / report.weight_bytes as f64;
    let calibrated = report
        .calibration_tokens
        .map_or_else(String::new, |tokens| format!("\ncalibrated  on {tokens} tokens"));
    text + &format!(
        "\n{}: architecture {}, {:.2} MB\nweights     {:.2} MB, FP32 {:.2} MB: {ratio:.2} times smaller (the paper says about 8x for its 4-bit models)\n{}{calibrated}",
        report.out.display(),
        report.architecture,
        report.file_bytes as f64 / 1e6,
        report.weight_bytes as f64 / 1e6,
        report.f32_weight_bytes as f64 / 1e6,
        report.quality.text(),
    )
}
