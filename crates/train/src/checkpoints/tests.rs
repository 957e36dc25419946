//! A kill before any file operation of a save leaves the newest complete checkpoint; damage is named and skipped.

use std::sync::Arc;

use shakti_model::{Layout, Parameters};
use tempfile::TempDir;

use super::*;
use crate::optimizer::OptimizerSettings;
use crate::optimizer::tests::config;
use crate::recipe::{MuonSection, OptimizerKind};

/// Ends the process's life before operation `at`: neither it nor any later one happens.
struct KilledAt {
    at: usize,
    done: Vec<&'static str>,
}

impl Operations for KilledAt {
    fn run(
        &mut self,
        what: &'static str,
        action: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        if self.done.len() >= self.at {
            return Err(TrainError::checkpoint(Path::new(""), "killed"));
        }
        self.done.push(what);
        action()
    }
}

/// Operation `at` fails as on a full disk, after it left half a file; later ones work.
struct FullAt {
    at: usize,
    count: usize,
    folder: PathBuf,
}

impl Operations for FullAt {
    fn run(
        &mut self,
        _what: &'static str,
        action: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        self.count += 1;
        if self.count - 1 != self.at {
            return action();
        }
        // Absent before the folder is created and after it is renamed.
        let _ = fs::write(self.folder.join("half a file"), b"half");
        Err(TrainError::file(&self.folder, "write")(std::io::ErrorKind::StorageFull.into()))
    }
}

const SETTINGS: OptimizerSettings = OptimizerSettings {
    kind: OptimizerKind::AdamW,
    muon: MuonSection { momentum: 0.95, iterations: 5 },
    betas: [0.9, 0.95],
    eps: 1e-8,
    weight_decay: 0.0,
    clip_grad_norm: 0.0,
    max_grad_norm_ratio: 0.0,
    dead_gradient_steps: 0,
};

fn specs() -> Vec<ParamSpec> {
    config().parameters()
}

/// An optimizer whose values all differ.
fn optimizer(value: f32) -> Optimizer {
    let mut optimizer = Optimizer::new(&Parameters::zeros(Arc::new(Layout::new(&config()))), SETTINGS);
    let specs = specs();
    let lengths: Vec<usize> = optimizer.tensors(&specs).map(|tensor| tensor.values.byte_len() / 4).collect();
    let mut next = lengths.iter().enumerate();
    optimizer.fill(|| {
        let (tensor, len) = next.next().expect("a tensor");
        (0..*len).flat_map(|index| (value + (1000 * tensor + index) as f32).to_le_bytes()).collect()
    });
    optimizer
}

fn contents(optimizer: &Optimizer) -> Vec<(String, Vec<u8>)> {
    optimizer.tensors(&specs()).map(|tensor| (tensor.name, tensor.values.bytes())).collect()
}

fn state(step: u64, optimizer: &Optimizer) -> TrainingState {
    TrainingState {
        objective_bits: [("kl".to_owned(), 0.1f64.to_bits())].into(),
        version: STATE_VERSION,
        step,
        tokens_seen: 100 * step,
        data_position: shakti_data::Position { fingerprint: "f".into(), batches: step, parts: Vec::new() },
        recipe_sha256: "0".repeat(64),
        seed: u64::MAX,
        kernel_set: "scalar".into(),
        usual_norm_bits: (1.0f64 / 3.0).to_bits(),
        zero_gradient_steps: vec![step; optimizer.memory.zero_steps.len()],
    }
}

fn write_model(folder: &Path) -> Result<(), TrainError> {
    fs::write(folder.join("model.safetensors"), b"weights").map_err(TrainError::file(folder, "write"))
}

fn save(
    checkpoints: &Checkpoints,
    operations: &mut dyn Operations,
    step: u64,
) -> Result<PathBuf, TrainError> {
    let optimizer = optimizer(step as f32);
    checkpoints.save_with(operations, &state(step, &optimizer), (&optimizer, &specs()), &mut write_model)
}

/// A run folder with checkpoints of steps 1 and 2.
fn with_two(keep: usize) -> (TempDir, Checkpoints) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints::new(folder.path(), keep);
    (1..=2).for_each(|step| {
        save(&checkpoints, &mut Uninterrupted, step).expect("a checkpoint");
    });
    (folder, checkpoints)
}

fn newest(checkpoints: &Checkpoints) -> (Option<(u64, PathBuf)>, Vec<String>) {
    let mut warnings = Vec::new();
    let newest = checkpoints.newest(&mut |warning| warnings.push(warning.to_owned()));
    (newest.expect("a list"), warnings)
}

fn newest_step(checkpoints: &Checkpoints) -> Option<u64> {
    let (newest, warnings) = newest(checkpoints);
    assert!(warnings.is_empty(), "{warnings:?}");
    newest.map(|(step, path)| {
        let mut read = optimizer(0.0);
        let state = load_state(&path, &mut read, &specs()).expect("a readable state");
        let written = optimizer(state.step as f32);
        assert_eq!(contents(&read), contents(&written));
        assert_eq!((state.step, read.memory.steps), (step, step));
        assert_eq!((read.memory.usual_norm, state.seed), (1.0 / 3.0, u64::MAX));
        step
    })
}

