//! `shakti model info`.

use crate::common::{arg, model, repository, shakti};

#[test]
fn presets_have_their_exact_parameter_counts() {
    let counts = [
        ("shakti-100m", 100_447_360u64, "100,447,360"),
        ("shakti-250m", 246_973_440, "246,973,440"),
        ("shakti-500m", 496_076_800, "496,076,800"),
        ("shakti-2.5b", 2_527_203_328, "2,527,203,328"),
    ];
    for (name, count, grouped) in counts {
        assert_eq!(shakti(&["model", "info", name, "--json"]).json()["parameters"], count);
        let text = shakti(&["model", "info", name]).ok();
        assert!(text.lines().any(|line| line == format!("{:<18} {grouped}", "parameters")), "{text}");
    }
}

#[test]
fn the_cost_of_a_token_follows_from_the_shape() {
    let info = shakti(&["model", "info", "shakti-100m", "--json"]).json();
    // 100M: KV heads [5, 2 x8, 5] of 64, keys and values, two bytes each: 26 * 64 * 2 * 2.
    assert_eq!(info["kv_bytes_per_token_f16"], 6656);
    assert_eq!(info["kv_heads"].as_array().expect("a list").len(), 10);
    assert_eq!(info["dense_equivalent_length"], 1024);
    let format = |name: &str| {
        info["formats"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|format| format["format"] == name)
            .expect("a format")
            .clone()
    };
    assert_eq!(format("f32")["file_bytes"], 4 * 100_447_360u64);
    assert_eq!(format("f16")["bytes_per_token"], format("f16")["file_bytes"], "the embedding is the head");
    let q4 = format("q4_0")["times_smaller_than_f32"].as_f64().expect("a number");
    assert!((4.0..8.0).contains(&q4), "{q4}");
}

#[test]
fn folders_and_files_are_described_too() {
    let model = model();
    for args in [["model", "info", arg(&model), "--json"], ["model", "info", "--json", "-m"]] {
        let args = if args[3] == "-m" { [&args[..], &[arg(&model)]].concat() } else { args.to_vec() };
        let info = shakti(&args).json();
        assert_eq!(info["hidden_size"], 64);
        assert_eq!(info["stored_bytes"], 4 * info["parameters"].as_u64().expect("a number"));
    }
    let file = repository("golden/gguf/bpe_q4_k_m.gguf");
    assert!(shakti(&["model", "info", arg(&file)]).ok().contains("stored weights"));
}

#[test]
fn what_is_neither_preset_nor_path_is_refused() {
    let message = shakti(&["model", "info", "shakti-9000b"]).refused();
    assert!(
        message.contains("`shakti-9000b`") && message.contains("hint: presets are shakti-nano"),
        "{message}"
    );
}
