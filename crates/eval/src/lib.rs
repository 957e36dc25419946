//! Perplexity, answer overlap and baselines, each with an interval, measured through the engine.
//!
//! [`measure_loss`] gives the loss of texts unit by unit, [`LossReport`] sums it up as perplexity and bits per byte.
//! [`answer_questions`] asks a model, [`ItemScores`] compares an answer with its reference, [`AnswerScores`] averages.
//! [`baselines`] holds what a trained model should beat, measured on the same units, so that [`loss_difference`] and
//! [`mean_difference`] can pair them.

mod answers;
pub mod baselines;
mod error;
mod interval;
mod loss;
mod overlap;

pub use answers::{AnswerScores, ItemScores, answer_questions};
pub use error::EvalError;
pub use interval::{Estimate, bootstrap, mean_difference, mean_estimate};
pub use loss::{
    Document, LossReport, UnitLoss, WindowOptions, loss_difference, measure_divergence, measure_loss,
};
pub use overlap::{exact_match, rouge_l, token_f1};
