//! `shakti plan`.

use serde_json::Value;

use crate::common::{arg, model, shakti};

fn format<'a>(report: &'a Value, name: &str) -> &'a Value {
    let formats = report["formats"].as_array().expect("a list");
    formats.iter().find(|format| format["format"] == name).expect("a format")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

#[test]
fn figures_given_lead_to_the_cost_models_prediction() {
    let given = ["--ram", "0.2", "--bandwidth", "10", "--gflops", "100000"];
    let args = ["plan", "shakti-100m", "--json", "--prompt", "1", "--gen", "1"];
    let report = shakti(&[&args[..], &given].concat()).json();
    let info = shakti(&["model", "info", "shakti-100m", "--json"]).json();
    for size in info["formats"].as_array().expect("a list") {
        let plan = format(&report, size["format"].as_str().expect("a name"));
        assert_eq!(plan["file_bytes"], size["file_bytes"]);
        // Two visible keys are nothing beside the weights.
        let ceiling = 10e9 / number(size, "bytes_per_token");
        let ratio = number(plan, "decode_tokens_per_s") / ceiling;
        assert!((0.999..=1.0).contains(&ratio), "{ratio}: {plan}");
        assert!(number(plan, "resident_bytes") > number(plan, "file_bytes"));
        assert_eq!(plan["fits"], number(plan, "resident_bytes") <= 0.2e9);
        assert!(plan["measured_decode_tokens_per_s"].is_null());
    }
    assert_eq!(
        (&format(&report, "f32")["fits"], &format(&report, "q4_0")["fits"]),
        (&false.into(), &true.into())
    );
    let text = shakti(&[&["plan", "shakti-100m"], &given[..]].concat()).ok();
    assert!(text.lines().any(|line| line.starts_with("f32") && line.ends_with("does not fit")), "{text}");
}

#[test]
fn devices_are_named_with_their_source() {
    let report = shakti(&["plan", "shakti-500m", "--device", "raspberry-pi-5", "--json"]).json();
    assert_eq!(report["device"], "raspberry-pi-5");
    assert!(report["source"].as_str().is_some_and(|source| source.contains("LPDDR4X-4267")));
    let q4 = format(&report, "q4_0");
    assert!(number(q4, "decode_tokens_per_s") < 17.1e9 / number(q4, "file_bytes"));
    let message = shakti(&["plan", "shakti-500m", "--device", "abacus"]).refused();
    assert!(message.contains("`abacus`") && message.contains("raspberry-pi-5, iphone-14"), "{message}");
}

#[test]
fn this_machine_is_measured_and_the_formats_are_run() {
    let report = shakti(&["plan", arg(&model()), "--prompt", "64", "--gen", "8", "--json"]).json();
    for plan in report["formats"].as_array().expect("a list") {
        for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "first_token_s"] {
            assert!(number(plan, key) > 0.0 && number(plan, &format!("measured_{key}")) > 0.0, "{plan}");
        }
        assert!(number(plan, "bandwidth_bytes_per_s") > 1e8 && number(plan, "operations_per_s") > 1e7);
    }
    let report = shakti(&["plan", arg(&model()), "--prompt", "64", "--predict-only", "--json"]).json();
    assert!(format(&report, "q8_0")["measured_decode_tokens_per_s"].is_null());
}

#[test]
fn what_cannot_be_planned_is_refused() {
    assert!(shakti(&["plan", "shakti-9000b"]).refused().contains("neither a preset nor a path"));
    assert!(shakti(&["plan", "shakti-100m", "--ram", "8"]).refused().contains("--bandwidth"));
    let given = ["plan", "shakti-100m", "--ram", "8", "--bandwidth", "0", "--gflops", "10"];
    assert!(shakti(&given).refused().contains("--bandwidth 0: expected a positive number"));
    shakti(&["plan", "shakti-100m", "--device", "xeon", "--ram", "8", "--bandwidth", "1", "--gflops", "1"])
        .refused();
    let message = shakti(&["plan", "shakti-100m", "--device", "xeon", "--prompt", "4090"]).refused();
    assert!(message.contains("context, 4096"), "{message}");
}
