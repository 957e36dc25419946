//! The report of a quickstart: `report.md` with plots beside it, `report.html`, and `summary.json`.

use std::path::Path;

use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::write_file;
use shakti_eval::Estimate;
use shakti_train::LogLine;

use super::data::HeldOut;
use super::{Stage, Summary};
use crate::failure::Failure;
use crate::report::plot::{Bar, Series, bars, lines};
use crate::report::{Block, Report};

/// Writes all files of the report.
pub fn write(
    summary: &Summary,
    held_out: &HeldOut,
    logs: &[Vec<LogLine>; 2],
    out: &Path,
) -> Result<(), Failure> {
    let report = build(summary, held_out, logs);
    let put = |name: &str, text: &str| write_file(&out.join(name), text.as_bytes(), Overwrite::Refuse);
    for (name, svg) in report.plots() {
        put(&name, svg)?;
    }
    put("report.md", &report.to_markdown())?;
    put("report.html", &report.to_html())?;
    put("summary.json", &serde_json::to_string_pretty(summary)?)?;
    Ok(())
}

/// What is printed at the end.
pub fn closing(summary: &Summary) -> String {
    let mut text = String::new();
    for answered in &summary.answers {
        text += &format!("\nQ: {}\nA: {}\n", answered.question, answered.answer.trim());
    }
    let out = summary.out.display();
    text += &format!(
        "\nA model of {} trained for minutes: it has the tone of its sources and few of their facts. Not medical advice.\n",
        "5.7 million parameters"
    );
    for line in verdicts(summary) {
        text += &format!("- {line}\n");
    }
    text += &format!(
        "\nReport: {out}/report.html (and report.md), {:.0} s in all{}\nChat:   shakti chat -m {out}/model-q8_0.gguf",
        summary.total_seconds,
        summary.peak_memory_bytes.map_or_else(String::new, |bytes| format!(", {} MiB at most", bytes >> 20)),
    );
    text
}

fn build(summary: &Summary, held_out: &HeldOut, logs: &[Vec<LogLine>; 2]) -> Report {
    let mut report = Report::new("Shakti quickstart: a small medical assistant, measured");
    report.paragraph(
        "Everything below was computed on this machine by this run. A model of 5.7 million parameters trained for a few \
         minutes learns the language and the tone of its sources; it knows few facts and makes up others. It is an \
         example of the chain, not medical advice.",
    );
    report.heading("What was beaten and what was not");
    for line in verdicts(summary) {
        report.paragraph(line);
    }
    report.heading("Stages and formats");
    report.paragraph(
        "Bits per byte (lower is better) on held-out textbook sections and on held-out answers given their questions; \
         token F1 of greedy answers against the reference. Brackets: 95% bootstrap intervals.",
    );
    report.table(
        &[
            "model",
            "weights",
            "text bits/byte",
            "answer bits/byte",
            "answer perplexity",
            "answer F1",
            "ROUGE-L",
        ],
        rows(summary),
    );
    plots(&mut report, summary, logs);
    report.heading("Three held-out questions");
    report.paragraph("Chosen by position before any model was seen; answered greedily by the int4 file.");
    for answered in &summary.answers {
        report.push(Block::Dialogue(vec![
            ("question".into(), answered.question.clone()),
            ("model".into(), answered.answer.clone()),
            ("reference".into(), answered.reference.clone()),
        ]));
    }
    data_section(&mut report, held_out);
    cost_section(&mut report, summary);
    report
}

fn rows(summary: &Summary) -> Vec<Vec<String>> {
    let bracket =
        |estimate: &Estimate| format!("{:.3} [{:.3}, {:.3}]", estimate.value, estimate.low, estimate.high);
    let overlap = |stage: &Stage, of: fn(&shakti_eval::AnswerScores) -> Estimate| {
        stage.measured.overlap.as_ref().map_or_else(|| "-".into(), |scores| bracket(&of(scores)))
    };
    let mut rows: Vec<Vec<String>> = summary
        .stages
        .iter()
        .map(|stage| {
            vec![
                stage.name.clone(),
                format!("{:.1} MB", stage.weight_bytes as f64 / 1e6),
                bracket(&stage.measured.text.bits_per_byte),
                bracket(&stage.measured.answers.bits_per_byte),
                format!("{:.1}", stage.measured.answers.perplexity.value),
                overlap(stage, |scores| scores.token_f1),
                overlap(stage, |scores| scores.rouge_l),
            ]
        })
        .collect();
    let baselines = &summary.baselines;
    rows.push(vec![
        "baseline: bigram model".into(),
        "-".into(),
        bracket(&baselines.bigram_text.bits_per_byte),
        bracket(&baselines.bigram_answers.bits_per_byte),
        format!("{:.1}", baselines.bigram_answers.perplexity.value),
        "-".into(),
        "-".into(),
    ]);
    rows.push(vec![
        "baseline: nearest training answer".into(),
        "-".into(),
        "-".into(),
        "-".into(),
        "-".into(),
        bracket(&baselines.nearest.token_f1),
        bracket(&baselines.nearest.rouge_l),
    ]);
    rows
}

