//! Two systems that a trained model should beat: a bigram model, and the answer to the nearest training question.

mod bigram;
mod nearest;

pub use bigram::BigramModel;
pub use nearest::NearestQuestion;
