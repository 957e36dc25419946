//! A round: samples, what they are worth, and what the policies say of their tokens.

use std::ops::ControlFlow;
use std::sync::Arc;

use shakti_data::{Prompt, Sequence};
use shakti_engine::{KvType, Network, RolloutOptions, SamplerOptions, rollouts};
use shakti_model::{Heads, Outputs};

use super::super::Measures;
use super::super::feed::{completions, runs};
use super::super::policy_loss::{advantages, deviation, divergence, group_advantages, whiten};
use super::{Kind, Online};
use crate::TrainError;
use crate::rewards::Sample;
use crate::trainer::Trainer;

/// One completion.
#[derive(Clone, Debug)]
pub(crate) struct Sampled {
    pub sequence: Sequence,
    /// Index of its prompt in the round.
    pub prompt: usize,
    pub reward: f64,
    ended: bool,
    /// Of each token, by the engine that drew it.
    engine: Vec<f32>,
}

/// Samples, and the mean score of each kind of reward before it is weighed.
pub(crate) struct Drawn {
    pub samples: Vec<Sampled>,
    pub scores: Measures,
}

/// What is known of the tokens of one completion; all lists are as long as it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    /// Log-probabilities by the trainer before the round's first update.
    pub old: Vec<f64>,
    /// By the first policy; the same as `old` where nobody asks.
    pub reference: Vec<f64>,
    /// Estimated values before the round's first update; empty without a value head.
    pub values: Vec<f64>,
    /// What the values should have been.
    pub returns: Vec<f64>,
    pub advantages: Vec<f64>,
}

/// All of a round.
pub(crate) struct Experience {
    pub samples: Vec<(Sampled, Tokens)>,
    group: usize,
    scores: Measures,
}

impl Online {
    /// Draws completions of prompts and scores them; greedily, one for each prompt, where there is no round number.
    pub(super) fn sample(
        &self,
        trainer: &Trainer<'_>,
        prompts: &[&Prompt],
        round: Option<u64>,
    ) -> Result<Drawn, TrainError> {
        let network = self.network(trainer)?;
        let section = &self.rollouts;
        let sampler = match round {
            None => SamplerOptions::greedy(),
            Some(round) => SamplerOptions {
                temperature: section.temperature,
                top_p: section.top_p,
                // Bits of both matter; the engine mixes in prompt and sample.
                seed: self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(round),
                ..SamplerOptions::greedy()
            },
        };
        let mut stop_ids = network.config().eos_token_ids.clone();
        stop_ids.extend(self.text.tokenizer().stop_ids());
        let options = RolloutOptions {
            group: if round.is_some() { section.group } else { 1 },
            max_new_tokens: section.max_new_tokens,
            sampler,
            stop_ids,
            batch_size: section.batch_size,
        };
        let ids: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.ids.as_slice()).collect();
        let drawn = rollouts(&network, &ids, &options, &mut |_| ControlFlow::Continue(()))?;
        let sampled = drawn.into_iter().map(|rollout| {
            let prompt = &prompts[rollout.prompt].ids;
            let ids = prompt.iter().chain(&rollout.ids).copied().collect();
            Sampled {
                sequence: Sequence { ids, prompt_len: prompt.len() },
                prompt: rollout.prompt,
                reward: 0.0,
                ended: rollout.ended,
                engine: rollout.log_probs,
            }
        });
        let mut sampled: Vec<Sampled> = sampled.collect();
        let scores = self.score(prompts, &sampled)?;
        sampled.iter_mut().zip(&scores.total).for_each(|(sample, score)| sample.reward = f64::from(*score));
        let mean =
            |scores: &[f32]| scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64;
        let parts = scores.parts.iter().map(|(kind, scores)| (format!("rewards/{kind}"), mean(scores)));
        Ok(Drawn { samples: sampled, scores: parts.collect() })
    }

    /// The engine over the weights as they are, in f32.
    fn network(&self, trainer: &Trainer<'_>) -> Result<Arc<Network>, TrainError> {
        let mut config = trainer.config().clone();
        config.heads = Heads::Vocabulary;
        let network = trainer.with_tensors(|tensors| Network::load(config, tensors, self.cpu.clone()))??;
        Ok(Arc::new(network.with_kv_type(KvType::F32)))
    }

    fn score(&self, prompts: &[&Prompt], sampled: &[Sampled]) -> Result<crate::rewards::Scores, TrainError> {
        let asked: Vec<String> = prompts
            .iter()
            .map(|prompt| {
                prompt.messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
            })
            .collect();
        let written: Vec<String> = sampled
            .iter()
            .map(|sample| {
                let ids = sample.sequence.completion();
                let text = if sample.ended { &ids[..ids.len() - 1] } else { ids };
                self.text.tokenizer().decode(text)
            })
            .collect();
        let samples: Vec<Sample<'_>> = sampled
            .iter()
            .zip(&written)
            .map(|(sample, completion)| Sample {
                prompt: &asked[sample.prompt],
                completion,
                answer: &prompts[sample.prompt].answer,
                ended: sample.ended,
                tokens: sample.sequence.completion().len(),
                ids: &sample.sequence.ids,
            })
            .collect();
        Ok(self.rewards.borrow_mut().score(&samples)?)
    }

    /// What the policies say of every token, and what it is worth.
    pub(super) fn judge(
        &self,
        trainer: &Trainer<'_>,
        prompts: &[&Prompt],
        Drawn { samples, scores }: Drawn,
    ) -> Result<Experience, TrainError> {
        let sizes: Vec<usize> = samples.iter().map(|sample| sample.sequence.ids.len()).collect();
        let mut tokens = Vec::with_capacity(samples.len());
        for run in runs(&sizes, self.micro_batch_tokens) {
            let here = &samples[run];
            let batch = completions(here.iter().map(|sample| &sample.sequence));
            let old = trainer.outputs(&batch)?;
            let reference = match self.kind.needs_reference() {
                true => trainer.reference_outputs(self.reference.as_ref(), &batch)?,
                false => old.clone(),
            };
            for (segment, sample) in batch.segments.iter().zip(here) {
                let rows = segment.start + sample.sequence.prompt_len - 1..segment.start + segment.len;
                let wide = |list: &[f32]| list.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
                let of = |outputs: &Outputs| wide(&outputs.log_probs[rows.clone()]);
                let values = old.values.get(rows.clone()).map(wide).unwrap_or_default();
                tokens.push(Tokens { old: of(&old), reference: of(&reference), values, ..Tokens::default() });
            }
        }
        self.value(&samples, &mut tokens);
        let group = samples.len() / prompts.len();
        Ok(Experience { samples: samples.into_iter().zip(tokens).collect(), group, scores })
    }

    /// Fills in advantages and returns.
    fn value(&self, samples: &[Sampled], tokens: &mut [Tokens]) {
        match &self.kind {
            Kind::Ppo(section) => {
                for (sample, tokens) in samples.iter().zip(tokens.iter_mut()) {
                    let apart =
                        tokens.old.iter().zip(&tokens.reference).map(|(old, reference)| old - reference);
                    let mut rewards: Vec<f64> = apart.map(|apart| -self.kl_coef * apart).collect();
                    // A completion is never empty.
                    *rewards.last_mut().expect("a token") += sample.reward;
                    (tokens.advantages, tokens.returns) = advantages(section, &rewards, &tokens.values);
                }
                let mut all: Vec<f64> = tokens.iter().flat_map(|tokens| tokens.advantages.clone()).collect();
                whiten(&mut all);
                let mut rest = all.as_slice();
                for tokens in tokens {
                    let (own, after) = rest.split_at(tokens.advantages.len());
                    tokens.advantages.copy_from_slice(own);
                    rest = after;
                }
            }
            Kind::Distill(..) => {}
            Kind::Grpo(section) => {
                let group = self.rollouts.group;
                for (samples, tokens) in samples.chunks(group).zip(tokens.chunks_mut(group)) {
                    let rewards: Vec<f64> = samples.iter().map(|sample| sample.reward).collect();
                    let each = group_advantages(section.advantage, &rewards);
                    for (tokens, advantage) in tokens.iter_mut().zip(each) {
                        tokens.advantages = vec![advantage; tokens.old.len()];
                    }
                }
            }
        }
    }
}

