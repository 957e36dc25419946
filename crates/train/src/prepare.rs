//! From a recipe to a trainer and its data: tokenizer, configuration, weights, token sources, packed batches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shakti_checkpoint::{FolderContents, HfFolder, load_parameters};
use shakti_data::{
    Batch, BatchLoader, BatchSettings, Corpus, CorpusSettings, MixturePart, Split, Targets, TokenSource,
    TokenizeReport, tokenize,
};
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{Layout, ModelConfig, Parameters, preset};

use crate::TrainError;
use crate::contamination::Contamination;
use crate::observer::{Event, Observer};
use crate::optimizer::OptimizerSettings;
use crate::recipe::{DataSection, Recipe, Stage};
use crate::text::Text;
use crate::trainer::{Trainer, TrainerSettings};

/// A run before its number of steps is fixed.
pub(crate) struct Prepared<'a> {
    pub trainer: Trainer<'a>,
    pub loader: BatchLoader,
    /// Held-out batches, the same ones each time.
    pub validation: Vec<Batch>,
    /// The tokenizer's files.
    pub files: FolderContents,
    /// Whether the tokenizer is the run's own.
    pub trained_tokenizer: bool,
    /// What the training records share with test sets and held-out records.
    pub contamination: Contamination,
}

impl Prepared<'_> {
    /// Fills a folder with the model in f32 and its tokenizer.
    pub(crate) fn write_model(&self, folder: &Path) -> Result<(), TrainError> {
        let trainer = &self.trainer;
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
    cpu: &'a Cpu,
    tokenizer: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Prepared<'a>, TrainError> {
    let start = recipe.model.from.as_ref().map(HfFolder::open).transpose()?;
    let mut corpus = scan(&recipe.data)?;
    observer.event(&Event::Scanned(corpus.report()));
    let contamination = Contamination::remove(&mut corpus, &recipe.data)?;
    observer.event(&Event::Contamination(&contamination));
    let trained_tokenizer = recipe.tokenizer.train.is_some();
    let named = tokenizer.or(recipe.tokenizer.path.as_deref()).or(recipe.model.from.as_deref());
    let text = match (&recipe.tokenizer.train, named) {
        (Some(training), None) => {
            let text = Text::train(&corpus, training.vocab_size)?;
            observer.event(&Event::TokenizerTrained { vocab_size: text.tokenizer().vocab_size() });
            text
        }
        (_, path) => Text::open(path.unwrap_or(Path::new("tokenizer.json")))?,
    };
    let config = configuration(recipe, start.as_ref(), &text)?;
    let data = tokens(recipe, &corpus, (&text, cpu), observer)?;
    let layout = Arc::new(Layout::new(&config));
    let params = match &start {
        Some(folder) => load_parameters(layout, folder)?,
        None => Parameters::init(&config, layout, recipe.train.seed),
    };
    let event = Event::Model {
        parameters: params.layout().num_elements(),
        kernel_set: cpu.kernels.name(),
        precision: recipe.train.precision.name(),
    };
    observer.event(&event);
    let trainer = Trainer::new(cpu, config, params, trainer_settings(recipe, cpu))?;
    let Data { loader, validation } = data;
    let files = text.files().clone();
    Ok(Prepared { trainer, loader, validation, files, trained_tokenizer, contamination })
}

fn trainer_settings(recipe: &Recipe, cpu: &Cpu) -> TrainerSettings {
    let train = &recipe.train;
    TrainerSettings {
        optimizer: OptimizerSettings::from(train),
        schedule: train.schedule(train.steps.unwrap_or(1), train.warmup_steps.unwrap_or(0)),
        peak_learning_rate: train.peak_learning_rate,
        precision: train.precision.precision(cpu),
        seed: train.seed,
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
fn configuration(recipe: &Recipe, start: Option<&HfFolder>, text: &Text) -> Result<ModelConfig, TrainError> {
    let model = &recipe.model;
    let mut config = match (start, &model.preset, &model.config) {
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
    let config = overridden(config, &model.overrides)?;
    if recipe.train.sequence_length > config.max_position_embeddings {
        let (found, limit) = (recipe.train.sequence_length, config.max_position_embeddings);
        let problem = format!("{found}, but max_position_embeddings of the model is {limit}");
        return Err(TrainError::Data { key: "train.sequence_length".into(), problem });
    }
    Ok(config)
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

/// Packed batches of both splits.
struct Data {
    loader: BatchLoader,
    validation: Vec<Batch>,
}

fn tokens(
    recipe: &Recipe,
    corpus: &Corpus,
    (text, cpu): (&Text, &Cpu),
    observer: &mut dyn Observer,
) -> Result<Data, TrainError> {
    let train = &recipe.train;
    let targets = match train.stage {
        Stage::Pretrain => Targets::All,
        Stage::Sft => Targets::Answers,
    };
    let shape = BatchSettings {
        sequence_length: train.sequence_length,
        batch_tokens: recipe.micro_batch_tokens(),
        seed: train.seed,
    };
    let (mut parts, mut validation) = (Vec::new(), Vec::new());
    for source in &recipe.data.sources {
        let name = source.path.display().to_string();
        let file = corpus.files().position(|path| path == source.path);
        let read =
            |split| tokenize(corpus.records(split, file), &text.encoder(), targets, cpu.pool.threads());
        let (tokens, report) = read(Split::Train)?;
        let mut held_out = TokenizeReport::default();
        if train.validation_tokens > 0 {
            let (tokens, report) = read(Split::Validation)?;
            held_out = report;
            let most = train.validation_tokens / recipe.data.sources.len();
            validation.extend(first_batches(&tokens, shape, most)?);
        }
        observer.event(&Event::Tokenized { source: &name, train: report, validation: held_out });
        let weight = source.weight.unwrap_or(report.tokens as f64);
        if report.tokens == 0 {
            return Err(TrainError::Data {
                key: "data.sources".into(),
                problem: format!("{name}: no training record"),
            });
        }
        parts.push(MixturePart { name, source: Arc::new(tokens), weight });
    }
    if validation.is_empty() && train.validation_tokens > 0 {
        let problem =
            "no record of any source is held out; raise it, or set train.validation_tokens to 0".into();
        return Err(TrainError::Data { key: "data.validation_share".into(), problem });
    }
    Ok(Data { loader: BatchLoader::new(parts, shape)?, validation })
}

/// Batches in the order of the source, up to `most` tokens but at least one.
fn first_batches(source: &TokenSource, shape: BatchSettings, most: usize) -> Result<Vec<Batch>, TrainError> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut tokens = 0;
    for batch in shakti_data::batches::one_epoch(source, shape)? {
        tokens += batch.tokens.len();
        if tokens > most && !batches.is_empty() {
            break;
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// Replaces the trainer's weights by those of a checkpoint.
pub(crate) fn load_weights(path: &Path, trainer: &mut Trainer<'_>) -> Result<(), TrainError> {
    let layout = trainer.params.layout().clone();
    trainer.params = load_parameters(layout, &HfFolder::open(path)?)?;
    Ok(())
}
