//! `shakti plan`: what a model should do on a device, per format, from the cost model.

mod here;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use shakti_measure::{Device, Limits, Load, Prediction};
use shakti_quant::FileType;

use crate::commands::model::{FormatSize, format_sizes, open_config};
use crate::failure::Failure;
use crate::settings::Settings;

/// Predict file size, memory and speed of a model per format, on a device or on this machine
///
/// For a named device, predictions follow from bytes and operations per second of its data sheet: decoding reads weights
/// and cache once a token, a prompt multiplies through all layers; without overheads, so they are too high.
///
/// For this machine, one layer of each kind is timed and counted as often as it occurs, and reading all weights comes on
/// top, at the rate measured for as many bytes of each format. Each format is then run for comparison, with weights of
/// zero.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti plan shakti-100m --device raspberry-pi-5")]
pub struct PlanArgs {
    /// shakti-nano, shakti-100m, shakti-250m, shakti-500m, shakti-2.5b, a checkpoint folder or a GGUF file
    #[arg(value_name = "PRESET|PATH")]
    model: String,
    /// raspberry-pi-5, iphone-14, pixel-7, laptop or xeon [default: this machine]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["ram", "bandwidth", "gflops"])]
    device: Option<String>,
    /// Memory of the device, in GB
    #[arg(long, value_name = "GB", requires_all = ["bandwidth", "gflops"])]
    ram: Option<f64>,
    /// Memory bandwidth of the device, in GB/s
    #[arg(long, value_name = "GB/s", requires_all = ["ram", "gflops"])]
    bandwidth: Option<f64>,
    /// Billions of multiplications and additions per second that its matrix products reach
    #[arg(long, value_name = "N", requires_all = ["ram", "bandwidth"])]
    gflops: Option<f64>,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens of the answer
    #[arg(long = "gen", value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    generate: u32,
    /// Do not run the formats on this machine
    #[arg(long)]
    predict_only: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    device: String,
    source: String,
    ram_bytes: Option<u64>,
    prompt: usize,
    #[serde(rename = "gen")]
    generate: usize,
    /// Predictions are those of a data sheet.
    #[serde(skip)]
    is_device: bool,
    formats: Vec<FormatPlan>,
}

#[derive(Serialize)]
struct FormatPlan {
    format: &'static str,
    file_bytes: u64,
    resident_bytes: u64,
    fits: Option<bool>,
    bandwidth_bytes_per_s: f64,
    operations_per_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    first_token_s: f64,
    measured_prefill_tokens_per_s: Option<f64>,
    measured_decode_tokens_per_s: Option<f64>,
    measured_first_token_s: Option<f64>,
}

/// Where the model is to run.
struct Target {
    name: String,
    source: String,
    ram_bytes: Option<u64>,
    /// `None`: this machine, to be measured.
    limits: Option<Limits>,
}

/// Runs the command.
pub fn run(args: &PlanArgs, settings: &Settings) -> Result<(), Failure> {
    let (config, _) = open_config(&args.model)?;
    let (prompt, generate) = (args.prompt as usize, args.generate as usize);
    let context = config.max_position_embeddings;
    if prompt + generate > context {
        let message = format!(
            "--prompt {prompt} and --gen {generate} are more tokens than the model's context, {context}"
        );
        return Err(Failure::bad_input(message));
    }
    let target = args.target()?;
    let cpu = settings.cpu();
    let mut formats = Vec::new();
    for size in format_sizes(&config)? {
        settings.output.progress(format!("{} in {}", args.model, size.format));
        let load = Load {
            config: &config,
            weight_bytes: size.file_bytes,
            bytes_per_token: size.bytes_per_token,
            is_int8: size.format.parse::<FileType>()?.base().is_quantized(),
            prompt,
            generate,
        };
        let format = match &target.limits {
            Some(limits) => FormatPlan::of_device(&size, &load, limits),
            None => here::plan_format(&cpu, &size, &load, !args.predict_only)?,
        };
        formats.push(format.on(target.ram_bytes));
    }
    settings.output.progress("");
    let (device, source, ram_bytes, is_device) =
        (target.name, target.source, target.ram_bytes, target.limits.is_some());
    let report =
        Report { model: args.model.clone(), device, source, ram_bytes, prompt, generate, is_device, formats };
    Ok(settings.output.result(&report, report.text())?)
}

