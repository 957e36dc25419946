//! Answers of a model to held-out questions, and their overlap with the references.

use serde::Serialize;
use shakti_engine::{GenerateOptions, Generation, Message, Model, generate_batch};

use crate::EvalError;
use crate::interval::{Estimate, mean_estimate};
use crate::overlap::{exact_match, rouge_l, token_f1};

/// Goes on with each conversation, which ends with a question; many run at once, each answer is the one it would get
/// alone.
///
/// # Errors
/// A model without a chat template, a question that does not fit the context.
pub fn answer_questions(
    model: &Model,
    conversations: &[&[Message]],
    options: &GenerateOptions,
    batch_size: usize,
) -> Result<Vec<Generation>, EvalError> {
    let prompt = |messages: &&[Message]| model.chat_prompt(messages);
    let prompts: Vec<Vec<u32>> = conversations.iter().map(prompt).collect::<Result<_, _>>()?;
    Ok(generate_batch(model, &prompts, options, batch_size)?)
}

/// Scores of one answer, each in 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ItemScores {
    /// See [`token_f1`].
    pub token_f1: f64,
    /// See [`rouge_l`].
    pub rouge_l: f64,
    /// See [`exact_match`].
    pub exact_match: f64,
}

impl ItemScores {
    /// Compares an answer with its reference.
    pub fn new(answer: &str, reference: &str) -> Self {
        Self {
            token_f1: token_f1(answer, reference),
            rouge_l: rouge_l(answer, reference),
            exact_match: exact_match(answer, reference),
        }
    }
}

/// Mean scores over questions with 95% intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnswerScores {
    /// Mean token F1.
    pub token_f1: Estimate,
    /// Mean ROUGE-L.
    pub rouge_l: Estimate,
    /// Share of exact matches.
    pub exact_match: Estimate,
}

impl AnswerScores {
    /// Averages items.
    ///
    /// # Errors
    /// No items.
    pub fn new(items: &[ItemScores], seed: u64) -> Result<Self, EvalError> {
        if items.is_empty() {
            return Err(EvalError::Empty("no question was answered"));
        }
        let mean =
            |score: fn(&ItemScores) -> f64| mean_estimate(&items.iter().map(score).collect::<Vec<_>>(), seed);
        Ok(Self {
            token_f1: mean(|item| item.token_f1),
            rouge_l: mean(|item| item.rouge_l),
            exact_match: mean(|item| item.exact_match),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_means_over_questions() {
        let items = [ItemScores::new("fever", "fever"), ItemScores::new("cough", "fever")];
        let scores = AnswerScores::new(&items, 0).expect("two items");
        assert_eq!((scores.exact_match.value, scores.token_f1.value, scores.rouge_l.value), (0.5, 0.5, 0.5));
        assert_eq!(scores.exact_match.n, 2);
        assert!(matches!(AnswerScores::new(&[], 0), Err(EvalError::Empty(_))));
    }
}
