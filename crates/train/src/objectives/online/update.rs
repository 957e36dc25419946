//! One update of the policy from a part of a round.

use std::cell::Cell;

use shakti_data::Batch;
use shakti_engine::Network;
use shakti_model::{End, LossSum, OutputGradients, Outputs};

use super::super::Measures;
use super::super::distill::Said;
use super::super::feed::{completions, runs};
use super::super::policy_loss::{clipped, divergence, value_loss};
use super::experience::{Sampled, Tokens};
use super::{Kind, Online};
use crate::TrainError;
use crate::recipe::DistillSection;
use crate::trainer::{StepResult, Trainer, targets};

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    loss: f64,
    value_loss: f64,
    clipped: f64,
    tokens: f64,
}

impl Online {
    /// Learns from samples once.
    pub(super) fn update(
        &self,
        trainer: &mut Trainer<'_>,
        samples: Vec<&(Sampled, Tokens)>,
    ) -> Result<(StepResult, Measures), TrainError> {
        let sizes: Vec<usize> = samples.iter().map(|(sample, _)| sample.sequence.ids.len()).collect();
        let tokens: usize = samples.iter().map(|(_, tokens)| tokens.old.len()).sum();
        let (mut all, mut inputs) = (Sums::default(), 0);
        trainer.begin();
        for (micro, run) in runs(&sizes, self.micro_batch_tokens).into_iter().enumerate() {
            let here = &samples[run];
            let batch = completions(here.iter().map(|(sample, _)| &sample.sequence));
            // Of PPO a token's share of all tokens, of GRPO a sample's share of all samples.
            let share = |own: &Tokens| match self.kind {
                Kind::Ppo(_) => 1.0 / tokens as f64,
                Kind::Grpo(_) | Kind::Distill(..) => 1.0 / (samples.len() * own.old.len()) as f64,
            };
            let found = Cell::new(Sums::default());
            let mut objective = |outputs: &Outputs| {
                let (gradients, sums) = self.gradients(here, (&batch, outputs), &share);
                found.set(sums);
                gradients
            };
            trainer.add((micro, &batch), 1.0, End::Objective(targets(&batch), &mut objective))?;
            let sums = found.get();
            all.loss += sums.loss;
            all.value_loss += sums.value_loss;
            all.clipped += sums.clipped;
            all.tokens += sums.tokens;
            inputs += batch.tokens.len() as u64;
        }
        let result = trainer.update(all.loss, inputs)?;
        let mut measures = Measures::from([("clip_ratio".to_owned(), all.clipped / all.tokens)]);
        if matches!(self.kind, Kind::Ppo(_)) {
            measures.insert("value_loss".into(), all.value_loss);
        }
        Ok((result, measures))
    }

    /// Learns what the teacher says of the samples, every token alike.
    pub(super) fn imitate(
        &self,
        trainer: &mut Trainer<'_>,
        (section, teacher): (&DistillSection, &Network),
        samples: Vec<&(Sampled, Tokens)>,
    ) -> Result<(StepResult, Measures), TrainError> {
        let sizes: Vec<usize> = samples.iter().map(|(sample, _)| sample.sequence.ids.len()).collect();
        let tokens: usize = samples.iter().map(|(_, tokens)| tokens.old.len()).sum();
        let (mut sum, mut inputs) = (LossSum::default(), 0);
        trainer.begin();
        for (micro, run) in runs(&sizes, self.micro_batch_tokens).into_iter().enumerate() {
            let batch = completions(samples[run].iter().map(|(sample, _)| &sample.sequence));
            let said = Said::of(teacher, &batch, section.k)?.whole(&batch, section.k);
            let end = End::Teacher(said.teacher(section, &batch));
            let loss = trainer.add((micro, &batch), 1.0 / tokens as f32, end)?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
            inputs += batch.tokens.len() as u64;
        }
        Ok((trainer.update(sum.mean(), inputs)?, Measures::new()))
    }

    fn gradients(
        &self,
        samples: &[&(Sampled, Tokens)],
        (batch, outputs): (&Batch, &Outputs),
        share: &dyn Fn(&Tokens) -> f64,
    ) -> (OutputGradients, Sums) {
        let mut log_probs = vec![0.0; outputs.log_probs.len()];
        let mut values = vec![0.0; outputs.values.len()];
        let mut sums = Sums::default();
        for (segment, (sample, own)) in batch.segments.iter().zip(samples) {
            let (first, share) = (segment.start + sample.sequence.prompt_len - 1, share(own));
            for t in 0..own.old.len() {
                let row = first + t;
                let new = f64::from(outputs.log_probs[row]);
                let clip = match &self.kind {
                    Kind::Ppo(section) => section.clip,
                    Kind::Grpo(section) => section.clip,
                    Kind::Distill(..) => 1.0,
                };
                let ((mut loss, mut slope), held) = clipped(new, own.old[t], own.advantages[t], clip);
                match &self.kind {
                    Kind::Distill(..) => {}
                    Kind::Grpo(section) => {
                        let (apart, apart_slope) = divergence(new, own.reference[t]);
                        loss += section.beta * apart;
                        slope += section.beta * apart_slope;
                    }
                    Kind::Ppo(section) => {
                        let value = f64::from(outputs.values[row]);
                        let (missed, value_slope) =
                            value_loss(value, own.values[t], own.returns[t], section.value_clip);
                        values[row] = (share * section.value_coef * value_slope) as f32;
                        sums.value_loss += share * missed;
                        loss += section.value_coef * missed;
                    }
                }
                log_probs[row] = (share * slope) as f32;
                sums.loss += share * loss;
                sums.clipped += f64::from(u8::from(held));
                sums.tokens += 1.0;
            }
        }
        (OutputGradients { log_probs, values }, sums)
    }
}