impl PlanArgs {
    fn target(&self) -> Result<Target, Failure> {
        if let (Some(ram), Some(bandwidth), Some(gflops)) = (self.ram, self.bandwidth, self.gflops) {
            for (flag, value) in [("--ram", ram), ("--bandwidth", bandwidth), ("--gflops", gflops)] {
                if !(value.is_finite() && value > 0.0) {
                    return Err(Failure::bad_input(format!("{flag} {value}: expected a positive number")));
                }
            }
            let rate = 1e9 * gflops;
            let limits = Limits { bytes_per_s: 1e9 * bandwidth, int8_per_s: rate, f32_per_s: rate };
            let source = format!("as given: {ram} GB, {bandwidth} GB/s, {gflops} GFLOP/s");
            let ram_bytes = Some((1e9 * ram) as u64);
            return Ok(Target { name: "given".into(), source, ram_bytes, limits: Some(limits) });
        }
        let Some(name) = &self.device else {
            let machine = shakti_measure::Machine::here();
            let source = format!(
                "measured: one layer of each kind, and how fast all weights of a format are read; {}",
                machine.os
            );
            let ram_bytes = shakti_measure::memory_bytes();
            return Ok(Target { name: machine.processor, source, ram_bytes, limits: None });
        };
        let devices = Device::all();
        let Some(device) = devices.iter().find(|device| device.name == *name) else {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            let failure = Failure::bad_input(format!("--device: `{name}` is not known"));
            return Err(failure.hint(format!("devices are {}", names.join(", "))));
        };
        Ok(Target {
            name: device.name.clone(),
            source: device.source.clone(),
            ram_bytes: Some((1e9 * device.ram_gb) as u64),
            limits: Some(device.limits()),
        })
    }
}

impl FormatPlan {
    fn of_device(size: &FormatSize, load: &Load<'_>, limits: &Limits) -> Self {
        let operations = if load.is_int8 { limits.int8_per_s } else { limits.f32_per_s };
        Self::new(size, load.predict(limits), [limits.bytes_per_s, operations])
    }

    fn new(size: &FormatSize, prediction: Prediction, [bytes_per_s, operations_per_s]: [f64; 2]) -> Self {
        let Prediction { resident_bytes, decode_tokens_per_s, prefill_tokens_per_s, first_token_s } =
            prediction;
        Self {
            format: size.format,
            file_bytes: size.file_bytes,
            resident_bytes,
            fits: None,
            bandwidth_bytes_per_s: bytes_per_s,
            operations_per_s,
            prefill_tokens_per_s,
            decode_tokens_per_s,
            first_token_s,
            measured_prefill_tokens_per_s: None,
            measured_decode_tokens_per_s: None,
            measured_first_token_s: None,
        }
    }

    /// Whether it fits a memory.
    fn on(self, ram_bytes: Option<u64>) -> Self {
        Self { fits: ram_bytes.map(|ram| self.resident_bytes <= ram), ..self }
    }
}

impl Report {
    fn text(&self) -> String {
        let ram = self.ram_bytes.map_or_else(String::new, |ram| format!(", {:.1} GB", ram as f64 / 1e9));
        let is_measured = self.formats.iter().any(|format| format.measured_decode_tokens_per_s.is_some());
        let brackets = if is_measured { ", and in brackets what was measured" } else { "" };
        let overheads = if self.is_device { " without overheads" } else { "" };
        let mut text = format!(
            "{} on {}{ram}\n{}\nprompt {} tokens, answer {}; predictions{overheads}{brackets}\n\n\
             format      file MB  resident MB          prefill tokens/s           decode tokens/s       first token, ms\n",
            self.model, self.device, self.source, self.prompt, self.generate
        );
        for plan in &self.formats {
            let note = if plan.fits == Some(false) { "  does not fit" } else { "" };
            writeln!(
                text,
                "{:<8} {:>10.1} {:>12.1} {:>25} {:>25} {:>21}{note}",
                plan.format,
                plan.file_bytes as f64 / 1e6,
                plan.resident_bytes as f64 / 1e6,
                beside(plan.prefill_tokens_per_s, plan.measured_prefill_tokens_per_s),
                beside(plan.decode_tokens_per_s, plan.measured_decode_tokens_per_s),
                beside(1000.0 * plan.first_token_s, plan.measured_first_token_s.map(|s| 1000.0 * s)),
            )
            .expect("writing to a string");
        }
        text + "file sizes are of the weights; resident: weights, cache of prompt and answer, working memory"
    }
}

/// A prediction, and what was measured.
fn beside(predicted: f64, measured: Option<f64>) -> String {
    let measured = measured.map_or_else(String::new, |measured| format!(" [{measured:.1}]"));
    format!("{predicted:.1}{measured}")
}
