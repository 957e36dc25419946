//! From scores to a token id.
//!
//! The order is fixed: repetition penalty, temperature, top_k, top_p, min_p, softmax, draw. A filter only removes
//! candidates, and the draw walks the survivors in ascending id, so a filter that removes nothing changes nothing.
//! With `l` the logits and `p = softmax(l)` over the candidates that are left at that point:
//!
//! | step | rule |
//! |---|---|
//! | repetition penalty `r` (arXiv 1909.05858) | `l > 0: l / r`, else `l * r`, once for each distinct id of the context |
//! | temperature `t` | `l / t`; 0 means greedy: the highest score, ties to the lower id |
//! | top_k | the `k` highest (ties to lower ids) |
//! | top_p (arXiv 1904.09751) | the fewest, from the highest down, whose `p` sum to at least `top_p` |
//! | min_p (arXiv 2407.01082) | those with `p >= min_p * max(p)` |
//!
//! Probabilities are f64, so that the draw does not depend on the width of a vector unit.

use crate::EngineError;
use crate::rng::Rng;

/// How to pick tokens.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SamplerOptions {
    /// Divides the scores; 0 is greedy.
    pub temperature: f32,
    /// Candidates kept by rank; 0 keeps all.
    pub top_k: usize,
    /// Probability mass kept, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Least probability relative to the best candidate, in [0, 1); 0 keeps all.
    pub min_p: f32,
    /// Penalty on tokens that the context holds already; 1 is none.
    pub repetition_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl SamplerOptions {
    /// Always the token with the highest score.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }

    fn validate(&self) -> Result<(), EngineError> {
        let in_range = |value: f32| (0.01..=100.0).contains(&value);
        let checks = [
            // A smaller one is greedy in all but name, and its quotients overflow.
            (
                "temperature",
                self.temperature,
                self.temperature == 0.0 || in_range(self.temperature),
                "0, or 0.01 to 100",
            ),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, at most 1"),
            ("min_p", self.min_p, (0.0..1.0).contains(&self.min_p), "0 up to but not including 1"),
            ("repetition_penalty", self.repetition_penalty, in_range(self.repetition_penalty), "0.01 to 100"),
        ];
        match checks.into_iter().find(|(_, _, ok, _)| !ok) {
            Some((option, value, _, expected)) => {
                Err(EngineError::Sampling { option, expected, found: value.to_string() })
            }
            None => Ok(()),
        }
    }
}

/// A token that may still be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

/// Draws tokens by [`SamplerOptions`].
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    rng: Rng,
    penalized: Vec<f32>,
    seen: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler at the start of its seed's stream.
    ///
    /// # Errors
    /// Names an option that is out of its range.
    pub fn new(options: SamplerOptions) -> Result<Self, EngineError> {
        options.validate()?;
        let rng = Rng::new(options.seed);
        Ok(Self { options, rng, penalized: Vec::new(), seen: Vec::new(), candidates: Vec::new() })
    }

    /// How many of the highest scores decide; `None` if all do.
    pub fn top(&self) -> Option<usize> {
        let options = &self.options;
        match (options.repetition_penalty == 1.0, options.temperature == 0.0, options.top_k) {
            (false, ..) | (true, false, 0) => None,
            (true, true, _) => Some(1),
            (true, false, top_k) => Some(top_k),
        }
    }

    /// Picks the next token from `logits [V]`; `context` holds the ids that the repetition penalty looks at.
    ///
    /// # Errors
    /// A score that is not finite.
    pub fn sample(&mut self, logits: &[f32], context: &[u32]) -> Result<u32, EngineError> {
        let mut scores = logits;
        if self.options.repetition_penalty != 1.0 {
            self.penalized.clear();
            self.penalized.extend_from_slice(logits);
            self.seen.clear();
            self.seen.extend_from_slice(context);
            penalize_repetition(&mut self.penalized, &mut self.seen, self.options.repetition_penalty);
            scores = &self.penalized;
        }
        // Without a branch the scan of a whole vocabulary runs in vector registers.
        if !scores.iter().fold(true, |all, score| all & score.is_finite()) {
            let id = scores.iter().position(|score| !score.is_finite()).unwrap_or_default();
            return Err(EngineError::NotFinite { id, value: scores[id] });
        }
        if self.options.temperature == 0.0 {
            return Ok(argmax(scores));
        }
        // A temperature keeps the order of scores, so only those that pass top_k need it.
        collect_top_k(&mut self.candidates, scores, self.options.top_k);
        for candidate in &mut self.candidates {
            candidate.logit /= self.options.temperature;
        }
        keep_top_p(&mut self.candidates, self.options.top_p);
        keep_min_p(&mut self.candidates, self.options.min_p);
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        Ok(draw(&self.candidates, self.rng.next_f64()))
    }
}

