//! Preference pairs and rated answers: DPO and its kin (`[dpo]`).
//!
//! What the reference says is computed once, with the weights that the run begins with, and kept in the run folder; so the
//! reference is not in memory while the run trains.

use std::cell::Cell;

use shakti_data::{Batch, Position, PreferencePair, RatedSequence, Sequence, Shuffled};
use shakti_model::{End, OutputGradients, Outputs};

use super::feed::{Feed, completions, runs, spread, sums};
use super::preference_loss::{Answer, PairLoss, pair, rated};
use super::reference::Reference;
use super::{Measures, Objective, Validation};
use crate::TrainError;
use crate::observer::Observer;
use crate::recipe::{DpoSection, PreferenceLoss};
use crate::run_folder::RunFolder;
use crate::trainer::{StepResult, Trainer, targets};

/// What one item of the data is.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// Chosen, rejected.
    Pair([Sequence; 2]),
    /// A rated answer, whether it is good, and the same prompt's neighbour's answer to this prompt, which sets KTO's
    /// reference point.
    Rated([Sequence; 2], bool),
}

impl Item {
    fn sequences(&self) -> &[Sequence; 2] {
        match self {
            Self::Pair(sequences) | Self::Rated(sequences, _) => sequences,
        }
    }

    /// Input tokens.
    fn tokens(&self) -> usize {
        self.sequences().iter().map(|sequence| sequence.ids.len() - 1).sum()
    }

    /// Pairs as they are.
    pub fn pairs(pairs: Vec<PreferencePair>) -> Vec<Self> {
        pairs.into_iter().map(|pair| Self::Pair([pair.chosen, pair.rejected])).collect()
    }

    /// Rated answers, each with the next one's answer to its own prompt, cut to `longest` ids.
    pub fn rated(list: &[RatedSequence], longest: usize) -> Vec<Self> {
        let mismatched = |index: usize| {
            let (prompt, other) = (&list[index].sequence, &list[(index + 1) % list.len()].sequence);
            let mut ids = prompt.ids[..prompt.prompt_len].to_vec();
            ids.extend(other.completion());
            ids.truncate(longest);
            Sequence { ids, prompt_len: prompt.prompt_len }
        };
        let one = |(index, item): (usize, &RatedSequence)| {
            Self::Rated([item.sequence.clone(), mismatched(index)], item.good)
        };
        list.iter().enumerate().map(one).collect()
    }
}

/// Items of one split with the reference's sums over both answers.
pub(crate) struct Split {
    pub items: Vec<Item>,
    pub reference: Reference,
}

/// Learns to prefer.
pub(crate) struct Preferences {
    section: DpoSection,
    train: Split,
    validation: Split,
    feed: Feed,
    micro_batches: usize,
    micro_batch_tokens: usize,
}

impl Preferences {
    /// From the beginning of the shuffled order of `train`.
    pub fn new(
        section: DpoSection,
        (train, validation): (Vec<Item>, Vec<Item>),
        order: Shuffled,
        (micro_batches, micro_batch_tokens): (usize, usize),
    ) -> Self {
        let sizes = train.iter().map(Item::tokens).collect();
        let split = |items| Split { items, reference: Reference::default() };
        Self {
            section,
            train: split(train),
            validation: split(validation),
            feed: Feed::new(order, sizes, micro_batch_tokens),
            micro_batches,
            micro_batch_tokens,
        }
    }

    /// What a micro-batch's outputs mean, and the derivative for each of its sequences.
    fn judge(&self, split: &Split, items: &[usize], (batch, outputs): (&Batch, &Outputs)) -> Judged {
        let sums = sums(batch, &outputs.log_probs);
        let answers: Vec<[Answer; 2]> = items
            .iter()
            .zip(sums.chunks_exact(2))
            .map(|(item, sums)| {
                let reference = split.reference.of(*item);
                std::array::from_fn(|side| {
                    let len = split.items[*item].sequences()[side].completion().len() as f64;
                    Answer { sum: sums[side], reference: reference[side], len }
                })
            })
            .collect();
        let mut judged = Judged::default();
        // The mismatched answers of the batch, or nothing.
        let ratio = |answers: &[Answer; 2]| answers[1].sum - answers[1].reference;
        let z = (answers.iter().map(ratio).sum::<f64>() / answers.len() as f64).max(0.0);
        for (item, both) in items.iter().zip(&answers) {
            match &split.items[*item] {
                Item::Pair(_) => judged.pair(pair(&self.section, *both), both),
                Item::Rated(_, good) => judged.rated(rated(&self.section, (both[0], *good), z), *good, both),
            }
        }
        judged
    }

    fn batch(split: &Split, items: &[usize]) -> Batch {
        completions(items.iter().flat_map(|item| split.items[*item].sequences()))
    }

    /// The reference's sums over both answers of every item.
    fn reference_sums(&self, split: &Split, trainer: &Trainer<'_>) -> Result<Vec<f64>, TrainError> {
        let sizes: Vec<usize> = split.items.iter().map(Item::tokens).collect();
        let mut all = Vec::with_capacity(2 * sizes.len());
        for run in runs(&sizes, self.micro_batch_tokens) {
            let items: Vec<usize> = run.collect();
            let batch = Self::batch(split, &items);
            all.extend(sums(&batch, &trainer.outputs(&batch)?.log_probs));
        }
        Ok(all)
    }
}

