//! From a recipe to a trainer and its data: tokenizer, configuration, weights, token sources, packed batches.

mod distill;
mod preferences;
mod rollouts;
mod supervised;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shakti_checkpoint::{FolderContents, HfFolder, ModelFile, load_parameters};
use shakti_data::{Corpus, CorpusSettings};
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{
    Adapter, Heads, Layout, ModelConfig, ModelError, PackedWeights, Parameters, TensorSource, preset,
};

use crate::TrainError;
use crate::contamination::Contamination;
use crate::learner::Frozen;
use crate::objectives::Objective;
use crate::observer::{Event, Observer};
use crate::optimizer::OptimizerSettings;
use crate::qat::Grid;
use crate::recipe::{DataSection, LoraSection, Recipe, Stage};
use crate::run_folder::{ADAPTER_FOLDER, MODEL_FOLDER};
use crate::text::Text;
use crate::trainer::{Trainer, TrainerSettings};

/// A run before its number of steps is fixed.
pub(crate) struct Prepared<'a> {
    pub trainer: Trainer<'a>,
    /// What it learns, and from what.
    pub objective: Box<dyn Objective>,
    /// The tokenizer's files.
    pub files: FolderContents,
    /// Whether the tokenizer is the run's own.
    pub trained_tokenizer: bool,
    /// What the training records share with test sets and held-out records.
    pub contamination: Contamination,
    /// `model.from`.
    base: Option<PathBuf>,
}

impl Prepared<'_> {
    /// The name of the folder that [`Prepared::write_model`] fills at the end.
    pub(crate) fn output_name(&self) -> &'static str {
        if self.trainer.adapter().is_some() { ADAPTER_FOLDER } else { MODEL_FOLDER }
    }

    /// Fills a folder with the model in f32 and its tokenizer, or with the adapter.
    pub(crate) fn write_model(&self, folder: &Path) -> Result<(), TrainError> {
        let trainer = &self.trainer;
        if let Some(adapter) = trainer.adapter() {
            let base = self.base.as_deref().unwrap_or(Path::new("")).display().to_string();
            return Ok(shakti_checkpoint::fill_adapter_folder(folder, adapter, &base)?);
        }
        Ok(shakti_checkpoint::fill_folder(
            folder,
            trainer.config(),
            trainer.params(),
            DType::F32,
            &self.files,
        )?)
    }
}

/// Reads everything that the recipe names. `tokenizer` is the one that an earlier start of the run trained.
pub(crate) fn prepare<'a>(
    recipe: &Recipe,
    cpu: &'a Arc<Cpu>,
    tokenizer: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Prepared<'a>, TrainError> {
    let start = recipe.model.from.as_ref().map(ModelFile::open).transpose()?.map(Arc::new);
    let mut corpus = scan(&recipe.data)?;
    observer.event(&Event::Scanned(corpus.report()));
    let contamination = Contamination::remove(&mut corpus, &recipe.data)?;
    observer.event(&Event::Contamination(&contamination));
    let trained_tokenizer = recipe.tokenizer.train.is_some();
    let named = tokenizer.or(recipe.tokenizer.path.as_deref());
    let text = match (&recipe.tokenizer.train, named, &start) {
        (Some(training), None, _) => {
            let text = Text::train(&corpus, training.vocab_size)?;
            observer.event(&Event::TokenizerTrained { vocab_size: text.tokenizer().vocab_size() });
            text
        }
        (_, None, Some(model)) => Text::of_model(model)?,
        (_, path, _) => Text::open(path.unwrap_or(Path::new("tokenizer.json")))?,
    };
    check_files(recipe, &text)?;
    let config = configuration(recipe, start.as_deref(), &text)?;
    let objective = match recipe.train.stage {
        Stage::Pretrain | Stage::Sft => supervised::objective(recipe, &corpus, (&text, cpu), observer)?,
        Stage::Dpo | Stage::Reward => preferences::objective(recipe, &corpus, (&text, cpu), observer)?,
        Stage::Distill => match recipe.distill.as_ref().filter(|distill| !distill.on_policy) {
            Some(section) => distill::objective((recipe, section), &corpus, (&text, cpu))?,
            None => rollouts::objective(recipe, &corpus, (&text, cpu), observer)?,
        },
        Stage::Ppo | Stage::Grpo => rollouts::objective(recipe, &corpus, (&text, cpu), observer)?,
    };
    let trainer = trainer(recipe, cpu, config, start)?;
    let trainer = match &recipe.qat {
        Some(qat) => {
            let config = trainer.config().clone();
            let layout = Arc::new(Layout::new(&config));
            let grid = Grid::new(&config, layout, &qat.file_types(), recipe.train.seed);
            trainer.train_on(grid)?
        }
        None => trainer,
    };
    let event = Event::Model {
        parameters: Layout::new(trainer.config()).num_elements(),
        trained: trainer.params().layout().num_elements(),
        kernel_set: cpu.kernels.name(),
        precision: recipe.train.precision.name(),
    };
    observer.event(&event);
    let (files, base) = (text.files().clone(), recipe.model.from.clone());
    Ok(Prepared { trainer, objective, files, trained_tokenizer, contamination, base })
}

