//! The loop of a run: steps, validations, log, checkpoints; and the way back into it from a checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use shakti_kernels::Cpu;

use crate::TrainError;
use crate::checkpoints::{Checkpoints, STATE_VERSION, TrainingState, load_state};
use crate::control::Validations;
use crate::log::{Log, LogLine};
use crate::objectives::Validation;
use crate::observer::{Event, Observer};
use crate::pace::{Pace, Pacer};
use crate::prepare::Prepared;
use crate::recipe::{FinalModel, Recipe};
use crate::run::Outcome;
use crate::run_folder::RunFolder;
use crate::tensorboard::EventFile;
use crate::trainer::StepResult;

/// Weight of the newest step in the running mean of seconds a step.
const SECONDS_SHARE: f64 = 0.1;

/// A run between two steps.
pub(crate) struct Session<'a> {
    folder: RunFolder,
    recipe: Recipe,
    recipe_sha256: String,
    prepared: Prepared<'a>,
    cpu: &'a Cpu,
    checkpoints: Checkpoints,
    steps: u64,
    tokens_seen: u64,
    /// Step and folder of the newest checkpoint.
    saved: Option<(u64, PathBuf)>,
    validations: Validations,
}

/// What the loop measures of time.
struct Clock {
    begin: Instant,
    seconds_per_step: Option<f64>,
}

impl<'a> Session<'a> {
    /// A run before step 1; the recipe's number of steps is fixed.
    pub(crate) fn new(
        folder: RunFolder,
        recipe: Recipe,
        mut prepared: Prepared<'a>,
        cpu: &'a Cpu,
    ) -> Result<Self, TrainError> {
        let checkpoints = Checkpoints::new(folder.path(), recipe.train.keep_checkpoints);
        if prepared.trainer.leads() {
            checkpoints.clean()?;
        }
        // Nobody looks for checkpoints before.
        prepared.trainer.agree(0.0);
        let steps = recipe.train.steps.unwrap_or(1);
        prepared.trainer.set_schedule(recipe.train.schedule(steps, recipe.train.warmup_steps.unwrap_or(0)));
        let recipe_sha256 = recipe.sha256();
        let validations = Validations::new(recipe.control, &[]);
        Ok(Self {
            folder,
            recipe,
            recipe_sha256,
            prepared,
            cpu,
            checkpoints,
            steps,
            tokens_seen: 0,
            saved: None,
            validations,
        })
    }

    /// Goes to the newest complete checkpoint, if there is one.
    pub(crate) fn resume(
        &mut self,
        allow_other_kernels: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let newest = self.checkpoints.newest(&mut |warning| observer.event(&Event::Warning(warning)))?;
        let Some((step, path)) = newest else { return Ok(()) };
        let Prepared { trainer, objective, .. } = &mut self.prepared;
        let layout = trainer.params().layout().clone();
        let state = load_state(&path, &mut trainer.optimizer, layout.specs())?;
        let refuse = |problem: String| TrainError::Resume { path: path.clone(), problem };
        if state.recipe_sha256 != self.recipe_sha256 {
            return Err(refuse("it was made with another recipe.toml than the one in the run folder".into()));
        }
        let kernel_set = self.cpu.kernels.name();
        if state.kernel_set != kernel_set {
            let change =
                format!("kernel set `{kernel_set}`, the checkpoint was computed with `{}`", state.kernel_set);
            if !allow_other_kernels {
                return Err(refuse(change));
            }
            observer.event(&Event::Warning(&format!("{change}; the bits differ from here on")));
        }
        objective.restore(&state.data_position)?;
        objective.set_state(&state.objective());
        crate::prepare::load_weights(&path, trainer)?;
        self.tokens_seen = state.tokens_seen;
        observer.event(&Event::Resumed { step, path: &path });
        self.saved = Some((step, path));
        Ok(())
    }