#[test]
fn a_kill_before_any_operation_leaves_the_newest_checkpoint_whole() {
    let mut operations = 0;
    loop {
        let (folder, checkpoints) = with_two(1);
        // The first checkpoint has been pruned, the second stays until the third is complete.
        let mut killed = KilledAt { at: operations, done: Vec::new() };
        let result = save(&checkpoints, &mut killed, 3);
        let renamed = killed.done.contains(&"rename");
        assert_eq!(
            newest_step(&checkpoints),
            Some(if renamed { 3 } else { 2 }),
            "killed after {:?}",
            killed.done
        );
        // The next start cleans up and can save the same step again.
        checkpoints.clean().expect("a clean folder");
        save(&checkpoints, &mut Uninterrupted, 3).expect("the same step again");
        assert_eq!(newest_step(&checkpoints), Some(3));
        assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1, "only checkpoint-3 is left");
        if result.is_ok() {
            break;
        }
        operations += 1;
    }
    assert!(operations > 10, "only {operations} operations");
}

#[test]
fn a_full_disk_at_any_operation_keeps_the_old_checkpoint_and_reports() {
    for at in 0.. {
        let (folder, checkpoints) = with_two(2);
        let temporary = folder.path().join(".checkpoint-3.tmp");
        let mut full = FullAt { at, count: 0, folder: temporary.clone() };
        let result = save(&checkpoints, &mut full, 3);
        let Err(error) = result else { break };
        assert!(error.to_string().contains("cannot write"), "{error}");
        let cause =
            std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull));
        assert!(newest_step(&checkpoints) >= Some(2));
        assert!(!temporary.exists(), "the unfinished one is removed");
    }
}

#[test]
fn only_the_newest_stay() {
    let (_folder, checkpoints) = with_two(2);
    save(&checkpoints, &mut Uninterrupted, 10).expect("a checkpoint");
    assert_eq!(checkpoints.steps().expect("a list"), [2, 10]);
}

#[test]
fn a_damaged_checkpoint_is_named_skipped_and_overwritten_later() {
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 4] = [
        ("training_state.safetensors", &|file| {
            let mut bytes = fs::read(file).expect("bytes");
            *bytes.last_mut().expect("a byte") ^= 1;
            fs::write(file, bytes).expect("a flipped bit");
        }),
        ("model.safetensors", &|file| fs::write(file, b"weight").expect("a cut file")),
        ("training_state.json", &|file| fs::remove_file(file).expect("a lost file")),
        ("checksums.sha256", &|file| fs::remove_file(file).expect("no checksums")),
    ];
    for (name, damage) in damages {
        let (_folder, checkpoints) = with_two(2);
        damage(&checkpoints.path(2).join(name));
        let (newest, warnings) = newest(&checkpoints);
        assert_eq!(newest.map(|(step, _)| step), Some(1), "{name}");
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.contains("checkpoint-2") && warning.contains(name), "{warning}");
        // A run that goes on from 1 and saves 2 again replaces it; one that saves 3 first keeps 1 until then.
        save(&checkpoints, &mut Uninterrupted, 2).expect("a checkpoint");
        assert_eq!(newest_step(&checkpoints), Some(2));
    }
}

#[test]
fn a_damaged_later_checkpoint_does_not_push_out_a_good_one() {
    let (_folder, checkpoints) = with_two(1);
    save(&checkpoints, &mut Uninterrupted, 9).expect("a checkpoint");
    fs::write(checkpoints.path(9).join("model.safetensors"), b"x").expect("damage");
    save(&checkpoints, &mut Uninterrupted, 5).expect("a checkpoint");
    let (newest, warnings) = newest(&checkpoints);
    assert_eq!((newest.map(|(step, _)| step), warnings.len()), (Some(5), 1));
}

#[test]
fn a_state_of_another_model_or_version_is_refused_by_name() {
    let (_folder, checkpoints) = with_two(2);
    let path = checkpoints.path(2);
    let mut config = config();
    config.vocab_size = 9;
    let params = Parameters::zeros(Arc::new(Layout::new(&config)));
    let mut other = Optimizer::new(&params, SETTINGS);
    let error = load_state(&path, &mut other, &config.parameters()).expect_err("another shape");
    let message = error.to_string();
    assert!(
        message.contains("`exp_avg.model.embed_tokens.weight`: expected F32 [9, 4], found F32 [8, 4]"),
        "{message}"
    );
    let file = path.join(STATE_FILE);
    let text = fs::read_to_string(&file).expect("the state");
    for (old, new, expected) in [
        ("\"version\": 1", "\"version\": 2", "version 2, expected 1"),
        ("\"seed\"", "\"sead\"", "unknown field `sead`"),
        ("\"step\": 2", "\"step\": -2", "invalid value"),
    ] {
        fs::write(&file, text.replacen(old, new, 1)).expect("a changed state");
        let error =
            load_state(&path, &mut optimizer(0.0), &specs()).expect_err("a changed state").to_string();
        assert!(error.contains(STATE_FILE) && error.contains(expected), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_them() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, checkpoints) = with_two(2);
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    let path = checkpoints.path(2);
    assert_eq!(mode(&path), 0o700);
    for name in [STATE_FILE, MEANS_FILE, "checksums.sha256"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}
