//! Batches of both splits, and the teacher that says something of them.

use std::sync::Arc;

use shakti_checkpoint::{ModelFile, TokenizerSource};
use shakti_data::{Batch, Corpus, Shuffled, Split, Targets, tokenize};
use shakti_engine::Network;
use shakti_kernels::Cpu;

use super::preferences::records;
use super::supervised;
use crate::TrainError;
use crate::objectives::Objective;
use crate::objectives::distill::Distill;
use crate::recipe::{DistillSection, DistillTargets, Recipe};
use crate::text::Text;

/// The objective of distillation from what stands in the data.
pub(super) fn objective(
    (recipe, section): (&Recipe, &DistillSection),
    corpus: &Corpus,
    (text, cpu): (&Text, &Arc<Cpu>),
) -> Result<Box<dyn Objective>, TrainError> {
    let teacher = teacher(section, text, cpu)?;
    let which = match section.targets {
        DistillTargets::Answers => Targets::Answers,
        DistillTargets::All => Targets::All,
    };
    let batches = |split, most: usize| -> Result<Vec<Batch>, TrainError> {
        let (tokens, _) =
            tokenize(records(recipe, corpus, split), &text.encoder(), which, cpu.pool.threads())?;
        supervised::first_batches(&tokens, supervised::shape(recipe), most)
    };
    let train = batches(Split::Train, usize::MAX)?;
    let validation = match recipe.train.validation_tokens {
        0 => Vec::new(),
        most => batches(Split::Validation, most)?,
    };
    if train.is_empty() {
        let problem = "no record to learn from".into();
        return Err(TrainError::Data { key: "data.sources".into(), problem });
    }
    let prints = train.iter().chain(&validation).map(fingerprint).collect::<Vec<_>>();
    let order = Shuffled::new("batches", prints[..train.len()].iter().copied(), recipe.train.seed)?;
    let micro_batches = recipe.train.batch_tokens / recipe.micro_batch_tokens();
    Ok(Box::new(Distill::new(section.clone(), teacher, (train, validation), order, micro_batches)))
}

/// Opens the teacher, which must have the student's vocabulary.
pub(super) fn teacher(
    section: &DistillSection,
    text: &Text,
    cpu: &Arc<Cpu>,
) -> Result<Arc<Network>, TrainError> {
    let file = ModelFile::open(&section.teacher)?;
    let refuse = |problem: String| TrainError::Data { key: "distill.teacher".into(), problem };
    let theirs = match file.tokenizer() {
        TokenizerSource::Folder(folder) => Text::open(folder)?,
        TokenizerSource::Gguf(_) => Text::of_model(&file)?,
    };
    let (ours, other) = (text.tokenizer(), theirs.tokenizer());
    let same = ours.vocab_size() == other.vocab_size()
        && (0..ours.vocab_size() as u32).all(|id| ours.token_bytes(id) == other.token_bytes(id));
    if !same {
        let (path, found, expected) = (section.teacher.display(), other.vocab_size(), ours.vocab_size());
        return Err(refuse(format!("{path}: another vocabulary ({found} ids, the student has {expected})")));
    }
    if section.k >= file.config().vocab_size {
        return Err(refuse(format!(
            "distill.k is {}, expected less than the {} ids",
            section.k,
            file.config().vocab_size
        )));
    }
    Ok(Arc::new(Network::load(file.config().clone(), &file, cpu.clone())?))
}

/// Of the ids and what counts.
fn fingerprint(batch: &Batch) -> u128 {
    let words = batch.tokens.iter().chain(&batch.targets).copied();
    let all = words.chain(batch.weights.iter().map(|weight| weight.to_bits()));
    let bytes: Vec<u8> = all.flat_map(u32::to_le_bytes).collect();
    let digest = shakti_checkpoint::files::sha256_bytes(&bytes);
    u128::from_str_radix(&digest[..32], 16).unwrap_or_default()
}
