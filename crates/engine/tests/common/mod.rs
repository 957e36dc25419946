//! A small model that speaks nonsense: random weights and a vocabulary learnt from a few sentences.

use std::sync::Arc;

use shakti_engine::{Model, Network};
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{Layout, ModelConfig, Parameters, preset};
use shakti_tokenizer::{Tokenizer, TrainOptions, train};

/// Text to learn the vocabulary from, in several scripts.
const TEXT: &str = "Asthma is a disease of the lungs. What is asthma? The lungs take up air. \
    El asma es una enfermedad de los pulmones. दमा फेफड़ों की बीमारी है। ஆஸ்துமா நுரையீரல் நோய்.";

/// A vocabulary with our control tokens and chat template.
pub fn tokenizer() -> Arc<Tokenizer> {
    let options = TrainOptions { vocab_size: 340, min_frequency: 1 };
    let files = train([TEXT].into_iter(), &options).expect("a text to learn from");
    let tokenizer = Tokenizer::from_json(&files.tokenizer_json, &files.tokenizer_config_json);
    Arc::new(tokenizer.expect("what training wrote"))
}

/// A configuration for that vocabulary with every attention pattern.
pub fn config(vocab_size: usize) -> ModelConfig {
    let mut config = preset("shakti-nano").expect("a preset");
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 4;
    config.num_kv_heads = vec![2, 1];
    config.head_dim = 16;
    config.layer_types.truncate(2);
    config.sliding_window = 48;
    config.vocab_size = vocab_size;
    config.max_position_embeddings = 256;
    config.initializer_range = 0.3;
    config.eos_token_ids.clear();
    config
}

/// The model of a configuration.
pub fn model_of(config: &ModelConfig, tokenizer: &Arc<Tokenizer>) -> Arc<Model> {
    let params = Parameters::init(config, Arc::new(Layout::new(config)), 5);
    let cpu = Arc::new(Cpu::new(KernelSet::best().expect("a kernel set"), 1));
    let network = Arc::new(Network::load(config.clone(), &params, cpu).expect("a valid model"));
    Arc::new(Model::new(network, tokenizer.clone()).expect("a vocabulary that fits"))
}

/// The default model.
pub fn model() -> Arc<Model> {
    let tokenizer = tokenizer();
    model_of(&config(tokenizer.vocab_size()), &tokenizer)
}
