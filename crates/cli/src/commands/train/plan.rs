//! `shakti train plan`: what a recipe takes, measured on this machine before it is run; and the comparison afterwards.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::write_file;
use shakti_measure::{EnergyCounter, POWERCAP, peak_memory_bytes};
use shakti_train::{LogLine, Outcome, Plan};

use super::{Progress, RecipeArgs, explain};
use crate::failure::{Failure, FailureExt};
use crate::settings::Settings;

/// Longest plan that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The run is prepared as it would be, and a few of its steps are made, timed and discarded. The plan is written beside the run
/// folder, and the run's report compares with it.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// A plan beside its run folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedPlan {
    #[serde(flatten)]
    plan: Plan,
    /// Seconds of the whole run after its preparation.
    seconds: f64,
    tokens_per_s: f64,
    /// Of all steps.
    joules: Option<f64>,
}

/// Runs the command.
pub fn run(args: &PlanArgs, settings: &Settings) -> Result<(), Failure> {
    let recipe = args.recipe.load()?;
    let cpu = settings.cpu();
    let counter = EnergyCounter::open(Path::new(POWERCAP)).ok().flatten();
    let begin = counter.as_ref().and_then(|counter| counter.read().ok());
    let joules =
        || counter.as_ref().zip(begin.as_ref()).and_then(|(counter, begin)| counter.joules_since(begin).ok());
    let mut progress = Progress::new(settings.output);
    let plan = shakti_train::plan(&recipe, &cpu, &joules, &mut progress);
    progress.finish();
    let plan = Plan { peak_memory_bytes: peak_memory_bytes(), ..plan.map_err(explain)? };
    let joules = plan.joules_per_step.map(|joules| joules * plan.steps as f64);
    let saved = SavedPlan { seconds: plan.seconds(), tokens_per_s: plan.tokens_per_s(), joules, plan };
    let path = path_beside(&recipe.output.dir);
    let text = serde_json::to_string_pretty(&saved)? + "\n";
    if let Some(parent) = path.parent() {
        shakti_checkpoint::files::create_folder(parent)?;
    }
    write_file(&path, text.as_bytes(), Overwrite::Replace)?;
    Ok(settings.output.result(&saved, format!("{}\nwritten to {}", saved.text(), path.display()))?)
}

/// `RUN.plan.json`.
fn path_beside(run: &Path) -> PathBuf {
    let mut name = run.as_os_str().to_owned();
    name.push(".plan.json");
    name.into()
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

impl SavedPlan {
    /// The plan of a run, if one was made.
    pub fn of_run(run: &Path) -> Result<Option<Self>, Failure> {
        let path = path_beside(run);
        let Ok(metadata) = std::fs::metadata(&path) else { return Ok(None) };
        if metadata.len() > MAX_BYTES {
            let (len, name) = (metadata.len(), path.display());
            return Err(Failure::bad_input(format!("{name}: {len} bytes, expected at most {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(&path).context(format!("{}: cannot read", path.display()))?;
        Ok(Some(serde_json::from_str(&text).context(format!("{}: not a plan", path.display()))?))
    }

    fn text(&self) -> String {
        let plan = &self.plan;
        let hours = self.seconds / 3600.0;
        let mut text = format!(
            "{} trained weights, {} steps of at most {} tokens on {} threads, kernel set {}\n",
            plan.parameters, plan.steps, plan.batch_tokens, plan.threads, plan.kernel_set
        );
        let mut row = |name: &str, value: String, how: &str| {
            writeln!(text, "{name:<22} {value:<28} {how}").expect("writing to a string");
        };
        row(
            "time",
            format!("{hours:.2} h ({:.0} s)", self.seconds),
            "steps, validations, checkpoints; after the preparation",
        );
        row("preparation", format!("{:.0} s", plan.preparation_seconds), "measured");
        row(
            "speed",
            format!("{:.0} tokens/s", self.tokens_per_s),
            "median of a few steps of this run, which were discarded",
        );
        let (validations, checkpoints) = (plan.validations, plan.checkpoints);
        row("validations", format!("{validations} x {:.2} s", plan.validation_seconds), "measured");
        row(
            "checkpoints",
            format!("{checkpoints} x {:.2} s", plan.checkpoint_seconds),
            "measured for the model",
        );
        row("checkpoint on disk", mb(plan.weight_bytes + plan.optimizer_bytes), "from the shapes");
        let peak = plan.peak_memory_bytes.map_or("not known here".into(), mb);
        row("memory, most", peak, "measured while the steps were made");
        let parts = [plan.weight_bytes, plan.weight_bytes, plan.optimizer_bytes].map(mb);
        row(
            "  of it",
            format!("{} + {} + {}", parts[0], parts[1], parts[2]),
            "trained weights, gradients, optimizer; from the shapes",
        );
        let energy =
            self.joules.map_or("not measurable here".into(), |joules| format!("{:.1} kJ", joules / 1e3));
        row("energy of the steps", energy, "the processor's own counters");
        text.trim_end().into()
    }

    /// Rows of a table of planned and measured figures.
    pub fn rows(&self, log: &[LogLine], outcome: &Outcome) -> Vec<Vec<String>> {
        let plan = &self.plan;
        let mut rates: Vec<f64> = log.iter().map(|line| line.tokens_per_s).collect();
        rates.sort_by(f64::total_cmp);
        let mut rows = Vec::new();
        let mut row = |name: &str, planned: f64, was: Option<f64>, show: &dyn Fn(f64) -> String| {
            let ratio = was.filter(|_| planned > 0.0).map(|was| format!("{:.2}", was / planned));
            let was = was.map_or("not known".into(), show);
            rows.push(vec![name.into(), show(planned), was, ratio.unwrap_or_default()]);
        };
        row("steps", plan.steps as f64, Some(outcome.step as f64), &|steps| format!("{steps:.0}"));
        let median = rates.get(rates.len() / 2).copied();
        row("tokens/s (median step)", self.tokens_per_s, median, &|rate| format!("{rate:.0}"));
        // A resumed run took the time of several processes, of which the log knows the steps alone.
        let resumed = log.windows(2).any(|pair| pair[1].time_s < pair[0].time_s);
        let seconds = if resumed { None } else { Some(outcome.seconds) };
        row("seconds, all of them", self.seconds, seconds, &|seconds| format!("{seconds:.0}"));
        let planned = plan.peak_memory_bytes.unwrap_or(0) as f64;
        row("most memory, MB", planned, peak_memory_bytes().map(|bytes| bytes as f64), &|bytes| {
            format!("{:.0}", bytes / 1e6)
        });
        rows
    }
}