/// One sentence for each comparison with a baseline, decided by the paired interval.
fn verdicts(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in summary.stages.iter().filter(|stage| stage.measured.overlap.is_some()) {
        let bigram = verdict(&stage.measured.against_bigram, -1.0);
        let nearest =
            stage.measured.against_nearest.as_ref().map_or("was not compared with", |gap| verdict(gap, 1.0));
        let text = verdict(&stage.measured.against_bigram_text, -1.0);
        lines.push(format!(
            "{}: {bigram} the bigram model on answers ({:+.3} bits per byte), {text} it on texts ({:+.3}), {nearest} the \
             nearest training answer (F1 {:+.3})",
            stage.name,
            stage.measured.against_bigram.value,
            stage.measured.against_bigram_text.value,
            stage.measured.against_nearest.map_or(0.0, |gap| gap.value),
        ));
    }
    lines
}

/// `sign` is the direction that is better.
fn verdict(difference: &Estimate, sign: f64) -> &'static str {
    match (difference.excludes_zero(), difference.value * sign > 0.0) {
        (false, _) => "is not told apart from",
        (true, true) => "beats",
        (true, false) => "does not beat",
    }
}

fn plots(report: &mut Report, summary: &Summary, logs: &[Vec<LogLine>; 2]) {
    let offset = logs[0].last().map_or(0, |line| line.tokens);
    let series = |name: &str, offset: u64, of: &dyn Fn(&LogLine) -> Option<f64>, log: &[LogLine]| Series {
        name: name.into(),
        points: log
            .iter()
            .filter_map(|line| of(line).map(|loss| ((line.tokens + offset) as f64 / 1e6, loss)))
            .collect(),
    };
    let train = |line: &LogLine| Some(line.loss);
    let validation = |line: &LogLine| line.validation_loss;
    let curves = [
        series("pretraining", 0, &train, &logs[0]),
        series("held out", 0, &validation, &logs[0]),
        series("fine-tuning", offset, &train, &logs[1]),
        series("held out", offset, &validation, &logs[1]),
    ];
    report.push(Block::Plot {
        name: "loss".into(),
        caption: "Loss during training: texts first, then answers only (another kind of text, so the curves do not join).".into(),
        svg: lines("Loss (nats per token)", ("million tokens seen", "nats per token"), &curves, &[]),
    });
    let bar = |stage: &Stage, estimate: &Estimate| Bar {
        name: stage.name.replace("fine-tuned, ", "").replace("fine-tuned (f32)", "tuned f32"),
        value: estimate.value,
        interval: Some((estimate.low, estimate.high)),
    };
    let mut bits: Vec<Bar> =
        summary.stages.iter().map(|stage| bar(stage, &stage.measured.answers.bits_per_byte)).collect();
    let bigram = &summary.baselines.bigram_answers.bits_per_byte;
    bits.push(Bar { name: "bigram".into(), value: bigram.value, interval: Some((bigram.low, bigram.high)) });
    report.push(Block::Plot {
        name: "bits".into(),
        caption: "Bits per byte of held-out answers by stage and format; lower is better.".into(),
        svg: bars("Held-out answers", "bits per byte", &bits),
    });
    let mut overlap: Vec<Bar> = summary
        .stages
        .iter()
        .filter_map(|stage| stage.measured.overlap.as_ref().map(|scores| bar(stage, &scores.token_f1)))
        .collect();
    let nearest = &summary.baselines.nearest.token_f1;
    overlap.push(Bar {
        name: "nearest".into(),
        value: nearest.value,
        interval: Some((nearest.low, nearest.high)),
    });
    report.push(Block::Plot {
        name: "overlap".into(),
        caption: "Token F1 of greedy answers with the reference; higher is better.".into(),
        svg: bars("Overlap with the reference answer", "token F1", &overlap),
    });
}

fn data_section(report: &mut Report, held_out: &HeldOut) {
    report.heading("Data");
    report.paragraph(
        "Textbook sections and consumer health questions under CC BY (authors and licences: `data/README.md` in this \
         folder), split by source document across both files before any stage.",
    );
    let splits = &held_out.corpus.report().splits;
    let row = |(name, split): (&str, &shakti_data::corpus::SplitReport)| {
        vec![name.into(), split.groups.to_string(), split.records.to_string(), split.characters.to_string()]
    };
    report.table(
        &["split", "groups of documents", "records", "characters"],
        ["training", "validation", "test"].into_iter().zip(splits).map(row).collect(),
    );
    for pair in &held_out.overlap.pairs {
        report.paragraph(pair.to_string());
    }
}

fn cost_section(report: &mut Report, summary: &Summary) {
    report.heading("Time and memory");
    let mut rows: Vec<Vec<String>> =
        summary.seconds.iter().map(|(name, seconds)| vec![name.clone(), format!("{seconds:.1} s")]).collect();
    rows.push(vec!["in all".into(), format!("{:.1} s", summary.total_seconds)]);
    if let Some(bytes) = summary.peak_memory_bytes {
        rows.push(vec!["peak memory".into(), format!("{} MiB", bytes >> 20)]);
    }
    rows.push(vec!["kernel set".into(), summary.kernel_set.clone()]);
    rows.push(vec!["threads".into(), summary.threads.to_string()]);
    report.table(&["", ""], rows);
    report
        .paragraph(format!("Go on with `shakti chat -m {}`.", summary.out.join("model-q8_0.gguf").display()));
}