/// A finished model needs the tokenizer's files, an adapter does not.
fn check_files(recipe: &Recipe, text: &Text) -> Result<(), TrainError> {
    if recipe.lora.is_some() || text.files().tokenizer_json.is_some() {
        return Ok(());
    }
    let problem = "a GGUF file has no tokenizer.json for the folder that is written; name one, or train an \
                   adapter with a section [lora]";
    Err(TrainError::Data { key: "tokenizer.path".into(), problem: problem.into() })
}

/// The model that the recipe names, ready to be trained, or an adapter beside it.
fn trainer<'a>(
    recipe: &Recipe,
    cpu: &'a Cpu,
    config: ModelConfig,
    start: Option<Arc<ModelFile>>,
) -> Result<Trainer<'a>, TrainError> {
    let settings = trainer_settings(recipe, cpu);
    if let (Some(lora), Some(start)) = (&recipe.lora, &start) {
        let both = adapter(lora, &config, start, cpu)?;
        let mut trainer = Trainer::of_adapter(cpu, config, both, settings)?;
        trainer.keep_source(start.clone());
        return Ok(trainer);
    }
    let layout = Arc::new(Layout::new(&config));
    let params = match &start {
        Some(model) if model.config().heads != config.heads => other_heads(layout, &config, model)?,
        Some(model) => load_parameters(layout, &**model)?,
        None => Parameters::init(&config, layout, recipe.train.seed),
    };
    Trainer::new(cpu, config, params, settings)
}

/// The weights of a model under other heads: a new one begins at zero, one that is not there any more is left out.
fn other_heads(
    layout: Arc<Layout>,
    config: &ModelConfig,
    model: &ModelFile,
) -> Result<Parameters, TrainError> {
    let theirs = load_parameters(Arc::new(Layout::new(model.config())), model)?;
    let mut params = Parameters::init(config, layout, 0);
    for spec in config.parameters() {
        if let Some(values) = theirs.get(&spec.name) {
            params.set(&spec.name, values)?;
        }
    }
    Ok(params)
}

/// A new adapter, and the weights of the file, which stay where they are.
fn adapter(
    lora: &LoraSection,
    config: &ModelConfig,
    start: &Arc<ModelFile>,
    cpu: &Cpu,
) -> Result<(Frozen, Adapter), TrainError> {
    let source: Arc<dyn TensorSource + Send + Sync> = start.clone();
    let base = Frozen::Packed(Box::new(PackedWeights::load_as_stored(config, &source, cpu)?));
    let adapter = Adapter::init(config, lora.config(), lora.seed, (cpu, &base.weights()))?;
    Ok((base, adapter))
}

fn trainer_settings(recipe: &Recipe, cpu: &Cpu) -> TrainerSettings {
    let train = &recipe.train;
    TrainerSettings {
        optimizer: OptimizerSettings::from(train),
        schedule: train.schedule(train.steps.unwrap_or(1), train.warmup_steps.unwrap_or(0)),
        peak_learning_rate: train.peak_learning_rate,
        precision: train.precision.precision(cpu),
        seed: train.seed,
        recompute: train.recompute,
    }
}

/// Splits all files of the chain of stages at once.
fn scan(data: &DataSection) -> Result<Corpus, TrainError> {
    let mut settings = CorpusSettings {
        seed: data.split_seed,
        validation: data.validation_share,
        test: data.test_share,
        ..CorpusSettings::default()
    };
    if let Some(fields) = &data.document_fields {
        settings.reader.document_fields.clone_from(fields);
    }
    let paths: Vec<&Path> = data
        .sources
        .iter()
        .map(|source| &source.path)
        .chain(&data.split_with)
        .map(PathBuf::as_path)
        .collect();
    Ok(Corpus::scan(&paths, &settings)?)
}

