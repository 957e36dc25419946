//! Prompts of both splits, and what answers to them are worth.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use shakti_data::preference::prompts;
use shakti_data::{Corpus, Prompt};
use shakti_kernels::Cpu;

use super::distill::teacher;
use super::preferences::{both, order, records};
use crate::TrainError;
use crate::objectives::Objective;
use crate::objectives::online::{Kind, Online};
use crate::objectives::scorer::Scorer;
use crate::observer::Observer;
use crate::recipe::{Recipe, Stage};
use crate::rewards::{Reward, Rewards};
use crate::text::Text;

/// The objective of a stage that learns from what the model writes.
pub(super) fn objective(
    recipe: &Recipe,
    corpus: &Corpus,
    (text, cpu): (&Text, &Arc<Cpu>),
    observer: &mut dyn Observer,
) -> Result<Box<dyn Objective>, TrainError> {
    let rollouts = recipe.rollouts;
    let longest = recipe.train.sequence_length - rollouts.max_new_tokens;
    let encoder = text.encoder();
    let read = |split| prompts(records(recipe, corpus, split), &encoder, longest, cpu.pool.threads());
    let (learnt, mut held_out) = both(read, recipe, |prompt: &Prompt| prompt.ids.len(), observer)?;
    held_out.truncate(rollouts.validation_prompts);
    let order = order(learnt.iter().map(Prompt::fingerprint), recipe)?;
    let open =
        |path: &Path| -> Result<Box<dyn Reward>, _> { Ok(Box::new(Scorer::open(path, text, cpu.clone())?)) };
    let rewards = Rewards::open(&recipe.rewards, &mut |path| open(path))?;
    let kind = match (recipe.train.stage, &recipe.distill) {
        (Stage::Ppo, _) => Kind::Ppo(recipe.ppo),
        (Stage::Distill, Some(section)) => Kind::Distill(section.clone(), teacher(section, text, cpu)?),
        _ => Kind::Grpo(recipe.grpo),
    };
    Ok(Box::new(Online {
        kind,
        rollouts,
        prompts: learnt,
        held_out,
        order,
        rewards: RefCell::new(rewards),
        text: text.clone(),
        cpu: cpu.clone(),
        seed: recipe.train.seed,
        micro_batch_tokens: recipe.micro_batch_tokens(),
        reference: None,
        kl_coef: recipe.ppo.kl_coef,
        round: None,
    }))
}
