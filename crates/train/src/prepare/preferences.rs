//! Preference pairs and rated answers of both splits.

use shakti_data::preference::{LeftOut, pairs, rated};
use shakti_data::{Corpus, DataError, PreferencePair, RatedSequence, Record, Shuffled, Split};
use shakti_kernels::Cpu;

use crate::TrainError;
use crate::objectives::Objective;
use crate::objectives::pairs::{Item, Preferences};
use crate::objectives::reward::RewardModel;
use crate::observer::{Event, Observer};
use crate::recipe::{PreferenceLoss, Recipe, Stage};
use crate::text::Text;

/// What the order of the items is called in positions.
const ORDER: &str = "preferences";

/// The objective of a stage that learns from pairs.
pub(super) fn objective(
    recipe: &Recipe,
    corpus: &Corpus,
    (text, cpu): (&Text, &Cpu),
    observer: &mut dyn Observer,
) -> Result<Box<dyn Objective>, TrainError> {
    let train = &recipe.train;
    let encoder = text.encoder();
    let (longest, threads) = (train.sequence_length, cpu.pool.threads());
    let micro_batch_tokens = recipe.micro_batch_tokens();
    let shape = (train.batch_tokens / micro_batch_tokens, micro_batch_tokens);
    if train.stage == Stage::Dpo && recipe.dpo.loss == PreferenceLoss::Kto {
        let read = |split| rated(records(recipe, corpus, split), &encoder, longest, threads);
        let (learnt, held_out) =
            both(read, recipe, |item: &RatedSequence| item.sequence.ids.len(), observer)?;
        let order = order(learnt.iter().map(RatedSequence::fingerprint), recipe)?;
        let [learnt, held_out] = [learnt, held_out].map(|list| Item::rated(&list, longest + 1));
        return Ok(Box::new(Preferences::new(recipe.dpo, (learnt, held_out), order, shape)));
    }
    let read = |split| pairs(records(recipe, corpus, split), &encoder, longest, threads);
    let size = |pair: &PreferencePair| pair.chosen.ids.len() + pair.rejected.ids.len();
    let (learnt, held_out) = both(read, recipe, size, observer)?;
    let order = order(learnt.iter().map(PreferencePair::fingerprint), recipe)?;
    if train.stage == Stage::Reward {
        let splits = (learnt, held_out);
        return Ok(Box::new(RewardModel::new(recipe.reward.margin, splits, order, shape)));
    }
    let splits = (Item::pairs(learnt), Item::pairs(held_out));
    Ok(Box::new(Preferences::new(recipe.dpo, splits, order, shape)))
}

/// The records of a split, of all sources.
pub(super) fn records<'a>(
    recipe: &'a Recipe,
    corpus: &'a Corpus,
    split: Split,
) -> impl Iterator<Item = Result<Record, DataError>> + 'a {
    let files = recipe.data.sources.iter().map(|source| corpus.files().position(|path| path == source.path));
    files.flat_map(move |file| corpus.records(split, file))
}

/// Items to learn from, and as many held-out ones as `train.validation_tokens` allows; what is left out is told, and too
/// much of it is an error.
pub(super) fn both<T>(
    read: impl Fn(Split) -> Result<(Vec<T>, LeftOut), DataError>,
    recipe: &Recipe,
    size: impl Fn(&T) -> usize,
    observer: &mut dyn Observer,
) -> Result<(Vec<T>, Vec<T>), TrainError> {
    let (learnt, mut left_out) = read(Split::Train)?;
    let mut held_out = Vec::new();
    let most = recipe.train.validation_tokens;
    if most > 0 {
        let (items, more) = read(Split::Validation)?;
        left_out.add(more);
        let mut tokens = 0;
        held_out.extend(items.into_iter().take_while(|item| {
            tokens += size(item);
            tokens <= most
        }));
    }
    observer.event(&Event::LeftOut(&left_out));
    left_out.check()?;
    if learnt.is_empty() {
        let problem = "no record to learn from is left".into();
        return Err(TrainError::Data { key: "data.sources".into(), problem });
    }
    if held_out.is_empty() && most > 0 {
        let problem =
            "no record is held out, or none fits; raise it, or set train.validation_tokens to 0".into();
        return Err(TrainError::Data { key: "data.validation_share".into(), problem });
    }
    Ok((learnt, held_out))
}

/// The order in which items are learnt from.
pub(super) fn order(
    fingerprints: impl Iterator<Item = u128>,
    recipe: &Recipe,
) -> Result<Shuffled, TrainError> {
    Ok(Shuffled::new(ORDER, fingerprints, recipe.train.seed)?)
}
