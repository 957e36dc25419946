//! `shakti perplexity`: the held-out loss of a text.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shakti_engine::{KvType, LoadOptions};
use shakti_eval::{Document, Estimate, LossReport, WindowOptions, measure_divergence, measure_loss};

use crate::args::model::{CacheArgs, ModelFlag};
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Measure the loss of a model on a text: perplexity and bits per byte
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti perplexity -m out/quickstart/model-q8_0.gguf README.md")]
pub struct PerplexityArgs {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    cache: CacheArgs,
    /// A text file, taken as one document
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tokens seen at once [default: what the model was trained for]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// New tokens of each window after the first [default: half of the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Another model of the same vocabulary, such as the float one: also print the KL divergence
    /// from its predictions, which are made with keys and values as f32
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Seed of the 95% intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    loss: LossReport,
    windows: WindowOptions,
    /// Mean nats per token of KL(reference || model).
    #[serde(skip_serializing_if = "Option::is_none")]
    kl_divergence: Option<Estimate>,
}

/// Runs the command.
pub fn run(args: &PerplexityArgs, settings: &Settings) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.file)
        .context(format!("{}: cannot read the text", args.file.display()))?;
    let model = settings.open_model((&args.model.model, args.model.adapter.path()), args.cache.options())?;
    let default = WindowOptions::of(&model);
    let window = args.context.unwrap_or(default.window);
    let windows = WindowOptions { window, stride: args.stride.unwrap_or((window / 2).max(1)) };
    let ids = model.encode_text(&text)?;
    let documents = [Document { ids: &ids, scored_from: 1 }];
    let units = measure_loss(&model, &documents, windows)?;
    let loss = LossReport::new(&units, args.seed).context(args.file.display())?;
    let kl_divergence = match &args.reference {
        Some(path) => {
            let exact = LoadOptions { kv_type: KvType::F32, ..LoadOptions::default() };
            let reference = settings.open_model((path, None), exact)?;
            if reference.encode_text(&text)? != ids {
                return Err(Failure::bad_input(format!(
                    "{}: its vocabulary writes the text in other tokens",
                    path.display()
                )));
            }
            Some(measure_divergence((&model, &reference), &documents, windows, args.seed)?)
        }
        None => None,
    };
    let divergence =
        kl_divergence.map_or_else(String::new, |kl| format!("KL divergence  {kl} nats per token\n"));
    let text = format!(
        "{divergence}loss           {} nats per token\nperplexity     {}\nbits per byte  {}\n\
         {} tokens and {} bytes scored, context {window}, stride {}; 95% intervals over {} windows",
        loss.loss, loss.perplexity, loss.bits_per_byte, loss.tokens, loss.bytes, windows.stride, loss.loss.n
    );
    Ok(settings.output.result(&Report { loss, windows, kl_divergence }, text)?)
}
