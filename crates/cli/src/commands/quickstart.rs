//! `shakti quickstart`: from text to a quantized assistant, measured at every stage, on data inside this binary or on the
//! user's own.

mod data;
mod files;
mod measure;
mod page;
mod recipes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::files::create_folder;
use shakti_checkpoint::{ModelFile, Overwrite};
use shakti_data::cleaning::PiiReport;
use shakti_engine::{Model, Network};
use shakti_kernels::Cpu;
use shakti_model::{Cost, Layout, ModelConfig, Parameters};
use shakti_quant::FileType;
use shakti_tokenizer::Tokenizer;
use shakti_train::{Outcome, Recipe, RunSettings, Start};

use self::data::HeldOut;
use self::files::Files;
use self::measure::{Baselines, Measured, Measurement};
use self::recipes::Chain;
use super::quantize::{Request, write_gguf};
use super::train::Progress;
use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::settings::Settings;

/// Train a small assistant from text to chat on this machine, offline, and report what it can do
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti quickstart --out out/quickstart\n  shakti quickstart --data letters/ --out out/letters"
)]
pub struct QuickstartArgs {
    /// Train on the texts and conversations in this folder (.txt, .jsonl, .ndjson, .json, also .gz and .zst) instead of
    /// the medical ones that this program carries
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
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
    let inputs = own.as_ref().map(Files::all).unwrap_or_default();
    let out = Folder::prepare(&args.out, args.force, &inputs)?;
    let mut flow = Flow { settings, cpu: settings.cpu(), clock: Clock::new(), out };

    output.note("1/6 data: split by source document, before any stage");
    let personal_data = own.as_ref().map(|files| flow.personal_data(files)).transpose()?;
    let files = own.map_or_else(|| Files::unpack(&flow.out.path.join(DATA_FOLDER)), Ok)?;
    let held_out = HeldOut::scan(&files, &output)?;
    flow.clock.lap("data");

    let trained =
        flow.train_all(Chain { out: &flow.out.path.clone(), files: &files, minutes: args.minutes })?;
    let last = trained.last().ok_or_else(|| Failure::internal("no stage was trained"))?;
    output.note("4/6 quantization to int8, int5 and int4");
    let quantized = flow.quantize(&last.folder)?;
    flow.clock.lap("quantization");

    output.note("5/6 measuring on held-out texts and questions");
    let summary = flow.measure(&held_out, &trained, &quantized)?;
    output.note("6/6 report");
    let logs = trained.iter().map(Trained::log).collect::<Result<Vec<_>, _>>()?;
    let sources = page::Sources { held_out: &held_out, personal_data: personal_data.as_ref() };
    page::write(&summary, sources, &logs, &flow.out.path)?;
    output.result(&summary, page::closing(&summary))?;
    Ok(())
}

/// What every stage needs.
struct Flow<'a> {
    settings: &'a Settings,
    cpu: Arc<Cpu>,
    clock: Clock,
    out: Folder,
}

/// A finished training run.
struct Trained {
    /// What it made of the model: `pretrained` or `fine-tuned`.
    name: &'static str,
    folder: PathBuf,
    run: PathBuf,
}

