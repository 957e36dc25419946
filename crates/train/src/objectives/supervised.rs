//! Next tokens: of texts, or of the answers of conversations.

use std::time::Instant;

use shakti_data::{Batch, BatchLoader, Position};

use super::{Measures, Objective, Validation};
use crate::TrainError;
use crate::trainer::{StepResult, Trainer};

/// Cross entropy with what stands there.
pub(crate) struct Supervised {
    loader: BatchLoader,
    /// Batches of one step.
    micro_batches: usize,
    /// Held-out batches, the same ones each time.
    validation: Vec<Batch>,
}

impl Supervised {
    /// From the beginning of the loader's stream.
    pub fn new(loader: BatchLoader, micro_batches: usize, validation: Vec<Batch>) -> Self {
        Self { loader, micro_batches, validation }
    }
}

impl Objective for Supervised {
    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError> {
        let batches: Vec<_> = (0..self.micro_batches).map(|_| self.loader.next_batch()).collect();
        Ok((trainer.step(&batches)?, Measures::new()))
    }

    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        let loss = trainer.validate(&self.validation)?.mean();
        Ok(Some(Validation { loss, measures: Measures::new() }))
    }

    /// From the first batch: there may be many.
    fn validation_seconds(&self, trainer: &Trainer<'_>) -> Result<f64, TrainError> {
        let Some(first) = self.validation.first() else { return Ok(0.0) };
        let started = Instant::now();
        trainer.validate(std::slice::from_ref(first))?;
        let tokens: usize = self.validation.iter().map(|batch| batch.tokens.len()).sum();
        Ok(started.elapsed().as_secs_f64() * tokens as f64 / first.tokens.len() as f64)
    }

    fn position(&self) -> Position {
        self.loader.position()
    }

    fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        Ok(self.loader.restore(position)?)
    }
}