    /// Trains to the last step, or until validations no longer improve, or until `stop` says so.
    pub(crate) fn train(
        mut self,
        pace: &Pace,
        stop: &dyn Fn() -> bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let leads = self.prepared.trainer.leads();
        let mut log = leads.then(|| Log::open(self.folder.path(), self.step())).transpose()?;
        self.recall_validations()?;
        let tensorboard = (leads && self.recipe.control.tensorboard)
            .then(|| EventFile::create(self.folder.path(), self.step()));
        let mut tensorboard = tensorboard.transpose()?;
        let mut clock = Clock { begin: Instant::now(), seconds_per_step: None };
        let mut pacer = Pacer::new(pace);
        let (mut last, mut due) = (None, false);
        while self.step() < self.steps && !(self.exhausted() && self.prepared.objective.can_save()) {
            let can_save = self.prepared.objective.can_save();
            if can_save && self.prepared.trainer.any(pacer.should_pause()) {
                self.pause(&pacer, log.as_ref(), stop, observer)?;
            }
            if can_save && self.prepared.trainer.any(stop()) {
                if self.step() > 0 {
                    self.save(log.as_ref(), observer)?;
                }
                return Ok(self.outcome(None, last, &clock));
            }
            let begin = Instant::now();
            let line = self.step_and_log(log.as_mut(), &mut clock)?;
            if let Some(events) = &mut tensorboard {
                events.step(&line)?;
            }
            let left = (self.steps - line.step) as f64 * clock.seconds_per_step.unwrap_or(0.0);
            observer.event(&Event::Step { line: &line, steps: self.steps, seconds_left: left });
            due |= self.should_save(&line);
            last = Some(line);
            if due && self.prepared.objective.can_save() {
                self.save(log.as_ref(), observer)?;
                due = false;
            }
            pacer.rest(begin.elapsed(), stop);
        }
        if let Some(best) = self.validations.best().filter(|_| self.step() < self.steps) {
            observer.event(&Event::Exhausted { step: self.step(), best });
        }
        let final_validation_loss = if leads { self.choose_final(observer)? } else { None };
        let name = self.prepared.output_name();
        let model = self.folder.write_folder(name, |path| self.prepared.write_model(path))?;
        Ok(Outcome { final_validation_loss, ..self.outcome(Some(model), last, &clock) })
    }

    /// The validations that the log holds of the steps made; every rank reads it.
    fn recall_validations(&mut self) -> Result<(), TrainError> {
        let mut log = if self.step() == 0 { Vec::new() } else { Log::read(self.folder.path())? };
        log.retain(|line| line.step <= self.step());
        self.validations = Validations::new(self.recipe.control, &log);
        self.checkpoints.protect(self.validations.best_steps());
        Ok(())
    }

    /// Whether validations no longer improve, by the word of the rank that leads.
    fn exhausted(&self) -> bool {
        self.prepared.trainer.agree(f64::from(u8::from(self.validations.exhausted()))) > 0.0
    }

    /// Takes note of a validation; whether this step's checkpoint is due, or worth keeping.
    fn should_save(&mut self, line: &LogLine) -> bool {
        if let Some(loss) = line.validation_loss {
            self.validations.push(line.step, loss);
            self.checkpoints.protect(self.validations.best_steps());
        }
        let due = is_due(line.step, self.recipe.train.save_every, self.steps)
            || self.validations.best_steps().contains(&line.step)
            || self.validations.exhausted();
        self.prepared.trainer.agree(f64::from(u8::from(due))) > 0.0
    }

