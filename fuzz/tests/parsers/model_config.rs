//! `config.json`.

use shakti_fuzz::Target;
use shakti_model::ModelConfig;

use crate::{JSON_WORDS, golden};

#[test]
fn json() {
    let seeds =
        ["tiny_llama", "tiny_shakti", "tiny_layernorm"].map(|name| golden(&format!("{name}/config.json")));
    let target =
        Target { test: "model_config::json", seeds: seeds.into(), words: &JSON_WORDS, rounds: 10_000 };
    target.run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(config) = ModelConfig::from_json(text) else { return false };
        // What a caller does next, and the way back.
        let written = ModelConfig::from_json(&config.to_json()).expect("what was written is read");
        assert_eq!(written.to_json(), config.to_json());
        !config.parameters().is_empty()
    });
}
