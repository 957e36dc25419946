//! `shakti quickstart`: the whole chain in seconds, with a model that has learnt nothing yet.

use crate::common::{Run, arg, shakti};
use crate::privacy::offline;

#[test]
fn the_chain_runs_offline_and_writes_its_report_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("quick");
    let args = ["quickstart", "--out", arg(&out), "--minutes", "0.05"];
    // Without a network interface, where the system allows a namespace without one.
    let run = offline(&args).map_or_else(|| shakti(&args), Run::new);
    let text = run.ok();
    assert_eq!(text.matches("\nQ: ").count(), 3, "{text}");
    assert!(text.contains("shakti chat -m") && text.contains("bigram"), "{text}");
    for name in [
        "report.md",
        "report.html",
        "summary.json",
        "model-q8_0.gguf",
        "model-q5_0.gguf",
        "model-q4_0.gguf",
        "loss.svg",
    ] {
        let metadata = std::fs::metadata(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077, 0, "{name} is the owner's");
    }
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["stages"].as_array().unwrap().len(), 6);
    let said = shakti(&["generate", arg(&out.join("model-q4_0.gguf")), "-p", "Asthma", "-n", "4"]).ok();
    assert!(!said.is_empty());
    let again = shakti(&args).refused();
    assert!(again.contains("exists already") && again.contains("--force"), "{again}");
    assert!(shakti(&["quickstart", "--minutes=-1"]).refused().contains("minutes"));
}
