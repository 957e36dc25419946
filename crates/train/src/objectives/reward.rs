//! A reward model: one score for each conversation, the chosen answer's above the other's (Bradley and Terry, as
//! arXiv 2203.02155 uses them; `[reward]`).

use std::cell::Cell;

use shakti_data::{Batch, Position, PreferencePair, Sequence, Shuffled};
use shakti_model::{End, OutputGradients, Outputs};

use super::feed::{Feed, runs, whole};
use super::pairs::wins;
use super::preference_loss::{sigmoid, softplus};
use super::{Measures, Objective, Validation};
use crate::TrainError;
use crate::trainer::{StepResult, Trainer, targets};

/// Bins of the calibration error.
const BINS: usize = 10;

/// Learns scores.
pub(crate) struct RewardModel {
    margin: f64,
    train: Vec<PreferencePair>,
    validation: Vec<PreferencePair>,
    feed: Feed,
    micro_batches: usize,
    micro_batch_tokens: usize,
}

fn sizes(pairs: &[PreferencePair]) -> Vec<usize> {
    pairs.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).collect()
}

fn sides(pair: &PreferencePair) -> [&Sequence; 2] {
    [&pair.chosen, &pair.rejected]
}

/// What pairs of scores say.
#[derive(Clone, Debug, Default)]
struct Scored {
    loss: f64,
    right: f64,
    longer_right: f64,
    sums: [f64; 2],
    /// Probability that the chosen answer is better, of each pair.
    probabilities: Vec<f64>,
    /// Derivative with respect to the chosen score; that of the other is its negative.
    gradient: Vec<f64>,
}

impl Scored {
    fn new(margin: f64, pairs: &[&PreferencePair], batch: &Batch, outputs: &Outputs) -> Self {
        let mut scored = Self::default();
        for (pair, segments) in pairs.iter().zip(batch.segments.chunks_exact(2)) {
            // The last token has seen all.
            let [chosen, rejected] = [0, 1].map(|side: usize| {
                let segment = segments[side];
                f64::from(outputs.values[segment.start + segment.len - 1])
            });
            let difference = chosen - rejected - margin;
            scored.loss += softplus(-difference);
            scored.gradient.push(sigmoid(difference) - 1.0);
            scored.right += wins(chosen, rejected);
            let [long, short] = sides(pair).map(|side| side.completion().len() as f64);
            scored.longer_right += wins(long, short);
            scored.probabilities.push(sigmoid(chosen - rejected));
            scored.sums[0] += chosen;
            scored.sums[1] += rejected;
        }
        scored
    }

    fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.right += other.right;
        self.longer_right += other.longer_right;
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        self.probabilities.extend(other.probabilities);
    }

    fn pairs(&self) -> f64 {
        self.probabilities.len() as f64
    }

    fn measures(&self) -> Measures {
        let [chosen, rejected] = self.sums.map(|sum| sum / self.pairs());
        Measures::from([
            ("rewards/chosen".to_owned(), chosen),
            ("rewards/rejected".into(), rejected),
            ("rewards/margins".into(), chosen - rejected),
            ("rewards/accuracies".into(), self.right / self.pairs()),
            ("length_only/accuracies".into(), self.longer_right / self.pairs()),
        ])
    }

    /// Expected calibration error: pairs turned so that the likelier answer comes first, sorted into bins by its probability,
    /// mean difference between the probability and how often it was right.
    fn calibration_error(&self) -> f64 {
        let mut bins = [(0.0, 0.0); BINS];
        for probability in &self.probabilities {
            let sure = probability.max(1.0 - probability);
            let bin = ((2.0 * sure - 1.0) * BINS as f64) as usize;
            let (confidence, right) = &mut bins[bin.min(BINS - 1)];
            *confidence += sure;
            *right += wins(*probability, 0.5);
        }
        bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum::<f64>() / self.pairs()
    }
}

impl RewardModel {
    /// From the beginning of the shuffled order of `train`.
    pub fn new(
        margin: f64,
        (train, validation): (Vec<PreferencePair>, Vec<PreferencePair>),
        order: Shuffled,
        (micro_batches, micro_batch_tokens): (usize, usize),
    ) -> Self {
        let feed = Feed::new(order, sizes(&train), micro_batch_tokens);
        Self { margin, train, validation, feed, micro_batches, micro_batch_tokens }
    }
}

impl Objective for RewardModel {
    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError> {
        let batches: Vec<Vec<usize>> = (0..self.micro_batches).map(|_| self.feed.next_batch()).collect();
        let items: usize = batches.iter().map(Vec::len).sum();
        let (mut all, mut tokens) = (Scored::default(), 0);
        trainer.begin();
        for (micro, items_here) in batches.iter().enumerate() {
            let pairs: Vec<&PreferencePair> = items_here.iter().map(|item| &self.train[*item]).collect();
            let batch = whole(pairs.iter().flat_map(|pair| sides(pair)));
            let found = Cell::new(Scored::default());
            let mut objective = |outputs: &Outputs| {
                let scored = Scored::new(self.margin, &pairs, &batch, outputs);
                let mut values = vec![0.0; batch.tokens.len()];
                for (segments, slope) in batch.segments.chunks_exact(2).zip(&scored.gradient) {
                    for (segment, sign) in segments.iter().zip([1.0, -1.0]) {
                        values[segment.start + segment.len - 1] = (sign * slope) as f32;
                    }
                }
                found.set(scored);
                OutputGradients { log_probs: Vec::new(), values }
            };
            let end = End::Objective(targets(&batch), &mut objective);
            trainer.add((micro, &batch), 1.0 / items as f32, end)?;
            all.add(found.take());
            tokens += batch.tokens.len() as u64;
        }
        let result = trainer.update(all.loss / all.pairs(), tokens)?;
        Ok((result, all.measures()))
    }

    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError> {
        let mut all = Scored::default();
        for run in runs(&sizes(&self.validation), self.micro_batch_tokens) {
            let pairs: Vec<&PreferencePair> = self.validation[run].iter().collect();
            let batch = whole(pairs.iter().flat_map(|pair| sides(pair)));
            all.add(Scored::new(self.margin, &pairs, &batch, &trainer.outputs(&batch)?));
        }
        if all.probabilities.is_empty() {
            return Ok(None);
        }
        let mut measures = all.measures();
        measures.insert("calibration_error".into(), all.calibration_error());
        Ok(Some(Validation { loss: all.loss / all.pairs(), measures }))
    }

    fn position(&self) -> Position {
        self.feed.position()
    }

    fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        self.feed.restore(position)
    }
}
