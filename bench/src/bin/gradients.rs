//! Our gradients of every parameter beside those that `reference/make_gradients.py` wrote, in each precision: a JSON line a
//! precision, and one a parameter with `--all`.
//!
//! The error of a parameter is the norm of the difference over the norm of the expected gradient.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use serde::Deserialize;
use shakti_checkpoint::{HfFolder, load_parameters};
use shakti_kernels::{Cpu, Precision};
use shakti_measure::Spread;
use shakti_model::{Batch, Compute, Decoder, Layout, Parameters, Targets, TrainPass};

/// Where the script wrote.
#[derive(Debug, Parser)]
struct Args {
    folder: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print every parameter
    #[arg(long)]
    all: bool,
}

/// `batch.json`.
#[derive(Deserialize)]
struct Data {
    ids: Vec<u32>,
    targets: Vec<u32>,
    length: usize,
    loss: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let cpu = Cpu::detect(Some(args.threads))?;
    let folder = HfFolder::open(args.folder.join("weights"))?;
    let layout = Arc::new(Layout::new(folder.config()));
    let params = load_parameters(layout.clone(), &folder)?;
    let expected = load_parameters(layout.clone(), &HfFolder::open(args.folder.join("gradients"))?)?;
    let path = args.folder.join("batch.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let data: Data = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let decoder = Decoder::new(folder.config().clone())?;
    for precision in [Precision::F32, Precision::Int16, Precision::Bf16] {
        let (loss, grads) = gradients(&cpu, precision, &decoder, &params, &data)?;
        let mut errors: Vec<(&str, f64)> = Vec::new();
        for (index, spec) in layout.specs().iter().enumerate() {
            errors.push((&spec.name, error(grads.slice(index), expected.slice(index))));
        }
        errors.sort_by(|a, b| b.1.total_cmp(&a.1));
        if args.all {
            errors.iter().for_each(|(name, error)| {
                println!("{}", serde_json::json!({"precision": format!("{precision:?}"), "parameter": name, "error": error}));
            });
        }
        let spread = Spread::of(&errors.iter().map(|(_, error)| *error).collect::<Vec<_>>());
        let report = serde_json::json!({
            "precision": format!("{precision:?}"), "kernel_set": cpu.kernels.name(), "parameters": errors.len(),
            "median": spread.median, "worst": spread.max, "worst_parameter": errors[0].0,
            "loss": loss, "loss_error": loss / data.loss - 1.0,
        });
        println!("{report}");
    }
    Ok(())
}

/// Mean loss and gradients.
fn gradients(
    cpu: &Cpu,
    precision: Precision,
    decoder: &Decoder,
    params: &Parameters,
    data: &Data,
) -> anyhow::Result<(f64, Parameters)> {
    let count = data.ids.len();
    let rows: Vec<Range<usize>> =
        (0..count).step_by(data.length).map(|start| start..start + data.length).collect();
    let weights = vec![1.0; count];
    let pass = TrainPass { grad_scale: 1.0 / count as f32, dropout_seed: 0, recompute: false };
    let mut grads = Parameters::zeros(params.layout().clone());
    let pair =
        (Batch { tokens: &data.ids, rows: &rows }, Targets { targets: &data.targets, weights: &weights });
    let loss = decoder.loss_and_gradients(
        Compute { cpu, precision },
        params,
        pair,
        pass,
        (&mut grads, &mut |_, _| {}),
    )?;
    Ok((loss.mean(), grads))
}

fn error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let apart: f64 = found.iter().zip(expected).map(|(f, e)| square(f64::from(*f) - f64::from(*e))).sum();
    (apart / expected.iter().map(|e| square(f64::from(*e))).sum::<f64>()).sqrt()
}
