//! What can go wrong with rewards.

use std::path::PathBuf;

/// An error of a reward.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// A section that cannot be used.
    #[error("`{key}`: {problem}")]
    Section {
        /// Path of the key in the recipe.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file that a reward needs.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A record whose answer the reward cannot use.
    #[error("reward `{kind}`: {problem} in the answer {answer:?}")]
    Answer {
        /// Kind of the reward.
        kind: &'static str,
        /// What is missing.
        problem: &'static str,
        /// The answer, cut short.
        answer: String,
    },
    /// A program that was to give rewards and did not.
    #[error("reward command `{command}`, line {line}: {problem}")]
    Command {
        /// Program and arguments.
        command: String,
        /// The line of its output that was awaited, counted from 1 since it was started.
        line: u64,
        /// What happened instead.
        problem: String,
    },
    /// From a reward model.
    #[error("the reward model cannot score")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The beginning of a text, for messages.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
