//! Presets have the sizes of `docs/paper.md`; every key is read, inert, or refused by name.

use super::*;
use crate::Cost;

#[test]
fn presets_have_the_published_parameter_counts() {
    let counts = [
        ("shakti-100m", 100_447_360),
        ("shakti-250m", 246_973_440),
        ("shakti-500m", 496_076_800),
        ("shakti-2.5b", 2_527_203_328),
    ];
    for (name, parameters) in counts {
        assert_eq!(Cost::new(&preset(name).unwrap()).parameters, parameters, "{name}");
    }
    let kib = |name: &str| Cost::new(&preset(name).unwrap()).kv_bytes_per_token as f64 / 1024.0;
    assert_eq!(
        [kib("shakti-100m"), kib("shakti-250m"), kib("shakti-500m"), kib("shakti-2.5b")],
        [6.5, 18.0, 48.0, 64.0]
    );
    assert!(preset("shakti-1b").unwrap_err().to_string().contains("shakti-nano"));
}

#[test]
fn json_read_back_is_the_same_configuration() {
    for name in PRESETS {
        let mut config = preset(name).unwrap();
        (config.eos_token_ids, config.bos_token_id) = (vec![1, 6], Some(0));
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config, "{name}");
    }
}

#[test]
fn numbers_keep_their_last_bit() {
    // A quick reading of decimal digits takes this one for its lower neighbour.
    let mut config = preset("shakti-nano").unwrap();
    config.rope_theta = 1.1844674407370956e24;
    let read = ModelConfig::from_json(&config.to_json()).unwrap();
    assert_eq!(read.rope_theta.to_bits(), config.rope_theta.to_bits());
}

fn with(key: &str, value: serde_json::Value) -> Result<ModelConfig, ModelError> {
    let mut json: serde_json::Value =
        serde_json::from_str(&preset("shakti-nano").unwrap().to_json()).unwrap();
    json[key] = value;
    ModelConfig::from_json(&json.to_string())
}

#[test]
fn refusals_name_the_key_and_the_value() {
    let cases: [(&str, serde_json::Value, &str); 14] = [
        ("hidden_act", "gelu".into(), "gelu"),
        ("rope_scaling", serde_json::json!({"type": "yarn"}), "yarn"),
        ("rope_parameters", serde_json::json!({"rope_type": "llama3", "rope_theta": 1.0}), "llama3"),
        ("attention_dropout", 0.1.into(), "0.1"),
        ("logit_softcap", 30.into(), "30"),
        ("hidden_size", "wide".into(), "wide"),
        ("hidden_size", (-1).into(), "-1"),
        ("head_dim", 31.into(), "31"),
        ("num_kv_heads", serde_json::json!([4, 2]), "2 entries"),
        ("num_kv_heads", serde_json::json!([3, 2, 2, 2, 2, 4]), "3"),
        ("layer_types", serde_json::json!(["linear_attention"]), "linear_attention"),
        ("block_sparse", serde_json::json!({"block_size": 32}), "32"),
        ("model_type", "mamba".into(), "mamba"),
        ("eos_token_id", 4096.into(), "4096"),
    ];
    for (key, value, found) in cases {
        let message = with(key, value).unwrap_err().to_string();
        let place = if key == "eos_token_id" { "token_id" } else { key.trim_end_matches("s") };
        assert!(message.contains(place) || message.contains("num_key_value_heads"), "{key}: {message}");
        assert!(message.contains(found), "{key}: {message}");
    }
    assert!(with("transformers_version", "5.0".into()).is_ok(), "inert");
    assert!(with("rope_scaling", serde_json::Value::Null).is_ok(), "null is absent");
    assert!(ModelConfig::from_json("[]").is_err() && ModelConfig::from_json("{").is_err());
    let missing = ModelConfig::from_json(r#"{"num_hidden_layers": 1}"#).unwrap_err().to_string();
    assert!(missing.contains("hidden_size"), "{missing}");
}
