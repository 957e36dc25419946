//! Sessions over a loaded model: prefill, decode, sampling, streamed text, chat; no HTTP, no training.
//!
//! [`Model::open`] maps a GGUF file or a checkpoint folder. A [`Session`] holds one sequence and its KV cache;
//! [`generate`] continues a prompt in it and streams text, [`generate_batch`] continues many prompts at once, [`Chat`]
//! keeps a conversation. [`rollouts`] samples for training, from a model that may still be in training. Underneath, a [`Network`] is the model without text: [`Session::feed`] turns ids into scores,
//! a [`Sampler`] picks from them, [`Network::losses`] measures.
//!
//! A sequence gets the same bits alone or in a batch, fed at once or token by token, with any number of threads.

mod chat;
mod error;
mod generate;
mod model;
mod network;
mod rng;
mod rollout;
mod sampler;
mod session;
mod stop;
mod vocabulary;

pub use chat::{Answer, Chat};
pub use error::EngineError;
pub use generate::{GenerateOptions, Generation, GenerationStats, StopReason, generate, generate_batch};
pub use model::{LoadOptions, Model};
pub use network::divergence::divergence;
pub use network::{Network, ScoredWindow};
pub use rng::Rng;
pub use rollout::{Rollout, RolloutOptions, RolloutProgress, rollouts};
pub use sampler::{Sampler, SamplerOptions, argmax};
pub use session::{Session, feed_batch};
pub use shakti_kernels::KvType;
pub use shakti_kernels::blocks::DType;
pub use shakti_model::{CacheMode, LossSum};
pub use shakti_tokenizer::Message;
pub use stop::StopStrings;
