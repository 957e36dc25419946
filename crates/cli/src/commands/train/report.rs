//! `report.html` of a run folder: curves from the log, what was planned and what was.

use std::path::Path;

use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::write_file;
use shakti_train::{Log, LogLine, Outcome, RECIPE_FILE, REPORT_FILE};

use super::plan::SavedPlan;
use crate::failure::{Failure, FailureExt};
use crate::report::plot::{Series, lines};
use crate::report::{Block, Report};

/// Most points of a curve; longer ones show the means of as many neighbours.
const MOST_POINTS: usize = 400;

/// Writes the page of a run, however it ended.
pub fn write(run: &Path, outcome: &Outcome) -> Result<(), Failure> {
    let log = Log::read(run)?;
    let mut report = Report::new(format!("Training run {}", run.display()));
    report.paragraph(summary(outcome));
    if !log.is_empty() {
        report.heading("Loss");
        report.push(loss_plot(&log));
        report.heading("Learning rate and gradient");
        report.push(curve("learning-rate", "learning rate", &log, |line| Some(line.learning_rate)));
        report.push(curve("gradient", "gradient norm before clipping", &log, |line| Some(line.grad_norm)));
    }
    report.heading("Planned and measured");
    match SavedPlan::of_run(run)? {
        Some(plan) => report.table(&["", "planned", "was", "was / planned"], plan.rows(&log, outcome)),
        None => report.paragraph(
            "`shakti train plan` was not run for this recipe, so there is nothing to compare with.",
        ),
    }
    report.heading("Recipe");
    let recipe = run.join(RECIPE_FILE);
    let text = std::fs::read_to_string(&recipe).context(format!("{}: cannot read", recipe.display()))?;
    report.push(Block::Preformatted(text));
    Ok(write_file(&run.join(REPORT_FILE), report.to_html().as_bytes(), Overwrite::Replace)?)
}

fn summary(outcome: &Outcome) -> String {
    let state = if outcome.model.is_some() { "Finished" } else { "Stopped" };
    let mut text = format!("{state} after step {} of {}.", outcome.step, outcome.steps);
    if let Some(line) = &outcome.last {
        text += &format!(" Training loss {:.4} nats a token", line.loss);
        if let Some(loss) = line.validation_loss {
            text += &format!(", validation loss {loss:.4}");
        }
        text += ".";
    }
    if let Some(loss) = outcome.final_validation_loss {
        text += &format!(" The final model is chosen from checkpoints; its validation loss is {loss:.4}.");
    }
    text
}

fn loss_plot(log: &[LogLine]) -> Block {
    let validation: Vec<(f64, f64)> =
        log.iter().filter_map(|line| Some((line.step as f64, line.validation_loss?))).collect();
    let mut series = vec![Series { name: "training".into(), points: points(log, |line| Some(line.loss)) }];
    if !validation.is_empty() {
        series.push(Series { name: "validation".into(), points: validation });
    }
    Block::Plot {
        name: "loss".into(),
        caption: "Mean nats per counted target; training before each update, validation after it.".into(),
        svg: lines("Loss", ("step", "nats"), &series, &[]),
    }
}

fn curve(name: &str, title: &str, log: &[LogLine], value: fn(&LogLine) -> Option<f64>) -> Block {
    let series = [Series { name: String::new(), points: points(log, value) }];
    Block::Plot { name: name.into(), caption: title.into(), svg: lines(title, ("step", ""), &series, &[]) }
}

/// A value over the steps, thinned to means of neighbours.
fn points(log: &[LogLine], value: fn(&LogLine) -> Option<f64>) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = log
        .iter()
        .filter_map(|line| Some((line.step as f64, value(line)?)))
        .filter(|(_, y)| y.is_finite())
        .collect();
    let mean = |part: &[(f64, f64)]| {
        let share = 1.0 / part.len() as f64;
        part.iter().fold((0.0, 0.0), |(x, y), point| (x + share * point.0, y + share * point.1))
    };
    all.chunks(all.len().div_ceil(MOST_POINTS).max(1)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_to_means() {
        let line = |step: u64| LogLine {
            step,
            loss: step as f64,
            learning_rate: 1.0,
            grad_norm: 1.0,
            tokens: step,
            tokens_per_s: 1.0,
            time_s: 0.0,
            validation_loss: None,
            measures: Default::default(),
        };
        let log: Vec<LogLine> = (1..=1000).map(line).collect();
        let found = points(&log, |line| Some(line.loss));
        assert_eq!(found.len(), 334);
        assert!((found[0].0 - 2.0).abs() < 1e-9 && (found[0].1 - 2.0).abs() < 1e-9, "{:?}", found[0]);
        assert_eq!(points(&log[..3], |line| Some(line.loss)), [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]);
    }
}
