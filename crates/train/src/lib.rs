//! Training on the CPU: recipes, schedules, the optimizer step, the loop, exact resumption.
//!
//! A [`Recipe`] fully determines a run. [`train()`] carries it out in a run folder: it prepares tokenizer,
//! data and model, fixes the number of steps, trains, validates, and saves checkpoints that a killed run continues from
//! with the same bits. [`Trainer`] is one step without files, for those who bring their own batches.
//!
//! For one kernel set nothing here depends on the number of threads. The crate prints nothing; an [`Observer`] is told
//! what happens.
#![forbid(unsafe_code)]

mod checkpoints;
mod contamination;
mod control;
mod error;
mod learner;
mod log;
mod objectives;
mod observer;
mod optimizer;
mod pace;
mod parallel;
mod plan;
mod prepare;
mod qat;
pub mod ranks;
pub mod recipe;
pub mod rewards;
mod run;
mod run_folder;
pub mod schedule;
mod session;
mod tensorboard;
mod text;
mod timing;
mod trainer;

pub use checkpoints::{Checkpoints, TrainingState};
pub use contamination::{CONTAMINATION_FILE, Contamination};
pub use error::TrainError;
pub use learner::Frozen;
pub use log::{LOG_FILE, Log, LogLine};
pub use objectives::Measures;
pub use observer::{Event, Observer};
pub use optimizer::{Optimizer, OptimizerSettings};
pub use pace::{Pace, PowerSupplies};
pub use plan::{Plan, plan};
pub use recipe::{LoraSection, Recipe, Stage};
pub use run::{Outcome, RunSettings, train};
pub use run_folder::{ADAPTER_FOLDER, MODEL_FOLDER, RECIPE_FILE, REPORT_FILE, Start};
pub use schedule::{Schedule, ScheduleKind};
pub use tensorboard::TENSORBOARD_FOLDER;
pub use trainer::{StepResult, Trainer, TrainerSettings};
