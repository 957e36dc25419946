//! Samples of many prompts for training by reward: the prompt of a group is computed once, sequences join and leave at any
//! step, and each sample comes with the log-probabilities of its tokens.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use shakti_kernels::Buffer;
use shakti_model::{CacheMode, ModelError};

use crate::EngineError;
use crate::network::Network;
use crate::rng::Rng;
use crate::sampler::{Sampler, SamplerOptions};
use crate::session::{Session, feed_batch};

/// What to sample.
#[derive(Clone, Debug)]
pub struct RolloutOptions {
    /// Samples of every prompt.
    pub group: usize,
    /// Most tokens of a sample, the one that ends it included.
    pub max_new_tokens: usize,
    /// How to pick tokens. Its seed, the index of the prompt and that of the sample determine a sample's random numbers,
    /// and nothing else does.
    pub sampler: SamplerOptions,
    /// Ids that end a sample.
    pub stop_ids: Vec<u32>,
    /// Sequences that are decoded together. It changes the speed and the memory, not the samples.
    pub batch_size: usize,
}

/// One sample of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Index of the prompt.
    pub prompt: usize,
    /// The sampled ids, the one that ended the sample included.
    pub ids: Vec<u32>,
    /// Natural logarithm of each id's probability under the model itself: at temperature 1, nothing cut off.
    pub log_probs: Vec<f32>,
    /// Whether a stop id ended it; otherwise the length did.
    pub ended: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Samples that are complete.
    pub finished: usize,
    /// Samples in all.
    pub total: usize,
    /// Tokens sampled so far.
    pub tokens: usize,
}

/// Samples `options.group` continuations of every prompt; those of the first prompt come first.
///
/// A sample has the same ids and log-probabilities whatever the batch size, the number of threads and the other prompts
/// are. For log-probabilities that agree with training in f32, the network needs f32 weights
/// ([`Network::load`] of parameters) and [`shakti_kernels::KvType::F32`] keys and values.
///
/// `on_step` is called after every step; breaking ends the call with [`EngineError::Stopped`].
///
/// # Errors
/// Before anything is computed: options out of range, and the index of a prompt that is empty, has an id outside the
/// vocabulary, or does not fit with the tokens asked for. Later: damaged weights.
pub fn rollouts(
    network: &Arc<Network>,
    prompts: &[&[u32]],
    options: &RolloutOptions,
    on_step: &mut dyn FnMut(RolloutProgress) -> ControlFlow<()>,
) -> Result<Vec<Rollout>, EngineError> {
    check(network, prompts, options)?;
    let total = prompts.len() * options.group;
    let mut batch = Batch {
        network,
        prompts,
        options,
        waiting: 0..total,
        roots: Vec::new(),
        active: Vec::new(),
        done: vec![None; total],
        progress: RolloutProgress { finished: 0, total, tokens: 0 },
    };
    while batch.progress.finished < total {
        batch.step()?;
        if on_step(batch.progress).is_break() {
            return Err(EngineError::Stopped { finished: batch.progress.finished, total });
        }
    }
    Ok(batch.done.into_iter().flatten().collect())
}

fn check(network: &Network, prompts: &[&[u32]], options: &RolloutOptions) -> Result<(), EngineError> {
    let counts = [
        ("group", options.group),
        ("max_new_tokens", options.max_new_tokens),
        ("batch_size", options.batch_size),
    ];
    if let Some((option, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
        return Err(EngineError::Sampling { option, expected: "at least 1", found: "0".into() });
    }
    Sampler::new(options.sampler.clone())?;
    let wrong = |index| move |source| EngineError::Prompt { index, source: Box::new(source) };
    prompts
        .iter()
        .enumerate()
        .try_for_each(|(index, prompt)| check_prompt(network, prompt, options).map_err(wrong(index)))
}

fn check_prompt(network: &Network, prompt: &[u32], options: &RolloutOptions) -> Result<(), EngineError> {
    let (vocab_size, max_seq_len) = (network.config().vocab_size, network.config().max_position_embeddings);
    if prompt.is_empty() {
        return Err(EngineError::EmptyPrompt);
    }
    if let Some(index) = prompt.iter().position(|id| *id as usize >= vocab_size) {
        return Err(ModelError::TokenId { id: prompt[index], index, vocab_size }.into());
    }
    let (found, reserved) = (prompt.len(), options.max_new_tokens);
    if reserved > max_seq_len.saturating_sub(found) {
        return Err(EngineError::ContextOverflow { what: "the prompt", found, reserved, max_seq_len });
    }
    Ok(())
}

/// A prompt that was fed, whose samples begin as forks of it.
struct Root {
    prompt: usize,
    session: Session,
    /// Scores `[V]` of the first token; empty until the prompt is fed.
    logits: Arc<[f32]>,
}

/// A sample in progress.
struct Active {
    job: usize,
    session: Session,
    sampler: Sampler,
    /// Scores `[V]` of the first token, until it is drawn.
    first: Option<Arc<[f32]>>,
    rollout: Rollout,
}

/// The state between two steps. Sample `s` of prompt `p` is job `p * group + s`; jobs begin in order.
struct Batch<'a> {
    network: &'a Arc<Network>,
    prompts: &'a [&'a [u32]],
    options: &'a RolloutOptions,
    /// Jobs that have not begun.
    waiting: Range<usize>,
    roots: Vec<Root>,
    active: Vec<Active>,
    done: Vec<Option<Rollout>>,
    progress: RolloutProgress,
}

