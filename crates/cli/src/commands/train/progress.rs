//! Progress of a training run: a bar on a terminal, plain lines elsewhere, both on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shakti_train::{Contamination, Event, LogLine, Observer};

use crate::output::Output;

/// Time between two plain lines.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Shows what a run reports.
pub struct Progress {
    output: Output,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Progress {
    /// Nothing is shown if the output is quiet.
    pub fn new(output: Output) -> Self {
        let shows_bar = !output.is_quiet() && std::io::stderr().is_terminal();
        let bar = shows_bar.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            let template = "{wide_bar:.cyan} {pos}/{len} {msg}";
            bar.with_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self { output, bar, last_line: None }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }

    fn contamination(&self, found: &Contamination) {
        if let Some(found) = &found.test_sets {
            let hit: usize = found.test_sets.iter().map(|set| set.hit).sum();
            self.note(&format!(
                "test sets: {} of {} training records hold a part of {hit} items and are left out",
                found.contaminated.len(),
                found.records
            ));
        }
        found
            .held_out
            .pairs
            .iter()
            .filter(|pair| pair.records > 0)
            .for_each(|pair| self.note(&pair.to_string()));
    }

    fn step(&mut self, line: &LogLine, steps: u64, seconds_left: f64) {
        let text = step_text(line, seconds_left);
        if let Some(loss) = line.validation_loss {
            let others = line
                .measures
                .iter()
                .filter_map(|(name, value)| Some(format!(", {} {value:.4}", name.strip_prefix("eval/")?)));
            self.note(&format!(
                "step {}: validation loss {loss:.4}{}",
                line.step,
                others.collect::<String>()
            ));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(steps);
            bar.set_position(line.step);
            bar.set_message(text);
            return;
        }
        let is_due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_PERIOD);
        if is_due || line.step == steps {
            self.last_line = Some(Instant::now());
            self.note(&format!("step {} of {steps}: {text}", line.step));
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Scanned(report) => self.note(&format!(
                "data: {} records of {} documents, {} duplicates left out; train {}, validation {}, test {}",
                report.records(),
                report.documents,
                report.duplicates(),
                report.splits[0].records,
                report.splits[1].records,
                report.splits[2].records
            )),
            Event::Contamination(found) => self.contamination(found),
            Event::TokenizerTrained { vocab_size } => {
                self.note(&format!("tokenizer: trained, {vocab_size} ids"))
            }
            Event::Tokenized { source, train, validation } => self.note(&format!(
                "{source}: {} training tokens, {} of them targets; {} validation tokens",
                train.tokens, train.targets, validation.tokens
            )),
            Event::Model { parameters, trained, kernel_set, precision } => {
                let adapter =
                    if trained == parameters { String::new() } else { format!(", an adapter of {trained}") };
                self.note(&format!(
                    "model: {parameters} parameters{adapter}; kernel set {kernel_set}, precision {precision}"
                ));
            }
            Event::Reference => self.note("computing what the model says before it is trained"),
            Event::LeftOut(rows) if rows.rows().is_empty() => {}
            Event::LeftOut(rows) => self.note(&rows.to_string()),
            Event::Timed { seconds_per_step, steps } => {
                self.note(&format!("time budget: {seconds_per_step:.3} s a step, so {steps} steps"));
            }
            Event::Resumed { step, path } => {
                self.note(&format!("resumed after step {step} from {}", path.display()));
            }
            Event::Warning(text) => match &self.bar {
                Some(bar) => bar.suspend(|| self.output.warn(text)),
                None => self.output.warn(text),
            },
            Event::Exhausted { step, best: (best, loss) } => self.note(&format!(
                "step {step}: no better validation since step {best} ({loss:.4}), so the run ends"
            )),
            Event::Final { steps, validation_loss } => self.note(&format!(
                "final model: weights of {}{}",
                if steps.len() == 1 {
                    format!("step {}", steps[0])
                } else {
                    format!("steps {steps:?}, averaged")
                },
                validation_loss.map_or_else(String::new, |loss| format!(", validation loss {loss:.4}"))
            )),
            Event::Paused { step } => {
                self.note(&format!("step {step}: on battery, so the run is saved and pauses"));
            }
            Event::Continued { seconds } => {
                self.note(&format!("the run goes on after a pause of {seconds:.0} s"));
            }
            Event::Step { line, steps, seconds_left } => self.step(line, *steps, *seconds_left),
            _ => {}
        }
    }
}

fn step_text(line: &LogLine, seconds_left: f64) -> String {
    let (minutes, seconds) = ((seconds_left / 60.0) as u64, (seconds_left % 60.0) as u64);
    format!("loss {:.4}, {:.0} tokens/s, {minutes}:{seconds:02} left", line.loss, line.tokens_per_s)
}
