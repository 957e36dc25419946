//! What PyTorch and TRL gave, read for tests.

use std::path::Path;

/// A file of `golden/objectives`.
pub fn golden(name: &str) -> serde_json::Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/objectives").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

/// A list of numbers.
pub fn list(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// Both are float64.
pub fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
        "{what}: {found}, expected {expected}"
    );
}
