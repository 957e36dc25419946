//! Data parallel runs whose ranks are threads of the test: their results beside one rank's, and what each keeps.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use shakti_train::ranks::{Pending, Ranks};
use shakti_train::{Log, Outcome, Pace, Recipe, RunSettings, Stage, Start, TrainError, train};

use crate::common::{Heard, RESUME, bytes_of, corpus, cpu, curve, recipe, run};

/// Gets everybody's bytes in the order of the ranks.
type Done = Box<dyn FnOnce(&[Vec<u8>]) + Send>;

/// What was brought to one meeting, by rank.
type Meeting = Vec<(usize, Vec<u8>, Done)>;

/// One of several threads that train together.
struct Threads {
    rank: usize,
    size: usize,
    /// Number of the next meeting of this rank.
    next: Mutex<u64>,
    meetings: Arc<Mutex<HashMap<u64, Meeting>>>,
}

impl Threads {
    fn all(size: usize) -> Vec<Self> {
        let meetings = Arc::<Mutex<HashMap<u64, Meeting>>>::default();
        (0..size).map(|rank| Self { rank, size, next: Mutex::new(0), meetings: meetings.clone() }).collect()
    }

    /// Brings bytes to the next meeting; the last to come tells all.
    fn meet(&self, bytes: Vec<u8>, done: Done) {
        let number = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let mut meetings = self.meetings.lock().unwrap();
        let meeting = meetings.entry(number).or_default();
        meeting.push((self.rank, bytes, done));
        if meeting.len() == self.size {
            let mut meeting = meetings.remove(&number).unwrap();
            drop(meetings);
            meeting.sort_by_key(|(rank, ..)| *rank);
            let (bytes, done): (Vec<_>, Vec<_>) =
                meeting.into_iter().map(|(_, bytes, done)| (bytes, done)).unzip();
            done.into_iter().for_each(|done| done(&bytes));
        }
    }

    /// Everybody's bytes.
    fn exchange(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let (send, receive) = mpsc::channel();
        self.meet(bytes, Box::new(move |all| send.send(all.to_vec()).unwrap()));
        receive.recv().unwrap()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn reduce(&self, values: Vec<f32>, root: usize) -> Pending {
        let (send, receive) = mpsc::channel();
        let is_root = self.rank == root;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let sum = move |all: &[Vec<u8>]| {
            let mut sum = floats(&all[0]);
            for other in &all[1..] {
                sum.iter_mut().zip(floats(other)).for_each(|(sum, value)| *sum += value);
            }
            send.send(if is_root { sum } else { Vec::new() }).unwrap();
        };
        self.meet(bytes, Box::new(sum));
        Pending(receive)
    }

    fn broadcast(&self, values: &mut [f32], root: usize) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.copy_from_slice(&floats(&self.exchange(bytes)[root]));
    }

    fn gather(&self, numbers: &[f64]) -> Vec<f64> {
        let all = self.exchange(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        all.concat().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    fn send_to_first(&self, bytes: Vec<u8>, from: usize) -> Vec<u8> {
        let all = self.exchange(bytes);
        if self.rank == 0 { all[from].clone() } else { Vec::new() }
    }
}

/// The same run on every rank, each with one thread; the outcome of each.
fn run_together(size: usize, recipe: &Recipe, start: Start) -> Vec<Result<Outcome, TrainError>> {
    std::thread::scope(|scope| {
        let rank = |ranks: Threads| {
            scope.spawn(move || {
                let cpu = cpu(1);
                let settings = RunSettings {
                    recipe: recipe.clone(),
                    cpu: &cpu,
                    start,
                    pace: Pace::default(),
                    stop: &|| false,
                    ranks: Some(&ranks),
                };
                train(settings, Stage::Pretrain, &mut Heard::default())
            })
        };
        let ranks: Vec<_> = Threads::all(size).into_iter().map(rank).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Nine steps of four micro-batches.
fn four_micro_batches(data: &Path, out: &Path, overrides: &[&str]) -> Recipe {
    let all = [&["train.micro_batch_tokens=64"], overrides].concat();
    recipe(data, out, &all)
}

fn losses(out: &Path) -> Vec<f64> {
    Log::read(out).unwrap().iter().map(|line| line.loss).collect()
}

fn largest_gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max)
}

#[test]
fn four_ranks_train_as_one_does_and_repeat_their_bits() {
    let data = corpus();
    for optimizer in ["adamw", "adamw8", "muon"] {
        let chosen = format!("train.optimizer={optimizer}");
        let out = |name: &str| data.path().join(format!("{name}-{optimizer}"));
        let recipe = |name: &str| four_micro_batches(data.path(), &out(name), &[&chosen]);
        run(recipe("one"), Start::New).unwrap();
        for name in ["four", "again"] {
            let outcomes = run_together(4, &recipe(name), Start::New);
            assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().step == 9));
        }
        let gap = largest_gap(&losses(&out("four")), &losses(&out("one")));
        assert!(gap > 0.0 && gap < 1e-5, "{optimizer}: {gap}");
        assert_eq!(curve(&out("four")), curve(&out("again")));
        assert_eq!(bytes_of(&out("four").join("model")), bytes_of(&out("again").join("model")));
    }
}

#[test]
fn a_checkpoint_of_four_ranks_goes_on_with_two_or_one() {
    let data = corpus();
    let out = |name: &str| data.path().join(name);
    let recipe = |name: &str| four_micro_batches(data.path(), &out(name), &["train.keep_checkpoints=9"]);
    run_together(4, &recipe("whole"), Start::New).into_iter().for_each(|outcome| _ = outcome.unwrap());
    for size in [2, 1] {
        let name = format!("resumed-{size}");
        run_together(4, &recipe(&name), Start::New).into_iter().for_each(|outcome| _ = outcome.unwrap());
        // As if the run had ended after the checkpoint of step 4.
        for later in ["checkpoint-6", "checkpoint-8", "checkpoint-9", "model"] {
            std::fs::remove_dir_all(out(&name).join(later)).unwrap();
        }
        let outcomes = run_together(size, &recipe(&name), RESUME);
        assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().step == 9));
        let gap = largest_gap(&losses(&out(&name)), &losses(&out("whole")));
        assert!(gap < 1e-5, "{size} ranks: {gap}");
    }
}

#[test]
fn micro_batches_that_do_not_go_round_are_refused() {
    let data = corpus();
    let recipe = four_micro_batches(data.path(), &data.path().join("out"), &[]);
    for outcome in run_together(3, &recipe, Start::New) {
        let refused = outcome.unwrap_err().to_string();
        assert!(refused.contains("micro_batch_tokens") && refused.contains("3 ranks"), "{refused}");
    }
}