/// What was found of the items of a micro-batch, summed.
#[derive(Clone, Debug, Default)]
struct Judged {
    items: f64,
    loss: f64,
    /// For each sequence.
    gradient: Vec<f64>,
    /// Sum and number of the rewards of good answers, then of bad ones.
    rewards: [(f64, f64); 2],
    right: f64,
    longer_right: f64,
    log_ratio: f64,
    tokens: f64,
}

impl Judged {
    fn pair(&mut self, found: PairLoss, answers: &[Answer; 2]) {
        self.items += 1.0;
        self.loss += found.loss;
        self.gradient.extend(found.gradient);
        for (side, reward) in found.reward.into_iter().enumerate() {
            self.rewards[side].0 += reward;
            self.rewards[side].1 += 1.0;
            self.log_ratio += answers[side].sum - answers[side].reference;
            self.tokens += answers[side].len;
        }
        self.right += wins(found.reward[0], found.reward[1]);
        self.longer_right += wins(answers[0].len, answers[1].len);
    }

    fn rated(&mut self, (loss, slope, reward): (f64, f64, f64), good: bool, answers: &[Answer; 2]) {
        self.items += 1.0;
        self.loss += loss;
        // The mismatched answer only sets the reference point.
        self.gradient.extend([slope, 0.0]);
        let side = &mut self.rewards[usize::from(!good)];
        side.0 += reward;
        side.1 += 1.0;
        self.right += if good { wins(reward, 0.0) } else { wins(0.0, reward) };
        self.log_ratio += answers[0].sum - answers[0].reference;
        self.tokens += answers[0].len;
    }

    fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.loss += other.loss;
        for (sum, more) in self.rewards.iter_mut().zip(other.rewards) {
            sum.0 += more.0;
            sum.1 += more.1;
        }
        self.right += other.right;
        self.longer_right += other.longer_right;
        self.log_ratio += other.log_ratio;
        self.tokens += other.tokens;
    }

    fn measures(&self, loss: PreferenceLoss) -> Measures {
        let mean = |(sum, count): (f64, f64)| if count > 0.0 { sum / count } else { 0.0 };
        let [chosen, rejected] = self.rewards.map(mean);
        let mut measures = Measures::from([
            ("rewards/chosen".to_owned(), chosen),
            ("rewards/rejected".into(), rejected),
            ("rewards/margins".into(), chosen - rejected),
            ("rewards/accuracies".into(), self.right / self.items),
        ]);
        if loss.needs_reference() {
            measures.insert("kl".into(), -self.log_ratio / self.tokens);
        }
        if loss != PreferenceLoss::Kto {
            measures.insert("length_only/accuracies".into(), self.longer_right / self.items);
        }
        measures
    }
}

/// 1, or a half for a tie.
pub(crate) fn wins(a: f64, b: f64) -> f64 {
    match a.partial_cmp(&b) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    }
}

impl Objective for Preferences {
    fn begin(
        &mut self,
        trainer: &Trainer<'_>,
        folder: &RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if !self.section.loss.needs_reference() {
            self.train.reference = Reference::zeros(self.train.items.len());
            self.validation.reference = Reference::zeros(self.validation.items.len());
            return Ok(());
        }
        let key = self.feed.position().fingerprint;
        let compute = || {
            let sums = [&self.train, &self.validation].map(|split| self.reference_sums(split, trainer));
            let [train, validation] = sums;
            Ok([train?, validation?])
        };
        let [train, validation] = Reference::load_or(folder, trainer, &key, observer, compute)?;
        (self.train.reference, self.validation.reference) = (train, validation);
        Ok(())
    }

    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError> {
        let batches: Vec<Vec<usize>> = (0..self.micro_batches).map(|_| self.feed.next_batch()).collect();
        let items: usize = batches.iter().map(Vec::len).sum();
        let (mut all, mut tokens) = (Judged::default(), 0);
        trainer.begin();
        for (micro, items_here) in batches.iter().enumerate() {
            let batch = Self::batch(&self.train, items_here);
            let found = Cell::new(Judged::default());
            let mut objective = |outputs: &Outputs| {
                let judged = self.judge(&self.train, items_here, (&batch, outputs));
                let log_probs = spread(&batch, &judged.gradient, 1.0);
                found.set(judged);
                OutputGradients { log_probs, values: Vec::new() }
            };
            let end = End::Objective(targets(&batch), &mut objective);
            trainer.add((micro, &batch), 1.0 / items as f32, end)?;
            all.add(&found.take());
            tokens += batch.tokens.len() as u64;
        }
        let result = trainer.update(all.loss / all.items, tokens)?;
        Ok((result, all.measures(self.section.loss)))
    }

    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError> {
        let sizes: Vec<usize> = self.validation.items.iter().map(Item::tokens).collect();
        let mut all = Judged::default();
        for run in runs(&sizes, self.micro_batch_tokens) {
            let items: Vec<usize> = run.collect();
            let batch = Self::batch(&self.validation, &items);
            let outputs = trainer.outputs(&batch)?;
            all.add(&self.judge(&self.validation, &items, (&batch, &outputs)));
        }
        let measured =
            || Validation { loss: all.loss / all.items, measures: all.measures(self.section.loss) };
        Ok((all.items > 0.0).then(measured))
    }

    fn position(&self) -> Position {
        self.feed.position()
    }

    fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        self.feed.restore(position)
    }
}
