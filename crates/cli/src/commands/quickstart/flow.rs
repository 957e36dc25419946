//! What a quickstart does between its data and its report: training, merging, quantizing, measuring.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use shakti_checkpoint::{Merged, ModelFile, Overwrite, read_adapter};
use shakti_data::cleaning::PiiReport;
use shakti_engine::{LoadOptions, Model, Network};
use shakti_kernels::Cpu;
use shakti_model::{Cost, Layout, ModelConfig, Parameters, TensorSource};
use shakti_quant::FileType;
use shakti_tokenizer::Tokenizer;
use shakti_train::{Outcome, Pace, Recipe, RunSettings, Start};

use super::data::HeldOut;
use super::files::Files;
use super::measure::Measured;
use super::recipes::{self, Chain, Tuning};
use super::{FORMATS, Folder, Stage, Summary};
use crate::commands::quantize::{Request, write_tensors};
use crate::commands::train::Progress;
use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::settings::Settings;

/// What every stage needs.
pub struct Flow<'a> {
    pub settings: &'a Settings,
    pub cpu: Arc<Cpu>,
    pub clock: Clock,
    pub out: Folder,
}

/// A model to be tuned.
pub struct Base<'a> {
    path: &'a Path,
    file: ModelFile,
    model: Arc<Model>,
    tuning: Tuning,
}

impl<'a> Base<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// What is wrong with it; no chat template: its answers could not be measured; a GGUF file of which all weights are
    /// to be trained.
    pub fn open(path: &'a Path, tuning: Tuning, settings: &Settings) -> Result<Self, Failure> {
        let model = settings.open_model((path, None), LoadOptions::default())?;
        if !model.has_chat_template() {
            let problem = format!("{}: no chat template, expected a model that answers", path.display());
            return Err(Failure::bad_input(problem));
        }
        let file = ModelFile::open(path)?;
        if let (Tuning::Full, ModelFile::Gguf(_)) = (tuning, &file) {
            let problem = format!(
                "{}: --full needs a checkpoint folder: a GGUF file has no tokenizer.json for the folder that is written",
                path.display()
            );
            return Err(Failure::bad_input(problem).hint("without --full an adapter is trained beside it"));
        }
        Ok(Self { path, file, model, tuning })
    }
}

/// A file of one type.
type Format = (FileType, PathBuf);

