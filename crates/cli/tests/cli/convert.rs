//! `shakti quantize` and `shakti export`: what is written speaks, what is refused leaves nothing.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{arg, fixture, model, repository, shakti};

/// Greedy text, short enough that no window or block pattern cuts anything.
fn greedy(model: &Path) -> Value {
    let args =
        ["generate", "-m", arg(model), "-p", "Asthma is", "-n", "12", "--greedy", "--ignore-eos", "--json"];
    shakti(&args).json()["ids"].clone()
}

#[test]
fn float_gguf_files_and_folders_speak_like_the_model_they_come_from() {
    let (model, gguf, folder) = (model(), fixture().join("exported.gguf"), fixture().join("exported"));
    let expected = greedy(&model);
    for (out, to) in [(&gguf, "gguf"), (&folder, "hf")] {
        let run = shakti(&["export", arg(&model), arg(out), "--to", to]);
        assert!(run.stderr.contains("warning: "), "windows and KV heads are told: {}", run.stderr);
        run.ok();
        assert_eq!(greedy(out), expected, "--to {to}");
        let message = shakti(&["export", arg(&model), arg(out), "--to", to]).refused();
        assert!(message.contains("output exists") && message.contains("--force"), "{message}");
    }
    let again = fixture().join("exported-again.gguf");
    shakti(&["export", arg(&gguf), arg(&again), "--to", "gguf"]).ok();
    assert_eq!(greedy(&again), expected, "from GGUF to GGUF");
}

#[test]
fn a_quantized_file_is_smaller_speaks_and_reports_every_tensor() {
    let model = model();
    for kind in ["q8_0", "q5_0", "q4_0", "q4_k_m", "q5_k_m"] {
        let out = fixture().join(format!("quantized-{kind}.gguf"));
        let report = shakti(&["quantize", arg(&model), arg(&out), "--type", kind, "--json"]).json();
        assert_eq!(report["file_bytes"], fs::metadata(&out).expect("the file").len(), "{kind}");
        let number = |name: &str| report[name].as_u64().expect("a number");
        assert!(number("weight_bytes") * 3 < number("f32_weight_bytes"), "{kind}");
        let tensors = report["tensors"].as_array().expect("a list");
        let sum: u64 = tensors.iter().filter_map(|tensor| tensor["bytes"].as_u64()).sum();
        assert_eq!(sum, number("weight_bytes"), "{kind}");
        // Rows of 64 and 96 hold no block of 256.
        let falls_back = tensors.iter().any(|tensor| tensor["instead_of"].is_string());
        assert!(falls_back || kind == "q8_0", "{kind}");
        let loss = |which: &str| report[which]["loss"]["value"].as_f64().expect("a number");
        assert!((loss("after") - loss("before")).abs() < 0.2 * loss("before"), "{kind}: {report}");
        assert_eq!(greedy(&out).as_array().expect("ids").len(), 12, "{kind}");
    }
}

#[test]
fn calibration_and_a_size_are_kept_and_reported() {
    let (model, text) = (model(), fixture().join("text.txt"));
    let plain = fixture().join("plain.gguf");
    let plain = shakti(&["quantize", arg(&model), arg(&plain), "--type", "q4_0", "--json"]).json();
    assert!(plain["tensors"][0].get("weighted_error").is_none() && plain.get("calibration_tokens").is_none());
    let calib = ["--calib", arg(&text), "--eval", arg(&text), "--json"];
    let out = fixture().join("calibrated.gguf");
    let args = ["quantize", arg(&model), arg(&out), "--type", "q4_0"];
    let report = shakti(&[&args[..], &calib].concat()).json();
    assert_eq!(report["file_bytes"], plain["file_bytes"], "the same blocks, other scales");
    assert!(report["calibration_tokens"].as_u64().expect("a number") > 10);
    assert!(report["kl_divergence"]["value"].as_f64().expect("a number") > 0.0, "{report}");
    assert_eq!(greedy(&out).as_array().expect("ids").len(), 12);

    let size = plain["file_bytes"].as_u64().expect("a number") + 10_000;
    let out = fixture().join("sized.gguf");
    let args = ["quantize", arg(&model), arg(&out), "--max-size", &size.to_string()];
    let report = shakti(&[&args[..], &calib].concat()).json();
    let length = fs::metadata(&out).expect("the file").len();
    assert_eq!(report["file_bytes"], length);
    assert!(length <= size && length > size / 2, "{length} of {size}");
    assert_eq!(greedy(&out).as_array().expect("ids").len(), 12);

    let never = fixture().join("never.gguf");
    let args = ["quantize", arg(&model), arg(&never)];
    let refused = |rest: &[&str]| shakti(&[&args[..], rest].concat()).refused();
    assert!(refused(&["--max-size", "1kB"]).contains("smallest"), "too small");
    assert!(refused(&["--max-size", "3 pounds"]).contains("unit"), "no unit");
    assert!(refused(&[]).contains("--type"), "neither type nor size");
    assert!(refused(&["--max-size", "1MB", "--type", "q4_0"]).contains("cannot be used with"), "both");
    let empty = fixture().join("empty.txt");
    fs::write(&empty, "").expect("a file");
    for flag in ["--calib", "--eval"] {
        let message = refused(&["--type", "q4_0", flag, arg(&empty)]);
        assert!(message.contains("empty.txt") && message.contains("tokens"), "{flag}: {message}");
    }
    assert!(!never.exists());
    // Before the calibration text is looked at.
    let args = ["quantize", arg(&model), arg(&out), "--type", "q4_0", "--calib", arg(&empty)];
    assert!(shakti(&args).refused().contains("output exists"));
}

#[test]
fn wrong_requests_are_refused_and_leave_nothing() {
    let (model, out) = (model(), fixture().join("never.gguf"));
    let message = shakti(&["quantize", arg(&model), arg(&out), "--type", "q3_x"]).refused();
    assert!(message.contains("q3_x") && message.contains("q4_0"), "{message}");
    let quantized = repository("golden/gguf/spm_q4_0.gguf");
    let message = shakti(&["quantize", arg(&quantized), arg(&out), "--type", "q8_0"]).refused();
    assert!(message.contains("--allow-requantize"), "{message}");
    let message = shakti(&["quantize", "no/such/model", arg(&out), "--type", "q8_0"]).refused();
    assert!(message.contains("no/such/model"), "{message}");
    let message = shakti(&["export", arg(&model), arg(&out), "--to", "hf", "--type", "q4_0"]).refused();
    assert!(message.contains("q4_0") && message.contains("hint: "), "{message}");
    assert!(!out.exists());
}
