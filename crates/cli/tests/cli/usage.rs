//! Help, version, global flags.

use crate::common::{arg, command, model, shakti};

#[test]
fn the_version_is_the_packages() {
    assert_eq!(shakti(&["--version"]).ok(), format!("shakti {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_commands_help_has_an_example() {
    let commands: [&[&str]; 20] = [
        &["quickstart"],
        &["train", "pretrain"],
        &["train", "sft"],
        &["quantize"],
        &["export"],
        &["generate"],
        &["chat"],
        &["model", "info"],
        &["bench"],
        &["bench", "train"],
        &["perplexity"],
        &["plan"],
        &["tokenizer", "train"],
        &["tokenizer", "encode"],
        &["tokenizer", "decode"],
        &["data", "inspect"],
        &["data", "dedup"],
        &["data", "decontaminate"],
        &["data", "pii"],
        &["data", "canary"],
    ];
    for command in commands {
        let help = shakti(&[command, &["--help"]].concat()).ok();
        let example = format!("Example:\n  shakti {}", command.join(" "));
        assert!(help.contains(&example), "{help}");
    }
}

#[test]
fn wrong_usage_is_code_2() {
    shakti(&[]).refused();
    shakti(&["no-such-command"]).refused();
    assert!(shakti(&["generate", "--no-such-flag"]).refused().contains("--no-such-flag"));
    let message = shakti(&["model", "info", "shakti-nano", "--kernels", "mmx"]).refused();
    assert!(message.contains("`mmx`") && message.contains("scalar"), "{message}");
    shakti(&["model", "info", "shakti-nano", "--threads", "0"]).refused();
}

#[test]
fn the_environment_can_name_the_kernel_set() {
    let run = command()
        .args(["model", "info", "shakti-nano"])
        .env("SHAKTI_KERNELS", "mmx")
        .output()
        .expect("a run");
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("SHAKTI_KERNELS"));
}

#[test]
fn every_kernel_set_of_this_cpu_can_be_asked_for() {
    let model = model();
    for set in shakti_kernels::KernelSet::available() {
        eprintln!("kernel set {}", set.name());
        shakti(&["generate", arg(&model), "-p", "Asthma", "-n", "4", "--greedy", "--kernels", set.name()])
            .ok();
    }
}

#[test]
fn threads_beyond_the_cores_are_said_not_to_compute() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = (cores + 1).to_string();
    let tiny = [
        "--layers",
        "1",
        "--hidden",
        "16",
        "--ffn",
        "16",
        "--heads",
        "2",
        "--kv-heads",
        "1",
        "--vocab",
        "64",
        "--seq",
        "8",
    ];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shakti"));
    let run = command
        .args(["bench", "train", "--steps", "1", "--json", "--threads", &asked])
        .args(tiny)
        .output()
        .expect("it runs");
    let note = String::from_utf8(run.stderr).expect("text");
    assert_eq!(
        note,
        format!("warning: --threads {asked}: the system offers {cores} cores, so {cores} threads compute\n")
    );
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).expect("a report");
    assert_eq!(report["threads"], cores);
}