/// A model and what the report calls it.
type Named = (&'static str, Arc<Model>);

/// A finished training run.
pub struct Trained {
    /// What it made of the model: `pretrained` or `fine-tuned`.
    name: &'static str,
    folder: PathBuf,
    run: PathBuf,
}

impl Trained {
    /// The log of the run.
    pub fn log(&self) -> Result<Vec<shakti_train::LogLine>, Failure> {
        let path = self.run.join(shakti_train::LOG_FILE);
        let text =
            std::fs::read_to_string(&path).context(format!("{}: cannot read the log", path.display()))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

impl Flow<'_> {
    /// Counts what looks like personal data and says what to do about it.
    pub fn personal_data(&self, files: &Files) -> Result<PiiReport, Failure> {
        let found = files.personal_data(self.settings.threads[0])?;
        let (with, records) = (found.total.found.records_with, found.total.records);
        if with > 0 {
            let line = format!("  {with} of {records} records hold what looks like personal data");
            self.settings.output.note(line + ": `shakti data pii` shows where, and replaces it");
        }
        Ok(found)
    }

    /// Begins with random weights: every training stage that the data allows; then formats and measurements.
    pub fn begin(
        &mut self,
        chain: Chain<'_>,
        held_out: &HeldOut,
    ) -> Result<(Vec<Trained>, Summary), Failure> {
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
        let last = trained.last().ok_or_else(|| Failure::internal("no stage was trained"))?;
        let source = ModelFile::open(&last.folder)?;
        let quantized = self.quantize((&source, &source))?;

        self.measuring();
        let mut model = Model::open(&trained[0].folder, self.cpu.clone())?;
        let measured = Measured::new(held_out, &model, output)?;
        let untrained = untrained(model.config(), model.tokenizer()?, &self.cpu)?;
        let mut stages = vec![measured.stage("untrained", &untrained, false)?];
        for stage in &trained {
            model = Model::open(&stage.folder, self.cpu.clone())?;
            stages.push(measured.stage(&format!("{} (f32)", stage.name), &model, true)?);
        }
        let name = last.name;
        let summary = self.summary((stages, &measured), name, &quantized)?;
        Ok((trained, summary))
    }

    /// Tunes a model that exists and merges what was learnt beside it; then formats and measurements.
    pub fn tune(
        &mut self,
        base: &Base<'_>,
        chain: Chain<'_>,
        held_out: &HeldOut,
    ) -> Result<(Vec<Trained>, Summary), Failure> {
        let output = self.settings.output;
        let learnt = if chain.files.chats.is_empty() { "texts" } else { "the answers of conversations" };
        if !chain.files.chats.is_empty() && !chain.files.texts.is_empty() {
            output.note("  texts are measured on, not learnt: there are conversations");
        }
        let trained = match base.tuning {
            Tuning::Adapter => "an adapter",
            Tuning::Full => "all weights",
        };
        output.note(format!("2/6 fine-tuning {trained} on {learnt}"));
        let recipe = chain.tune(base.path, base.tuning, base.file.config().max_position_embeddings);
        let trained = self.train("fine-tuned", recipe)?;
        self.clock.lap("fine-tuning");
        let (quantized, (name, tuned)) = match base.tuning {
            Tuning::Adapter => self.merge(base, &trained)?,
            Tuning::Full => self.reopen(&trained)?,
        };

        self.measuring();
        let mut measured = Measured::new(held_out, &base.model, output)?;
        let mut stages = vec![measured.base("base", &base.model)?];
        stages.push(measured.stage(name, &tuned, true)?);
        let mut summary = self.summary((stages, &measured), "fine-tuned", &quantized)?;
        summary.base = Some(base.path.to_path_buf());
        Ok((vec![trained], summary))
    }

    /// The formats of a base with its adapter merged, and the base with the adapter beside it.
    fn merge(&mut self, base: &Base<'_>, trained: &Trained) -> Result<(Vec<Format>, Named), Failure> {
        self.settings.output.note("3/6 merging it into the weights");
        let adapter = read_adapter(&trained.folder, base.file.config())?;
        let cpu = self.cpu.clone();
        let merged = Merged::new(base.file.config(), &base.file, &adapter, &cpu);
        let quantized = self.quantize((&base.file, &merged))?;
        let both = (base.path, Some(trained.folder.as_path()));
        Ok((quantized, ("base with adapter", self.settings.open_model(both, LoadOptions::default())?)))
    }

    /// The formats of a base all of whose weights were trained, and those weights.
    fn reopen(&mut self, trained: &Trained) -> Result<(Vec<Format>, Named), Failure> {
        self.settings.output.note("3/6 nothing to merge: the weights themselves were trained");
        let source = ModelFile::open(&trained.folder)?;
        let quantized = self.quantize((&source, &source))?;
        let tuned = self.settings.open_model((&trained.folder, None), LoadOptions::default())?;
        Ok((quantized, ("fine-tuned (f32)", tuned)))
    }

    fn measuring(&self) {
        self.settings.output.note("5/6 measuring on held-out texts and questions");
    }

    fn train(&self, name: &'static str, recipe: Recipe) -> Result<Trained, Failure> {
        let interrupt = Listener::new();
        let run = recipe.output.dir.clone();
        let stage = recipe.train.stage;
        let stop = || interrupt.requested();
        let pace = Pace::default();
        let settings =
            RunSettings { recipe, cpu: &self.cpu, start: Start::New, stop: &stop, pace, ranks: None };
        let mut progress = Progress::new(self.settings.output);
        let outcome: Outcome = shakti_train::train(settings, stage, &mut progress)?;
        match outcome.model {
            Some(folder) => Ok(Trained { name, folder, run }),
            None => Err(Failure::interrupted(format!("the run in {} can be resumed", run.display()))),
        }
    }

    /// Writes every format of a model whose weights may be others than its file's.
    fn quantize(
        &mut self,
        (source, tensors): (&ModelFile, &dyn TensorSource),
    ) -> Result<Vec<Format>, Failure> {
        self.settings.output.note("4/6 quantization to int8, int5 and int4");
        let made = FORMATS.map(|name| -> Result<_, Failure> {
            let kind: FileType = name.parse()?;
            let path = self.out.path.join(format!("model-{name}.gguf"));
            let request = Request::of_type(kind).requantizing();
            write_tensors(&self.cpu, (source, tensors), &request, (&path, Overwrite::Refuse))?;
            Ok((kind, path))
        });
        self.clock.lap("quantization");
        made.into_iter().collect()
    }

    /// Measures the formats too, asks the last one three questions, and sums up.
    fn summary(
        &mut self,
        (mut stages, measured): (Vec<Stage>, &Measured<'_>),
        name: &str,
        quantized: &[Format],
    ) -> Result<Summary, Failure> {
        let mut last = None;
        for (kind, path) in quantized {
            let model = Model::open(path, self.cpu.clone())?;
            stages.push(measured.stage(&format!("{name}, {kind}"), &model, true)?);
            last = Some(model);
        }
        let last = last.ok_or_else(|| Failure::internal("no format was written"))?;
        let parameters = Cost::new(last.config()).parameters;
        let baselines = measured.baselines()?;
        let answers = measured.answer_three(&last)?;
        self.clock.lap("measuring");
        Ok(Summary {
            out: self.out.path.clone(),
            base: None,
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
pub struct Clock {
    start: Instant,
    last: Instant,
    laps: Vec<(String, f64)>,
}

impl Clock {
    /// Starts now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { start: now, last: now, laps: Vec::new() }
    }

    /// Ends a stage.
    pub fn lap(&mut self, name: &str) {
        self.laps.push((name.into(), self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}