    /// Saves, then computes nothing until the machine is on mains.
    fn pause(
        &mut self,
        pacer: &Pacer<'_>,
        log: Option<&Log>,
        stop: &dyn Fn() -> bool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.step() > 0 {
            self.save(log, observer)?;
        }
        observer.event(&Event::Paused { step: self.step() });
        let begin = Instant::now();
        pacer.wait_for_mains(stop);
        observer.event(&Event::Continued { seconds: begin.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Puts the weights that the recipe wants to end with into the trainer; their validation loss, if it was measured for
    /// that.
    fn choose_final(&mut self, observer: &mut dyn Observer) -> Result<Option<f64>, TrainError> {
        let control = self.recipe.control;
        let mut steps = match control.final_model {
            FinalModel::Last => return Ok(None),
            FinalModel::Best => self.validations.best_steps().into_iter().take(1).collect(),
            FinalModel::Average if control.keep_best > 0 => self.validations.best_steps(),
            FinalModel::Average => self.checkpoints.steps()?,
        };
        steps.retain(|step| {
            let intact = shakti_checkpoint::verify_manifest(&self.checkpoints.path(*step));
            if let Err(error) = &intact {
                observer.event(&Event::Warning(&format!("checkpoint left out of the final model: {error}")));
            }
            intact.is_ok()
        });
        steps.sort_unstable();
        if steps.is_empty() {
            return Ok(None);
        }
        let folders = steps.iter().map(|step| self.checkpoints.path(*step)).collect::<Vec<_>>();
        crate::prepare::load_mean(&folders, self.cpu, &mut self.prepared.trainer)?;
        let Prepared { trainer, objective, .. } = &self.prepared;
        // Other ranks have not these weights, and would have to take part.
        let measured = trainer.alone().then(|| objective.validate(trainer)).transpose()?.flatten();
        let loss = measured.map(|found| found.loss);
        observer.event(&Event::Final { steps: &steps, validation_loss: loss });
        Ok(loss)
    }

    fn step(&self) -> u64 {
        self.prepared.trainer.steps()
    }

    fn step_and_log(&mut self, log: Option<&mut Log>, clock: &mut Clock) -> Result<LogLine, TrainError> {
        let started = Instant::now();
        let (result, mut measures) = self.prepared.objective.step(&mut self.prepared.trainer)?;
        let StepResult { step, loss, grad_norm, learning_rate, tokens } = result;
        let seconds = started.elapsed().as_secs_f64();
        self.tokens_seen += tokens;
        let validation = self.validate(step)?;
        let validation_loss = validation.as_ref().map(|found| found.loss);
        let named = validation.into_iter().flat_map(|found| found.measures);
        measures.extend(named.map(|(name, value)| (format!("eval/{name}"), value)));
        let mean = clock.seconds_per_step.get_or_insert(seconds);
        *mean += SECONDS_SHARE * (seconds - *mean);
        let line = LogLine {
            step,
            loss,
            learning_rate,
            grad_norm,
            tokens: self.tokens_seen,
            tokens_per_s: tokens as f64 / seconds,
            time_s: clock.begin.elapsed().as_secs_f64(),
            validation_loss,
            measures,
        };
        if let Some(log) = log {
            log.write(&line)?;
        }
        Ok(line)
    }

    fn validate(&self, step: u64) -> Result<Option<Validation>, TrainError> {
        if !is_due(step, self.recipe.train.validate_every, self.steps) {
            return Ok(None);
        }
        self.prepared.objective.validate(&self.prepared.trainer)
    }

    /// Writes a checkpoint of this step unless there is one.
    fn save(&mut self, log: Option<&Log>, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let step = self.step();
        if self.saved.as_ref().is_some_and(|(saved, _)| *saved == step) {
            return Ok(());
        }
        self.prepared.trainer.collect();
        let Some(log) = log else { return Ok(()) };
        log.sync()?;
        let Prepared { trainer, objective, .. } = &self.prepared;
        let memory = &trainer.optimizer.memory;
        let state = TrainingState {
            version: STATE_VERSION,
            step,
            tokens_seen: self.tokens_seen,
            data_position: objective.position(),
            objective_bits: TrainingState::bits(&objective.state()),
            recipe_sha256: self.recipe_sha256.clone(),
            seed: self.recipe.train.seed,
            kernel_set: self.cpu.kernels.name().into(),
            usual_norm_bits: memory.usual_norm.to_bits(),
            zero_gradient_steps: memory.zero_steps.clone(),
        };
        let mut write_model = |path: &std::path::Path| self.prepared.write_model(path);
        let optimizer = (&trainer.optimizer, trainer.params().layout().specs());
        let path = self.checkpoints.save(&state, optimizer, &mut write_model)?;
        self.prepared.trainer.part();
        observer.event(&Event::Saved { step, path: &path });
        self.saved = Some((step, path));
        Ok(())
    }

    fn outcome(&self, model: Option<PathBuf>, last: Option<LogLine>, clock: &Clock) -> Outcome {
        Outcome {
            step: self.step(),
            steps: self.steps,
            model,
            checkpoint: self.saved.as_ref().map(|(_, path)| path.clone()),
            last,
            final_validation_loss: None,
            seconds: clock.begin.elapsed().as_secs_f64(),
        }
    }
}

/// Whether something that happens every so many steps, and at the end, happens now.
fn is_due(step: u64, every: u64, steps: u64) -> bool {
    step == steps || (every > 0 && step.is_multiple_of(every))
}
