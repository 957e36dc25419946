//! Packed batches of texts and conversations.

use std::sync::Arc;

use shakti_data::{
    Batch, BatchLoader, BatchSettings, Corpus, MixturePart, Split, Targets, TokenSource, TokenizeReport,
    tokenize,
};
use shakti_kernels::Cpu;

use crate::TrainError;
use crate::objectives::{Objective, Supervised};
use crate::observer::{Event, Observer};
use crate::recipe::{Recipe, Stage};
use crate::text::Text;

/// Packed batches of both splits.
pub(super) fn objective(
    recipe: &Recipe,
    corpus: &Corpus,
    (text, cpu): (&Text, &Cpu),
    observer: &mut dyn Observer,
) -> Result<Box<dyn Objective>, TrainError> {
    let train = &recipe.train;
    let targets = if train.stage == Stage::Pretrain { Targets::All } else { Targets::Answers };
    let shape = shape(recipe);
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
    let micro_batches = train.batch_tokens / recipe.micro_batch_tokens();
    Ok(Box::new(Supervised::new(BatchLoader::new(parts, shape)?, micro_batches, validation)))
}

/// How batches are cut.
pub(super) fn shape(recipe: &Recipe) -> BatchSettings {
    BatchSettings {
        sequence_length: recipe.train.sequence_length,
        batch_tokens: recipe.micro_batch_tokens(),
        seed: recipe.train.seed,
    }
}

/// Batches in the order of the source, up to `most` tokens but at least one.
pub(super) fn first_batches(
    source: &TokenSource,
    shape: BatchSettings,
    most: usize,
) -> Result<Vec<Batch>, TrainError> {
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
