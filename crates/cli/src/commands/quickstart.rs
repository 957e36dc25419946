//! `shakti quickstart`: from text to a quantized assistant, measured at every stage, on data inside this binary or on the
//! user's own.

mod data;
mod files;
mod flow;
mod measure;
mod page;
mod recipes;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::files::create_folder;

use self::data::HeldOut;
use self::files::Files;
use self::flow::{Base, Clock, Flow, Trained};
use self::measure::{Baselines, Measurement};
use self::recipes::{Chain, Tuning};
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Train a small assistant from text to chat on this machine, offline, and report what it can do
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti quickstart --out out/quickstart\n  shakti quickstart --data letters/ --out out/letters\n  shakti quickstart \
     --data letters/ --base model-q4_0.gguf --out out/letters\n  shakti quickstart --data letters/ --base checkpoint/ --full --out out/letters"
)]
pub struct QuickstartArgs {
    /// Train on the texts and conversations in this folder (.txt, .jsonl, .ndjson, .json, also .gz and .zst) instead of
    /// the medical ones that this program carries
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Tune this model with an adapter (LoRA) instead of training one from nothing: a GGUF file or a Hugging Face folder of
    /// the Llama layout
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Train all weights of the base, which must be a folder, instead of an adapter
    #[arg(long, requires = "base")]
    full: bool,
    /// Folder for data, runs, models and report
    #[arg(long, value_name = "DIR", default_value = "out/quickstart")]
    out: PathBuf,
    /// Minutes of training, both stages together; the whole takes about a minute and a half more
    #[arg(long, value_name = "MINUTES", default_value_t = 4.2)]
    minutes: f64,
    /// Replace what an earlier quickstart wrote into the folder
    #[arg(long)]
    force: bool,
}

/// Formats that are made and measured: int8, int5, int4.
const FORMATS: [&str; 3] = ["q8_0", "q5_0", "q4_0"];

/// A stage or format with what was measured of it.
#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    /// Bytes of the file or folder's weights.
    weight_bytes: u64,
    #[serde(flatten)]
    measured: Measurement,
}

/// Everything the report tells.
#[derive(Debug, Serialize)]
struct Summary {
    out: PathBuf,
    /// The model that was tuned.
    base: Option<PathBuf>,
    /// Of the model.
    parameters: u64,
    seconds: Vec<(String, f64)>,
    total_seconds: f64,
    peak_memory_bytes: Option<u64>,
    kernel_set: String,
    threads: usize,
    stages: Vec<Stage>,
    baselines: Baselines,
    answers: Vec<Answered>,
}

/// A held-out question and what was said.
#[derive(Debug, Serialize)]
struct Answered {
    question: String,
    reference: String,
    answer: String,
}

/// Runs the command.
pub fn run(args: &QuickstartArgs, settings: &Settings) -> Result<(), Failure> {
    if !(args.minutes > 0.0 && args.minutes.is_finite()) {
        return Err(Failure::bad_input(format!("--minutes is {}, expected a positive number", args.minutes)));
    }
    let output = settings.output;
    let own = args.data.as_deref().map(|folder| Files::find(folder, output)).transpose()?;
    let tuning = if args.full { Tuning::Full } else { Tuning::Adapter };
    let base = args.base.as_deref().map(|path| Base::open(path, tuning, settings)).transpose()?;
    let mut inputs = own.as_ref().map(Files::all).unwrap_or_default();
    inputs.extend(args.base.as_deref());
    let out = Folder::prepare(&args.out, args.force, &inputs)?;
    let mut flow = Flow { settings, cpu: settings.cpu(), clock: Clock::new(), out };

    output.note("1/6 data: split by source document, before any stage");
    let personal_data = own.as_ref().map(|files| flow.personal_data(files)).transpose()?;
    let files = own.map_or_else(|| Files::unpack(&flow.out.path.join(DATA_FOLDER)), Ok)?;
    let held_out = HeldOut::scan(&files, &output)?;
    flow.clock.lap("data");

    let out = flow.out.path.clone();
    let chain = Chain { out: &out, files: &files, minutes: args.minutes };
    let (trained, summary) = match &base {
        Some(base) => flow.tune(base, chain, &held_out)?,
        None => flow.begin(chain, &held_out)?,
    };
    output.note("6/6 report");
    let logs = trained.iter().map(Trained::log).collect::<Result<Vec<_>, _>>()?;
    let sources = page::Sources { held_out: &held_out, personal_data: personal_data.as_ref() };
    page::write(&summary, sources, &logs, &flow.out.path)?;
    output.result(&summary, page::closing(&summary))?;
    Ok(())
}

/// The output folder.
struct Folder {
    path: PathBuf,
}

/// Where the data of this binary is unpacked; no name that a user's own folder is likely to have.
const DATA_FOLDER: &str = "quickstart-data";

/// What a quickstart writes, and all that `--force` deletes.
const OWN_ENTRIES: [&str; 14] = [
    DATA_FOLDER,
    Tuning::Adapter.run(),
    Tuning::Full.run(),
    "pretrain",
    "sft",
    "model-q8_0.gguf",
    "model-q5_0.gguf",
    "model-q4_0.gguf",
    "report.md",
    "report.html",
    "summary.json",
    "loss.svg",
    "bits.svg",
    "overlap.svg",
];

impl Folder {
    /// Makes the folder, without what an earlier quickstart left there. No input may lie among that.
    fn prepare(path: &Path, force: bool, inputs: &[&Path]) -> Result<Self, Failure> {
        let present: Vec<PathBuf> =
            OWN_ENTRIES.iter().map(|name| path.join(name)).filter(|path| path.exists()).collect();
        for input in inputs {
            let whole = |path: &Path| path.canonicalize().context(format!("{}: cannot read", path.display()));
            let input = whole(input)?;
            for entry in &present {
                if input.starts_with(whole(entry)?) {
                    let problem = format!("{}: lies in {}, which --out", input.display(), entry.display());
                    return Err(Failure::bad_input(problem + " would replace").hint("choose another --out"));
                }
            }
        }
        if let (Some(first), false) = (present.first(), force) {
            let message = format!("{}: exists already", first.display());
            return Err(Failure::bad_input(message)
                .hint("choose another folder with --out, or replace it with --force"));
        }
        for old in present {
            let removed =
                if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
            removed.context(format!("{}: cannot remove", old.display()))?;
        }
        create_folder(path)?;
        Ok(Self { path: path.to_path_buf() })
    }
}