impl Experience {
    /// The samples of one of `parts` minibatches; those of a group go to different ones.
    pub fn part(&self, part: usize, parts: usize) -> Vec<&(Sampled, Tokens)> {
        self.samples.iter().skip(part).step_by(parts).collect()
    }

    /// Mean divergence of the policy from the first one, in nats a token.
    pub fn kl(&self) -> f64 {
        let both = self.samples.iter().flat_map(|(_, tokens)| tokens.old.iter().zip(&tokens.reference));
        let (sum, count) = both.fold((0.0, 0.0), |(sum, count), (old, reference)| {
            (sum + divergence(*old, *reference).0, count + 1.0)
        });
        sum / count
    }

    /// What is logged of a round.
    pub fn measures(&self, kl_coef: f64) -> Measures {
        let count = self.samples.len() as f64;
        let rewards: Vec<f64> = self.samples.iter().map(|(sample, _)| sample.reward).collect();
        let mean = |of: &dyn Fn(&(Sampled, Tokens)) -> f64| self.samples.iter().map(of).sum::<f64>() / count;
        let same = rewards.chunks(self.group).filter(|group| deviation(group) == 0.0).count();
        let mut gaps: Vec<f64> = self
            .samples
            .iter()
            .flat_map(|(sample, tokens)| {
                sample.engine.iter().zip(&tokens.old).map(|(engine, old)| (f64::from(*engine) - old).abs())
            })
            .collect();
        gaps.sort_by(f64::total_cmp);
        let named = [
            ("reward", rewards.iter().sum::<f64>() / count),
            ("reward_std", deviation(&rewards)),
            ("kl", self.kl()),
            ("kl_coef", kl_coef),
            ("completions/mean_length", mean(&|(_, tokens)| tokens.old.len() as f64)),
            ("completions/clipped_ratio", mean(&|(sample, _)| f64::from(u8::from(!sample.ended)))),
            ("frac_reward_zero_std", same as f64 / rewards.chunks(self.group).count() as f64),
            ("engine_gap/mean", gaps.iter().sum::<f64>() / gaps.len() as f64),
            ("engine_gap/p999", gaps[(gaps.len() - 1) * 999 / 1000]),
        ];
        let own = named.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.scores.clone()).collect()
    }
}