/// The configuration that the recipe names, with its overrides, for this tokenizer.
fn configuration(recipe: &Recipe, start: Option<&ModelFile>, text: &Text) -> Result<ModelConfig, TrainError> {
    let model = &recipe.model;
    let mut config = match (start, &model.preset, &model.config) {
        _ if model.size.is_some() => sized(&model.overrides, text.tokenizer().vocab_size())?,
        (Some(folder), _, _) => folder.config().clone(),
        (None, Some(name), _) => preset(name)?,
        (None, None, path) => {
            let path = path.as_deref().unwrap_or(Path::new(""));
            let json = std::fs::read_to_string(path).map_err(TrainError::file(path, "read"))?;
            ModelConfig::from_json(&json)?
        }
    };
    let tokenizer = text.tokenizer();
    if start.is_none() {
        config.vocab_size = tokenizer.vocab_size();
        let special = tokenizer.special_ids();
        config.bos_token_id = special.bos;
        config.pad_token_id = special.pad;
        config.eos_token_ids = tokenizer.stop_ids();
    } else if tokenizer.vocab_size() > config.vocab_size {
        let problem = format!("{} ids, but the model knows {}", tokenizer.vocab_size(), config.vocab_size);
        return Err(TrainError::Data { key: "tokenizer.path".into(), problem });
    }
    let mut config = overridden(config, &model.overrides)?;
    if config.heads == Heads::Score && recipe.train.stage != Stage::Reward {
        return Err(ModelError::RewardModel.into());
    }
    if !recipe.train.stage.is_supervised() {
        // Log-probabilities before and after a step must differ by the step alone.
        config.hidden_dropout = 0.0;
    }
    config.heads = match recipe.train.stage {
        Stage::Reward => Heads::Score,
        Stage::Ppo => Heads::Both,
        _ => Heads::Vocabulary,
    };
    if recipe.train.sequence_length > config.max_position_embeddings {
        let (found, limit) = (recipe.train.sequence_length, config.max_position_embeddings);
        let problem = format!("{found}, but max_position_embeddings of the model is {limit}");
        return Err(TrainError::Data { key: "train.sequence_length".into(), problem });
    }
    Ok(config)
}

/// The shape that `model.size` came to; the recipe's overrides hold all of it.
fn sized(overrides: &toml::Table, vocab_size: usize) -> Result<ModelConfig, TrainError> {
    let problem = |problem: String| TrainError::Data { key: "model.overrides".into(), problem };
    let mut keys = serde_json::to_value(overrides).map_err(|error| problem(error.to_string()))?;
    keys["vocab_size"] = vocab_size.into();
    Ok(ModelConfig::from_json(&keys.to_string())?)
}

/// Replaces keys of `config.json`.
fn overridden(config: ModelConfig, overrides: &toml::Table) -> Result<ModelConfig, TrainError> {
    if overrides.is_empty() {
        return Ok(config);
    }
    let problem = |problem: String| TrainError::Data { key: "model.overrides".into(), problem };
    let mut keys: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&config.to_json()).map_err(|error| problem(error.to_string()))?;
    for (key, value) in overrides {
        let value = serde_json::to_value(value).map_err(|error| problem(format!("`{key}`: {error}")))?;
        keys.insert(key.clone(), value);
    }
    Ok(ModelConfig::from_json(&serde_json::Value::Object(keys).to_string())?)
}

/// Replaces what is trained by what a checkpoint holds.
pub(crate) fn load_weights(path: &Path, trainer: &mut Trainer<'_>) -> Result<(), TrainError> {
    let Some(adapter) = trainer.adapter() else {
        let layout = trainer.params().layout().clone();
        return trainer.set_params(&load_parameters(layout, &HfFolder::open(path)?)?);
    };
    let saved = shakti_checkpoint::read_adapter(path, trainer.config())?;
    if saved.config() != adapter.config() {
        let problem = format!("adapter {:?}, expected {:?}", saved.config(), adapter.config());
        return Err(TrainError::checkpoint(path, problem));
    }
    trainer.set_params(saved.params())
}

/// Replaces what is trained by the mean of what checkpoints hold, each sum in their order.
pub(crate) fn load_mean(paths: &[PathBuf], cpu: &Cpu, trainer: &mut Trainer<'_>) -> Result<(), TrainError> {
    let mut sum = Parameters::zeros(trainer.params().layout().clone());
    for path in paths {
        load_weights(path, trainer)?;
        cpu.add(&mut sum.data, &trainer.params().data);
    }
    if paths.len() > 1 {
        cpu.scale(&mut sum.data, 1.0 / paths.len() as f32);
    }
    trainer.set_params(&sum)
}