/// Scores that are looked at together; most hold nothing above the bar, and are left after one vector comparison.
const LOOK: usize = 64;

/// Calls `take` with id and score wherever the score is above the bar, at first none; `take` returns the new bar.
fn above(scores: &[f32], mut take: impl FnMut(u32, f32) -> f32) {
    let mut bar = f32::NEG_INFINITY;
    for (index, look) in scores.chunks(LOOK).enumerate() {
        if look.iter().fold(false, |any, score| any | (*score > bar)) {
            for (offset, &score) in look.iter().enumerate() {
                if score > bar {
                    bar = take((index * LOOK + offset) as u32, score);
                }
            }
        }
    }
}

/// The id of the highest score; ties go to the lower id.
pub fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    above(scores, |id, score| {
        best = id;
        score
    });
    best
}

/// Each id of `seen` counts once; they are sorted on the way.
fn penalize_repetition(scores: &mut [f32], seen: &mut Vec<u32>, penalty: f32) {
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
        }
    }
}

/// Highest score first, ties by id; scores are finite.
fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// The `k` highest scores as candidates, all of them if `k` is 0.
fn collect_top_k(candidates: &mut Vec<Candidate>, scores: &[f32], k: usize) {
    candidates.clear();
    if k == 0 || k >= scores.len() {
        candidates.extend(scores.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        return;
    }
    let keep_best = |candidates: &mut Vec<Candidate>| {
        candidates.select_nth_unstable_by(k - 1, by_rank);
        candidates.truncate(k);
        candidates[k - 1].logit
    };
    // Ids ascend, so what only equals the k-th best ranks below it.
    let mut bar = f32::NEG_INFINITY;
    above(scores, |id, logit| {
        candidates.push(Candidate { id, logit });
        if candidates.len() == 2 * k {
            bar = keep_best(candidates);
        }
        bar
    });
    if candidates.len() > k {
        keep_best(candidates);
    }
}

/// `exp(logit - max)` as f64.
fn weight(candidate: &Candidate, max: f32) -> f64 {
    (f64::from(candidate.logit) - f64::from(max)).exp()
}

fn max_logit(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.logit))
}

fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let max = max_logit(candidates);
    let total: f64 = candidates.iter().map(|candidate| weight(candidate, max)).sum();
    let target = f64::from(top_p) * total;
    // The kept set is usually small beside the vocabulary: sort ever longer heads of the ranking until one holds it.
    let mut head = 128;
    loop {
        head = head.min(candidates.len());
        if head < candidates.len() {
            candidates.select_nth_unstable_by(head - 1, by_rank);
        }
        candidates[..head].sort_unstable_by(by_rank);
        let mut sum = 0.0;
        for (index, candidate) in candidates[..head].iter().enumerate() {
            sum += weight(candidate, max);
            if sum >= target {
                candidates.truncate(index + 1);
                return;
            }
        }
        if head == candidates.len() {
            return;
        }
        head *= 4;
    }
}

fn keep_min_p(candidates: &mut Vec<Candidate>, min_p: f32) {
    if min_p > 0.0 {
        let max = max_logit(candidates);
        // Relative to the best, a probability is its weight.
        candidates.retain(|candidate| weight(candidate, max) >= f64::from(min_p));
    }
}

/// The candidate at `fraction` of the total probability.
fn draw(candidates: &[Candidate], fraction: f64) -> u32 {
    let max = max_logit(candidates);
    let total: f64 = candidates.iter().map(|candidate| weight(candidate, max)).sum();
    let mut left = fraction * total;
    for candidate in candidates {
        left -= weight(candidate, max);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding may leave a rest at the very end of the scale.
    candidates[candidates.len() - 1].id
}

#[cfg(test)]
mod tests;
