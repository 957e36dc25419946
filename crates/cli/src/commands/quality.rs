//! What a conversion cost: perplexity before and after, and the divergence between the two.

use serde::Serialize;
use shakti_engine::Model;
use shakti_eval::{Document, Estimate, LossReport, WindowOptions, measure_divergence, measure_loss};

use crate::failure::Failure;

/// A file as it will be used, against what it came from.
#[derive(Serialize)]
pub struct Quality {
    pub before: LossReport,
    pub after: LossReport,
    /// Mean nats per token of the second measured against the first, 95% interval over windows.
    pub kl_divergence: Estimate,
}

impl Quality {
    /// Measures both on the same ids.
    pub fn measure(original: &Model, converted: &Model, ids: &[u32]) -> Result<Self, Failure> {
        let documents = [Document { ids, scored_from: 1 }];
        let windows = WindowOptions::of(original);
        let loss = |model: &Model| -> Result<LossReport, Failure> {
            Ok(LossReport::new(&measure_loss(model, &documents, windows)?, 0)?)
        };
        Ok(Self {
            before: loss(original)?,
            after: loss(converted)?,
            kl_divergence: measure_divergence((converted, original), &documents, windows, 0)?,
        })
    }

    /// Two lines for people.
    pub fn text(&self) -> String {
        let (before, after) = (self.before.perplexity.value, self.after.perplexity.value);
        format!(
            "perplexity  {before:.3} before, {after:.3} after ({:+.2}%), over {} tokens\n\
             divergence  {} nats of KL a token, 95% interval over windows",
            100.0 * (after / before - 1.0),
            self.after.tokens,
            self.kl_divergence
        )
    }
}