impl Batch<'_> {
    /// One more token for every sample, those that join now included.
    fn step(&mut self) -> Result<(), EngineError> {
        let free = self.options.batch_size - self.active.len();
        let joining = self.waiting.start..self.waiting.end.min(self.waiting.start + free);
        self.waiting.start = joining.end;
        let logits = self.feed(&joining)?;
        let decoded = self.active.len();
        self.join(joining)?;
        let drawn = self.draw(&logits)?;
        let log_probs = self.log_probs(&logits, decoded, &drawn);
        for ((one, id), log_prob) in self.active.iter_mut().zip(drawn).zip(log_probs) {
            one.first = None;
            one.rollout.ids.push(id);
            one.rollout.log_probs.push(log_prob);
            one.rollout.ended = self.options.stop_ids.contains(&id);
            self.progress.tokens += 1;
        }
        let most = self.options.max_new_tokens;
        for one in self.active.extract_if(.., |one| one.rollout.ended || one.rollout.ids.len() == most) {
            self.done[one.job] = Some(one.rollout);
            self.progress.finished += 1;
        }
        Ok(())
    }

    /// Feeds every active sample its last id, and the prompts of joining samples that were not fed yet; returns the scores
    /// `[S, V]` of the active ones, then of those prompts.
    fn feed(&mut self, joining: &Range<usize>) -> Result<Buffer, EngineError> {
        let fed = self.roots.len();
        for prompt in joining.clone().map(|job| job / self.options.group) {
            if self.roots.last().is_none_or(|root| root.prompt != prompt) {
                let max_seq_len = self.prompts[prompt].len() + self.options.max_new_tokens;
                let session = Session::new(self.network, CacheMode::Bounded { max_seq_len });
                self.roots.push(Root { prompt, session, logits: Arc::default() });
            }
        }
        let (mut sessions, mut ids): (Vec<&mut Session>, Vec<&[u32]>) = self
            .active
            .iter_mut()
            .map(|one| (&mut one.session, &one.rollout.ids[one.rollout.ids.len() - 1..]))
            .unzip();
        for root in &mut self.roots[fed..] {
            sessions.push(&mut root.session);
            ids.push(self.prompts[root.prompt]);
        }
        let logits = feed_batch(&mut sessions, &ids)?;
        let rows = logits.chunks_exact(self.network.config().vocab_size).skip(self.active.len());
        for (root, row) in self.roots[fed..].iter_mut().zip(rows) {
            root.logits = row.into();
        }
        Ok(logits)
    }

    /// Begins jobs, whose prompts were fed, and lets go of prompts that no later job needs.
    fn join(&mut self, jobs: Range<usize>) -> Result<(), EngineError> {
        let group = self.options.group;
        for job in jobs {
            // Jobs begin in order, so the first prompt is theirs; the last job of it needs no copy of keys and values.
            let Root { prompt, logits, .. } = &self.roots[0];
            let (prompt, logits) = (*prompt, logits.clone());
            let session = match job % group + 1 == group {
                true => self.roots.remove(0).session,
                false => self.roots[0].session.fork(),
            };
            let seed = seed_of(self.options.sampler.seed, [prompt, job % group]);
            let sampler = Sampler::new(SamplerOptions { seed, ..self.options.sampler.clone() })?;
            let rollout = Rollout { prompt, ids: Vec::new(), log_probs: Vec::new(), ended: false };
            self.active.push(Active { job, session, sampler, first: Some(logits), rollout });
        }
        Ok(())
    }

    /// The next id of every active sample; those without scores of their own have theirs in `logits`.
    fn draw(&mut self, logits: &[f32]) -> Result<Vec<u32>, EngineError> {
        let rows = logits.chunks_exact(self.network.config().vocab_size);
        let draws: Vec<Mutex<Draw<'_>>> = self
            .active
            .iter_mut()
            .zip(rows.map(Some).chain(std::iter::repeat(None)))
            .map(|(Active { session, sampler, first, .. }, row)| {
                let logits = first.as_deref().or(row).unwrap_or_default();
                Mutex::new(Draw { sampler, logits, context: session.tokens(), drawn: Ok(0) })
            })
            .collect();
        self.network.cpu.pool.run(draws.len(), &|index| {
            let draw = &mut *draws[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            draw.drawn = draw.sampler.sample(draw.logits, draw.context);
        });
        let drawn = draws
            .into_iter()
            .map(|draw| draw.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).drawn);
        drawn.collect()
    }

    /// What the model gives to the ids drawn; the first `decoded` of them have their scores in `logits`.
    fn log_probs(&self, logits: &[f32], decoded: usize, ids: &[u32]) -> Vec<f32> {
        let cpu = &self.network.cpu;
        let mut losses = vec![0.0; ids.len()];
        let (old, new) = losses.split_at_mut(decoded);
        let weights = vec![1.0; ids.len()];
        let logits = &logits[..decoded * self.network.config().vocab_size];
        cpu.cross_entropy(logits, old, &ids[..decoded], &weights[..decoded]);
        for ((one, loss), id) in self.active[decoded..].iter().zip(new).zip(&ids[decoded..]) {
            let first = one.first.as_deref().unwrap_or_default();
            cpu.cross_entropy(first, std::slice::from_mut(loss), std::slice::from_ref(id), &[1.0]);
        }
        losses.into_iter().map(|loss| -loss).collect()
    }
}

/// One draw of a step.
struct Draw<'a> {
    sampler: &'a mut Sampler,
    logits: &'a [f32],
    context: &'a [u32],
    drawn: Result<u32, EngineError>,
}

/// The seed of a sample: that of all, and its indices, mixed one after the other.
fn seed_of(seed: u64, indices: [usize; 2]) -> u64 {
    let mix = |seed| Rng::new(seed).next_u64();
    indices.into_iter().fold(mix(seed), |seed, index| mix(seed ^ index as u64))
}
