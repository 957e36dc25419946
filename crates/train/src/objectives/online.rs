//! Learning from what the model itself writes: a round of rollouts, their rewards, and a few updates from them. PPO
//! (`[ppo]`) and GRPO or RLOO (`[grpo]`) differ in what a token is worth and what it loses; on-policy distillation (`[distill]`)
//! asks a teacher instead.
//!
//! One step of a run is one update. A checkpoint is made between rounds only, so that what is resumed is never half of one;
//! a round follows from the weights, the seed and its number alone.

mod experience;
mod update;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use shakti_data::{Position, Prompt, Shuffled};
use shakti_engine::Network;
use shakti_kernels::Cpu;
use shakti_model::Parameters;

use super::policy_loss::steered;
use super::{Measures, Objective, Validation};
use crate::TrainError;
use crate::observer::Observer;
use crate::recipe::{DistillSection, GrpoSection, PpoSection, RolloutSection};
use crate::rewards::Rewards;
use crate::run_folder::RunFolder;
use crate::text::Text;
use crate::trainer::{StepResult, Trainer};
use experience::Experience;

/// Which of the two.
pub(crate) enum Kind {
    Ppo(PpoSection),
    Grpo(GrpoSection),
    /// What a teacher says of the samples; each round is learnt from once.
    Distill(DistillSection, Arc<Network>),
}

impl Kind {
    fn epochs(&self) -> usize {
        match self {
            Self::Ppo(section) => section.epochs,
            Self::Grpo(section) => section.epochs,
            Self::Distill(..) => 1,
        }
    }

    fn minibatches(&self) -> usize {
        match self {
            Self::Ppo(section) => section.minibatches,
            Self::Grpo(section) => section.minibatches,
            Self::Distill(..) => 1,
        }
    }

    /// Whether the first policy has to be asked.
    fn needs_reference(&self) -> bool {
        match self {
            Self::Ppo(section) => section.kl_coef > 0.0,
            Self::Grpo(section) => section.beta > 0.0,
            Self::Distill(..) => false,
        }
    }
}

/// What a run of rollouts needs besides the model.
pub(crate) struct Online {
    pub kind: Kind,
    pub rollouts: RolloutSection,
    pub prompts: Vec<Prompt>,
    pub held_out: Vec<Prompt>,
    pub order: Shuffled,
    /// Scoring changes what a program has read.
    pub rewards: RefCell<Rewards>,
    pub text: Text,
    pub cpu: Arc<Cpu>,
    pub seed: u64,
    pub micro_batch_tokens: usize,
    /// The first policy's weights; absent where nobody asks for them or they are the frozen ones beside an adapter.
    pub reference: Option<Parameters>,
    pub kl_coef: f64,
    /// The round that is being learnt from, and its next update.
    pub round: Option<(Experience, usize)>,
}

/// Name of the steered coefficient in saved states.
const KL_COEF: &str = "kl_coef";

impl Online {
    /// Number of the round that begins now.
    fn number(&self) -> u64 {
        self.order.position().batches / self.rollouts.prompts as u64
    }

    fn updates(&self) -> usize {
        self.kind.epochs() * self.kind.minibatches()
    }

    /// Samples and judges a new round.
    fn begin_round(&mut self, trainer: &Trainer<'_>) -> Result<Experience, TrainError> {
        let number = self.number();
        let chosen: Vec<usize> = (0..self.rollouts.prompts).map(|_| self.order.next_index()).collect();
        let prompts: Vec<&Prompt> = chosen.iter().map(|index| &self.prompts[*index]).collect();
        let drawn = self.sample(trainer, &prompts, Some(number))?;
        let experience = self.judge(trainer, &prompts, drawn)?;
        if let Kind::Ppo(section) = &self.kind {
            let samples = experience.samples.len() as f64;
            self.kl_coef = steered(section, self.kl_coef, experience.kl(), samples);
        }
        Ok(experience)
    }
}

impl Objective for Online {
    fn begin(
        &mut self,
        trainer: &Trainer<'_>,
        _folder: &RunFolder,
        _observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.kind.needs_reference() && trainer.adapter().is_none() {
            self.reference = Some(trainer.params().clone());
        }
        Ok(())
    }

    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError> {
        let (experience, update, mut measures) = match self.round.take() {
            Some((experience, update)) => (experience, update, Measures::new()),
            None => {
                let experience = self.begin_round(trainer)?;
                let measures = experience.measures(self.kl_coef);
                (experience, 0, measures)
            }
        };
        let part = update % self.kind.minibatches();
        let samples = experience.part(part, self.kind.minibatches());
        let (result, more) = match &self.kind {
            Kind::Distill(section, teacher) => self.imitate(trainer, (section, teacher), samples)?,
            Kind::Ppo(_) | Kind::Grpo(_) => self.update(trainer, samples)?,
        };
        measures.extend(more);
        self.round = (update + 1 < self.updates()).then_some((experience, update + 1));
        Ok((result, measures))
    }

    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let prompts: Vec<&Prompt> = self.held_out.iter().collect();
        let samples = self.sample(trainer, &prompts, None)?.samples;
        let mean = samples.iter().map(|sample| sample.reward).sum::<f64>() / samples.len() as f64;
        let tokens: usize = samples.iter().map(|sample| sample.sequence.completion().len()).sum();
        let measures = Measures::from([
            ("reward".to_owned(), mean),
            ("completions/mean_length".into(), tokens as f64 / samples.len() as f64),
        ]);
        Ok(Some(Validation { loss: -mean, measures }))
    }

    fn position(&self) -> Position {
        self.order.position()
    }

    fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        self.round = None;
        Ok(self.order.restore(position)?)
    }

    fn can_save(&self) -> bool {
        self.round.is_none()
    }

    fn state(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([(KL_COEF.to_owned(), self.kl_coef)])
    }

    fn set_state(&mut self, state: &BTreeMap<String, f64>) {
        self.kl_coef = state.get(KL_COEF).copied().unwrap_or(self.kl_coef);
    }
}
