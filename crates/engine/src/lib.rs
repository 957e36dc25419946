//! Sessions over a loaded model: prefill, decode, sampling, streamed text, chat; no HTTP, no training.

mod chat;
mod error;
mod generate;
mod model;
mod network;
mod rng;
mod sampler;
mod session;
mod stop;

pub use chat::{Answer, Chat};
pub use error::EngineError;
pub use generate::{GenerateOptions, Generation, GenerationStats, StopReason, generate, generate_batch};
pub use model::Model;
pub use network::{Network, ScoredWindow};
pub use rng::Rng;
pub use sampler::{Sampler, SamplerOptions, argmax};
pub use session::{Session, feed_batch};
pub use shakti_model::{CacheMode, LossSum};
pub use shakti_tokenizer::Message;
pub use stop::{StopStrings, Watched};
