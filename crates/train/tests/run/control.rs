//! Early end, best checkpoints, averages, event files, rest and pauses: none of them changes the bits of a resumed run.

use std::path::Path;
use std::time::{Duration, Instant};

use shakti_checkpoint::safetensors::SafetensorsFile;
use shakti_train::{
    Event, MODEL_FOLDER, Observer, Pace, PowerSupplies, RunSettings, Stage, Start, TENSORBOARD_FOLDER, train,
};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe, run, run_on};

/// Steps that have a checkpoint, ascending.
fn checkpoints(out: &Path) -> Vec<u64> {
    shakti_train::Checkpoints::new(out, 1).steps().expect("a list")
}

fn weights(folder: &Path) -> Vec<f32> {
    let file = SafetensorsFile::open(&folder.join("model.safetensors")).expect("weights");
    let bytes = file.tensors().iter().flat_map(|tensor| file.bytes(tensor).as_chunks::<4>().0);
    bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Runs to the end, once whole and once killed after `kill` and resumed; both must agree. Returns what was heard.
fn whole_and_resumed(changes: &[&str], kill: u64) -> (tempfile::TempDir, Heard) {
    let data = corpus();
    let (whole, out) = (data.path().join("whole"), data.path().join("killed"));
    let mut heard = Heard::default();
    run_on(&cpu(2), recipe(data.path(), &whole, changes), Start::New, &mut heard).expect("a run");
    let killed = std::panic::catch_unwind(|| {
        let mut heard = Heard { kill_after: Some(kill), ..Heard::default() };
        run_on(&cpu(1), recipe(data.path(), &out, changes), Start::New, &mut heard)
    });
    assert!(killed.is_err(), "killed after step {kill}");
    run(recipe(data.path(), &out, changes), RESUME).expect("the rest");
    assert_eq!(curve(&out), curve(&whole));
    assert_eq!(checkpoints(&out), checkpoints(&whole));
    assert!(bytes_of(&out.join(MODEL_FOLDER)) == bytes_of(&whole.join(MODEL_FOLDER)));
    (data, heard)
}

#[test]
fn a_run_whose_validations_do_not_improve_ends_early() {
    // No loss falls by ten nats, so every validation after the first is in vain.
    let changes = ["train.validate_every=1", "control.patience=3", "control.min_improvement=10.0"];
    let (data, heard) = whole_and_resumed(&changes, 3);
    assert_eq!(heard.lines.len(), 4);
    assert_eq!(heard.exhausted.map(|(step, _)| step), Some(4));
    assert_eq!(checkpoints(&data.path().join("whole")).last(), Some(&4), "where it ended is saved");
}

/// A learning rate that makes the loss fall and rise again.
const RISING: [&str; 6] = [
    "train.validate_every=1",
    "train.peak_learning_rate=0.3",
    "train.min_learning_rate_share=1.0",
    "train.save_every=4",
    "train.keep_checkpoints=1",
    "control.keep_best=2",
];

/// Steps by validation loss, the best first.
fn by_loss(heard: &Heard) -> Vec<u64> {
    let mut lines: Vec<(f64, u64)> =
        heard.lines.iter().map(|line| (line.validation_loss.expect("a loss"), line.step)).collect();
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    lines.into_iter().map(|(_, step)| step).collect()
}

#[test]
fn the_best_checkpoints_stay_and_the_run_can_end_with_the_best() {
    let (data, heard) = whole_and_resumed(&[&RISING[..], &["control.final_model=best"]].concat(), 6);
    let best = by_loss(&heard);
    let mut kept = vec![best[0], best[1], 9];
    kept.sort_unstable();
    kept.dedup();
    let out = data.path().join("whole");
    assert_eq!(checkpoints(&out), kept);
    assert_ne!(best[0], 9, "the last is not the best, or this test shows nothing");
    assert_eq!(weights(&out.join(MODEL_FOLDER)), weights(&out.join(format!("checkpoint-{}", best[0]))));
    let (steps, loss) = heard.chosen.expect("chosen");
    assert_eq!(steps, [best[0]]);
    let measured = heard.lines[best[0] as usize - 1].validation_loss.expect("a loss");
    assert_eq!(loss, Some(measured), "the same weights, the same loss");
}

#[test]
fn a_run_can_end_with_the_mean_of_its_best_or_newest_checkpoints() {
    let best: Vec<&str> = [&RISING[..], &["control.final_model=average"]].concat();
    let newest = ["train.save_every=3", "train.keep_checkpoints=3", "control.final_model=average"];
    for changes in [&best[..], &newest] {
        let (data, heard) = whole_and_resumed(changes, 5);
        let out = data.path().join("whole");
        let (steps, _) = heard.chosen.as_ref().expect("chosen");
        assert!(steps.len() > 1, "{steps:?}");
        let parts: Vec<Vec<f32>> =
            steps.iter().map(|step| weights(&out.join(format!("checkpoint-{step}")))).collect();
        let found = weights(&out.join(MODEL_FOLDER));
        for (index, found) in found.iter().enumerate() {
            let mean = parts.iter().map(|part| f64::from(part[index])).sum::<f64>() / parts.len() as f64;
            assert!((f64::from(*found) - mean).abs() <= 1e-6 * mean.abs().max(1e-3), "{found}, mean {mean}");
        }
    }
}

/// Payloads of the records of an event file; lengths are taken at their word.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).expect("an event file");
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        records.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length + 4..];
    }
    records
}