impl Trained {
    fn log(&self) -> Result<Vec<shakti_train::LogLine>, Failure> {
        let path = self.run.join(shakti_train::LOG_FILE);
        let text =
            std::fs::read_to_string(&path).context(format!("{}: cannot read the log", path.display()))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

impl Flow<'_> {
    /// Counts what looks like personal data and says what to do about it.
    fn personal_data(&self, files: &Files) -> Result<PiiReport, Failure> {
        let found = files.personal_data(self.settings.threads[0])?;
        let (with, records) = (found.total.found.records_with, found.total.records);
        if with > 0 {
            let line = format!("  {with} of {records} records hold what looks like personal data");
            self.settings.output.note(line + ": `shakti data pii` shows where, and replaces it");
        }
        Ok(found)
    }

    /// Every training stage that the data allows, in order.
    fn train_all(&mut self, chain: Chain<'_>) -> Result<Vec<Trained>, Failure> {
        let output = self.settings.output;
        output.note("2/6 tokenizer and pretraining");
        let mut trained = vec![self.train("pretrained", chain.pretrain())?];
        self.clock.lap("tokenizer and pretraining");
        if chain.files.chats.is_empty() {
            output.note("3/6 no conversations to fine-tune on: the model will continue texts, not answer");
        } else {
            output.note("3/6 fine-tuning on the answers of conversations");
            trained.push(self.train("fine-tuned", chain.sft(&trained[0].folder))?);
            self.clock.lap("fine-tuning");
        }
        Ok(trained)
    }

    fn train(&self, name: &'static str, recipe: Recipe) -> Result<Trained, Failure> {
        let interrupt = Listener::new();
        let run = recipe.output.dir.clone();
        let stage = recipe.train.stage;
        let stop = || interrupt.requested();
        let settings = RunSettings { recipe, cpu: &self.cpu, start: Start::New, stop: &stop, ranks: None };
        let mut progress = Progress::new(self.settings.output);
        let outcome: Outcome = match stage {
            shakti_train::Stage::Pretrain => shakti_train::pretrain(settings, &mut progress)?,
            shakti_train::Stage::Sft => shakti_train::sft(settings, &mut progress)?,
        };
        match outcome.model {
            Some(folder) => Ok(Trained { name, folder, run }),
            None => Err(Failure::interrupted(format!("the run in {} can be resumed", run.display()))),
        }
    }

    fn quantize(&self, folder: &Path) -> Result<Vec<(FileType, PathBuf)>, Failure> {
        let source = ModelFile::open(folder)?;
        let made = FORMATS.map(|name| -> Result<_, Failure> {
            let kind: FileType = name.parse()?;
            let path = self.out.path.join(format!("model-{name}.gguf"));
            let request = Request::of_type(kind);
            write_gguf(&self.cpu, &source, &request, (&path, Overwrite::Refuse))?;
            Ok((kind, path))
        });
        made.into_iter().collect()
    }

    fn measure(
        &mut self,
        held_out: &HeldOut,
        trained: &[Trained],
        quantized: &[(FileType, PathBuf)],
    ) -> Result<Summary, Failure> {
        let mut stages = Vec::new();
        let mut model = Model::open(&trained[0].folder, self.cpu.clone())?;
        let untrained = untrained(model.config(), model.tokenizer()?, &self.cpu)?;
        let measured = Measured::new(held_out, &model, self.settings.output)?;
        stages.push(measured.stage("untrained", &untrained, false)?);
        for stage in trained {
            model = Model::open(&stage.folder, self.cpu.clone())?;
            stages.push(measured.stage(&format!("{} (f32)", stage.name), &model, true)?);
        }
        let parameters = Cost::new(model.config()).parameters;
        let name = trained.last().map_or("", |stage| stage.name);
        let mut last = model;
        for (kind, path) in quantized {
            last = Model::open(path, self.cpu.clone())?;
            stages.push(measured.stage(&format!("{name}, {kind}"), &last, true)?);
        }
        let baselines = measured.baselines()?;
        let answers = measured.answer_three(&last)?;
        self.clock.lap("measuring");
        Ok(Summary {
            out: self.out.path.clone(),
            parameters,
            seconds: self.clock.laps.clone(),
            total_seconds: self.clock.start.elapsed().as_secs_f64(),
            peak_memory_bytes: shakti_measure::peak_memory_bytes(),
            kernel_set: self.cpu.kernels.name().into(),
            threads: self.cpu.pool.threads(),
            stages,
            baselines,
            answers,
        })
    }
}

/// The model before its first step: the same initial weights that the run began with.
fn untrained(config: &ModelConfig, tokenizer: &Arc<Tokenizer>, cpu: &Arc<Cpu>) -> Result<Model, Failure> {
    let params = Parameters::init(config, Arc::new(Layout::new(config)), recipes::SEED);
    let network = Network::load(config.clone(), &params, cpu.clone())?;
    Ok(Model::new(Arc::new(network), tokenizer.clone())?)
}

/// Wall time of each stage.
struct Clock {
    start: Instant,
    last: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self { start: now, last: now, laps: Vec::new() }
    }

    fn lap(&mut self, name: &str) {
        self.laps.push((name.into(), self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}

/// The output folder.
struct Folder {
    path: PathBuf,
}

/// Where the data of this binary is unpacked; no name that a user's own folder is likely to have.
const DATA_FOLDER: &str = "quickstart-data";

/// What a quickstart writes, and all that `--force` deletes.
const OWN_ENTRIES: [&str; 12] = [
    DATA_FOLDER,
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
