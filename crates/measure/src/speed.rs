//! Prefill and decode of one model as the engine does them, timed: the protocol of `shakti bench`.
//!
//! Prefill feeds `prompt` tokens to each of `batch` sequences after `depth` others; decode makes `generate` tokens in each,
//! one pass for all of them a step, after `depth` others; its first input is a token of the text, so depth 0 is an empty
//! cache. Between two steps stands an argmax of the scores and nothing else: no sampler, no text. Rates count the tokens of
//! all sequences.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use shakti_engine::{CacheMode, EngineError, Network, Session, argmax, feed_batch};

use crate::energy::EnergyCounter;
use crate::machine::cpu_seconds;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded.
    pub generate: usize,
    /// Tokens in the cache before either.
    pub depth: usize,
    /// Sequences at once.
    pub batch: usize,
}

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Running time.
    pub seconds: f64,
    /// CPU time of all threads, where the system says so.
    pub cpu_seconds: Option<f64>,
    /// Energy, where there is a counter.
    pub joules: Option<f64>,
}

/// Clocks and counters around a piece of work.
#[derive(Debug, Default)]
pub struct Meter {
    /// The energy counter, if there is one.
    pub energy: Option<EnergyCounter>,
}

impl Meter {
    /// Does the work and says what it took.
    ///
    /// # Errors
    /// Those of the work; a counter that cannot be read any more counts as absent.
    pub fn measure<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Usage, E> {
        let read = |counter: &EnergyCounter| counter.read().ok();
        let (energy, cpu) = (self.energy.as_ref().and_then(read), cpu_seconds());
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        let joules = |before: Vec<u64>| -> Option<io::Result<f64>> {
            Some(self.energy.as_ref()?.joules_since(&before))
        };
        Ok(Usage {
            seconds,
            cpu_seconds: cpu_seconds().zip(cpu).map(|(now, before)| now - before),
            joules: energy.and_then(joules).and_then(Result::ok),
        })
    }
}

/// The sequences of a cell, and the text that they read.
#[derive(Debug)]
pub struct Speedometer {
    cell: Cell,
    sessions: Vec<Session>,
    /// One text a sequence: `depth` tokens and then at least `prompt` more.
    texts: Vec<Vec<u32>>,
}

impl Speedometer {
    /// Reserves the caches; the texts are random ids, the same every time.
    pub fn new(network: &Arc<Network>, cell: Cell) -> Self {
        let longest = cell.depth + cell.prompt.max(cell.generate).max(1);
        let mode = CacheMode::Bounded { max_seq_len: longest };
        let ids = |seed| random_ids(longest, network.config().vocab_size, seed);
        Self {
            cell,
            sessions: (0..cell.batch).map(|_| Session::new(network, mode)).collect(),
            texts: (1..=cell.batch as u64).map(ids).collect(),
        }
    }

    /// Bytes of keys and values of all sequences.
    pub fn cache_bytes(&self) -> usize {
        self.sessions.iter().map(Session::cache_bytes).sum()
    }

    /// Reads the prompts.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn prefill(&mut self, meter: &Meter) -> Result<Usage, EngineError> {
        self.go_to_depth()?;
        let Cell { prompt, depth, .. } = self.cell;
        let parts: Vec<&[u32]> = self.texts.iter().map(|text| &text[depth..depth + prompt]).collect();
        let mut sessions: Vec<&mut Session> = self.sessions.iter_mut().collect();
        meter.measure(|| feed_batch(&mut sessions, &parts).map(drop))
    }

    /// Makes tokens.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn decode(&mut self, meter: &Meter) -> Result<Usage, EngineError> {
        self.go_to_depth()?;
        let mut last: Vec<u32> = self.texts.iter().map(|text| text[self.cell.depth]).collect();
        let mut sessions: Vec<&mut Session> = self.sessions.iter_mut().collect();
        meter.measure(|| {
            for _ in 0..self.cell.generate {
                let logits = match sessions.as_mut_slice() {
                    [one] => one.feed_top(&last, Some(1))?,
                    all => feed_batch(all, &last.iter().map(std::slice::from_ref).collect::<Vec<_>>())?,
                };
                let vocabulary = logits.len() / last.len();
                for (last, logits) in last.iter_mut().zip(logits.chunks_exact(vocabulary)) {
                    *last = argmax(logits);
                }
            }
            Ok(())
        })
    }

    /// Brings every sequence to `depth` tokens, by forgetting what came after them where the cache allows it.
    fn go_to_depth(&mut self) -> Result<(), EngineError> {
        let depth = self.cell.depth;
        for (session, text) in self.sessions.iter_mut().zip(&self.texts) {
            if depth == 0 || session.truncate(depth).is_err() {
                session.reset();
            }
            if session.position() < depth {
                session.feed(&text[..depth])?;
            }
        }
        Ok(())
    }
}

/// Pseudo-random ids below `vocab_size`; the same for the same seed.
pub fn random_ids(count: usize, vocab_size: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocab_size as u64) as u32
        })
        .collect()
}