#[test]
fn every_process_of_a_run_writes_an_event_file() {
    let (data, heard) = whole_and_resumed(&["control.tensorboard=true", "train.validate_every=3"], 5);
    let files = |run: &str| {
        let folder = data.path().join(run).join(TENSORBOARD_FOLDER);
        let names = bytes_of(&folder).into_iter().map(|(name, _)| folder.join(name));
        names.map(|path| records(&path)).collect::<Vec<_>>()
    };
    let [whole] = &files("whole")[..] else { panic!("one file") };
    assert_eq!(whole.len(), 1 + heard.lines.len());
    assert!(whole[0].ends_with(b"brain.Event:2"));
    let has = |record: &[u8], text: &str| record.windows(text.len()).any(|part| part == text.as_bytes());
    for (record, line) in whole[1..].iter().zip(&heard.lines) {
        let loss = (line.loss as f32).to_le_bytes();
        assert!(has(record, "train/loss") && record.windows(4).any(|bytes| bytes == loss));
        assert_eq!(has(record, "eval/loss"), line.validation_loss.is_some());
    }
    let [first, second] = &files("killed")[..] else { panic!("two files") };
    // The process that was killed after step 5 had saved step 4.
    assert_eq!((first.len(), second.len()), (1 + 5, 2 + 5));
    assert_eq!(second[1][9..], [16, 5, 58, 2, 8, 1], "step 5, session log: start");
}

/// Puts the machine on mains once the run pauses.
struct PlugsIn<'a> {
    online: &'a Path,
    paused: Vec<u64>,
    pause_s: Vec<f64>,
    saved: Vec<u64>,
}

impl Observer for PlugsIn<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Paused { step } => {
                self.paused.push(*step);
                std::fs::write(self.online, "1\n").expect("a file");
            }
            Event::Continued { seconds } => self.pause_s.push(*seconds),
            Event::Saved { step, .. } => self.saved.push(*step),
            Event::Step { line, .. } if line.step == 3 => std::fs::write(self.online, "0\n").expect("a file"),
            // Longer than the time between two looks.
            Event::Step { line, .. } if line.step == 4 => std::thread::sleep(Duration::from_millis(600)),
            _ => {}
        }
    }
}

#[test]
fn a_run_saves_and_pauses_on_battery_and_goes_on_with_the_same_bits() {
    let data = corpus();
    let (whole, out) = (data.path().join("whole"), data.path().join("paused"));
    run(recipe(data.path(), &whole, &[]), Start::New).expect("a run");
    let root = data.path().join("supplies");
    for (folder, kind, file, text) in
        [("AC", "Mains", "online", "1\n"), ("BAT0", "Battery", "status", "Discharging\n")]
    {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
        std::fs::write(root.join(folder).join("type"), kind).expect("a file");
        std::fs::write(root.join(folder).join(file), text).expect("a file");
    }
    let online = root.join("AC/online");
    let mut observer =
        PlugsIn { online: &online, paused: Vec::new(), pause_s: Vec::new(), saved: Vec::new() };
    let pace = Pace { max_cpu: None, pause_on_battery: Some(PowerSupplies::at(&root)) };
    let cpu = cpu(2);
    let recipe = recipe(data.path(), &out, &["train.save_every=0"]);
    let settings = RunSettings { recipe, cpu: &cpu, start: Start::New, stop: &|| false, pace, ranks: None };
    train(settings, Stage::Pretrain, &mut observer).expect("a run");
    assert_eq!(observer.paused, [4]);
    assert_eq!(observer.saved, [4, 9], "saved before the pause, and at the end");
    assert_eq!(observer.pause_s.len(), 1);
    assert_eq!(curve(&out), curve(&whole));
    assert!(bytes_of(&out.join(MODEL_FOLDER)) == bytes_of(&whole.join(MODEL_FOLDER)));
}

#[test]
fn a_run_that_may_use_a_part_of_the_time_takes_as_much_longer() {
    let data = corpus();
    let cpu = cpu(1);
    let seconds = |name: &str, max_cpu| {
        let recipe = recipe(data.path(), &data.path().join(name), &[]);
        let pace = Pace { max_cpu, pause_on_battery: None };
        let settings =
            RunSettings { recipe, cpu: &cpu, start: Start::New, stop: &|| false, pace, ranks: None };
        let mut heard = Heard::default();
        let begin = Instant::now();
        train(settings, Stage::Pretrain, &mut heard).expect("a run");
        let steps: f64 = heard.lines.iter().map(|line| 1.0 / line.tokens_per_s).sum();
        let tokens = heard.lines.last().expect("a line").tokens as f64 / heard.lines.len() as f64;
        (begin.elapsed().as_secs_f64(), steps * tokens)
    };
    let (slow, worked) = seconds("a tenth", Some(0.1));
    assert!(slow >= 10.0 * worked, "{slow} s, of which {worked} s of steps");
}
