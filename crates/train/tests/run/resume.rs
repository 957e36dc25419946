//! A run that was killed or stopped anywhere goes on with the same bits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use shakti_kernels::{Cpu, KernelSet};
use shakti_train::{MODEL_FOLDER, Pace, RunSettings, Stage, Start, TrainError, train};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe, run, run_on};

/// Trains until the observer panics after a step, as a kill would end it.
fn killed(data: &Path, out: &Path, start: Start, threads: usize, after: u64) {
    let cpu = cpu(threads);
    let mut heard = Heard { kill_after: Some(after), ..Heard::default() };
    let run = || run_on(&cpu, recipe(data, out, &[]), start, &mut heard);
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "the run was not killed after step {after}");
}

#[test]
fn a_killed_run_goes_on_with_the_same_bits_for_any_cut_and_number_of_threads() {
    let data = corpus();
    let whole = data.path().join("whole");
    let outcome = run(recipe(data.path(), &whole, &[]), Start::New).expect("a run");
    assert_eq!((outcome.step, outcome.steps), (9, 9));
    let (expected, model) = (curve(&whole), bytes_of(&whole.join(MODEL_FOLDER)));
    assert_eq!(expected.iter().map(|line| line.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(expected.iter().filter_map(|line| line.5).count(), 3, "validations after steps 4, 8 and 9");
    let last = bytes_of(&whole.join("checkpoint-9"));
    for (cut, second, threads) in [(1, 2, [1, 3, 2]), (2, 3, [2, 1, 1]), (5, 8, [3, 2, 1]), (8, 9, [1, 1, 4])]
    {
        let out = data.path().join(format!("cut-{cut}"));
        killed(data.path(), &out, Start::New, threads[0], cut);
        killed(data.path(), &out, RESUME, threads[1], second);
        let mut heard = Heard::default();
        run_on(&cpu(threads[2]), recipe(data.path(), &out, &[]), RESUME, &mut heard).expect("the rest");
        let resumed = heard.resumed.unwrap_or(0);
        // The step that was killed had not been saved yet.
        assert_eq!(resumed, (second - 1) / 2 * 2);
        assert_eq!(heard.lines.first().map(|line| line.step), Some(resumed + 1));
        assert_eq!(curve(&out), expected, "cut after {cut} and {second}");
        assert!(
            bytes_of(&out.join(MODEL_FOLDER)) == model,
            "final weights differ, cut after {cut} and {second}"
        );
        assert!(bytes_of(&out.join("checkpoint-9")) == last, "the last checkpoint differs, cut after {cut}");
    }
}

#[test]
fn a_stop_request_saves_and_resuming_goes_on_with_the_same_bits() {
    let data = corpus();
    let (whole, out) = (data.path().join("whole"), data.path().join("stopped"));
    run(recipe(data.path(), &whole, &[]), Start::New).expect("a run");
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let cpu = cpu(1);
    let settings = RunSettings {
        recipe: recipe(data.path(), &out, &[]),
        cpu: &cpu,
        start: Start::New,
        stop: &stop,
        ranks: None,
        pace: Pace::default(),
    };
    let outcome = train(settings, Stage::Pretrain, &mut ()).expect("a clean end");
    assert_eq!((outcome.step, outcome.model), (3, None));
    assert_eq!(outcome.checkpoint, Some(out.join("checkpoint-3")));
    let outcome = run(recipe(data.path(), &out, &[]), RESUME).expect("the rest");
    assert_eq!(outcome.model, Some(out.join(MODEL_FOLDER)));
    assert_eq!(curve(&out), curve(&whole));
    assert!(bytes_of(&out.join(MODEL_FOLDER)) == bytes_of(&whole.join(MODEL_FOLDER)));
    // Resuming a finished run changes nothing.
    let before = bytes_of(&out.join(MODEL_FOLDER));
    let outcome = run(recipe(data.path(), &out, &[]), RESUME).expect("nothing to do");
    assert_eq!((outcome.step, outcome.last), (9, None));
    assert!(bytes_of(&out.join(MODEL_FOLDER)) == before);
}

#[test]
fn a_damaged_checkpoint_is_skipped_with_a_warning_and_the_bits_stay() {
    let data = corpus();
    let (whole, out) = (data.path().join("whole"), data.path().join("damaged"));
    run(recipe(data.path(), &whole, &[]), Start::New).expect("a run");
    killed(data.path(), &out, Start::New, 2, 7);
    let file = out.join("checkpoint-6/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&file, bytes).expect("a flipped bit");
    let mut heard = Heard::default();
    run_on(&cpu(2), recipe(data.path(), &out, &[]), RESUME, &mut heard).expect("the rest");
    assert_eq!(heard.resumed, Some(4));
    let [warning] = heard.warnings.as_slice() else { panic!("{:?}", heard.warnings) };
    assert!(warning.contains("checkpoint-6") && warning.contains("model.safetensors"), "{warning}");
    assert_eq!(curve(&out), curve(&whole));
    assert!(bytes_of(&out.join(MODEL_FOLDER)) == bytes_of(&whole.join(MODEL_FOLDER)));
}

#[test]
fn another_kernel_set_needs_a_word_and_is_reported() {
    let data = corpus();
    let out = data.path().join("out");
    killed(data.path(), &out, Start::New, 1, 3);
    let best = KernelSet::best().expect("a kernel set").name();
    let Some(other) = KernelSet::available().iter().find(|set| set.name() != best) else {
        println!("skipped: this CPU has one kernel set");
        return;
    };
    let other = Arc::new(Cpu::new(other, 1));
    let run = |start, heard: &mut Heard| run_on(&other, recipe(data.path(), &out, &[]), start, heard);
    let error = run(RESUME, &mut Heard::default()).expect_err("another kernel set");
    assert!(matches!(error, TrainError::Resume { .. }));
    assert!(error.to_string().contains(&format!("kernel set `{}`", other.kernels.name())), "{error}");
    let mut heard = Heard::default();
    run(Start::Resume { allow_other_kernels: true }, &mut heard).expect("allowed");
    assert!(
        heard.warnings.iter().any(|warning| warning.contains(other.kernels.name())),
        "{:?}",
        heard.warnings
    );
}
