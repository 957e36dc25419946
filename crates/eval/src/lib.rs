//! Perplexity, answer overlap and baselines, each with an interval, measured through the engine.

mod answers;
pub mod baselines;
mod error;
mod interval;
mod loss;
mod overlap;

pub use answers::{AnswerScores, ItemScores, answer_questions};
pub use error::EvalError;
pub use interval::{Estimate, bootstrap, mean_difference, mean_estimate};
pub use loss::{Document, LossReport, UnitLoss, WindowOptions, loss_difference, measure_loss};
pub use overlap::{exact_match, rouge_l, token_f1};
