//! The report of a quickstart: `report.md` with plots beside it, `report.html`, and `summary.json`.

use std::path::Path;

use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::write_file;
use shakti_data::cleaning::PiiReport;
use shakti_eval::{AnswerScores, Estimate, LossReport};
use shakti_train::LogLine;

use super::data::HeldOut;
use super::measure::{Baselines, Comparison, Measurement};
use super::{Stage, Summary};
use crate::failure::Failure;
use crate::report::plot::{Bar, Series, bars, lines};
use crate::report::{Block, Report};

/// What the data section tells of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The corpus with its splits.
    pub held_out: &'a HeldOut,
    /// What looks like personal data in it; `None` for the data of this binary.
    pub personal_data: Option<&'a PiiReport>,
}

/// Writes all files of the report.
pub fn write(
    summary: &Summary,
    sources: Sources<'_>,
    logs: &[Vec<LogLine>],
    out: &Path,
) -> Result<(), Failure> {
    let report = build(summary, sources, logs);
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
    text += &format!("\n{}\n", caution(summary));
    for line in verdicts(summary) {
        text += &format!("- {line}\n");
    }
    text += &format!(
        "\nReport: {out}/report.html (and report.md), {:.0} s in all{}\n{}",
        summary.total_seconds,
        summary.peak_memory_bytes.map_or_else(String::new, |bytes| format!(", {} MiB at most", bytes >> 20)),
        next_command(summary),
    );
    text
}

/// What to try the model with.
fn next_command(summary: &Summary) -> String {
    let model = summary.out.join("model-q8_0.gguf");
    match summary.answers.is_empty() {
        true => format!("Text:   shakti generate -m {} -p 'A beginning'", model.display()),
        false => format!("Chat:   shakti chat -m {}", model.display()),
    }
}

/// What a reader must know before trusting an answer.
fn caution(summary: &Summary) -> String {
    if let Some(base) = &summary.base {
        return format!(
            "{} was tuned for minutes: it knows what it knew, takes on the form of the data and makes up what it does not know. \
             Not medical, legal or financial advice.",
            base.display()
        );
    }
    format!(
        "A model of {:.1} million parameters trained for minutes has the tone of its sources and few of their facts, and \
         makes up others. Not medical, legal or financial advice.",
        summary.parameters as f64 / 1e6
    )
}

fn build(summary: &Summary, sources: Sources<'_>, logs: &[Vec<LogLine>]) -> Report {
    let mut report = Report::new("Shakti quickstart: a small assistant, measured");
    let caution = caution(summary);
    report.paragraph(format!("Everything below was computed on this machine by this run. {caution}"));
    report.heading("What was beaten and what was not");
    for line in verdicts(summary) {
        report.paragraph(line);
    }
    report.heading("Stages and formats");
    report.paragraph(
        "Bits per byte (lower is better) on held-out texts and on held-out answers given their questions; token F1 of greedy answers against the reference. Brackets: 95% bootstrap intervals.",
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
    if !summary.answers.is_empty() {
        report.heading("Held-out questions");
        report.paragraph("Chosen by position before any model was seen; answered greedily by the int4 file.");
    }
    for answered in &summary.answers {
        report.push(Block::Dialogue(vec![
            ("question".into(), answered.question.clone()),
            ("model".into(), answered.answer.clone()),
            ("reference".into(), answered.reference.clone()),
        ]));
    }
    data_section(&mut report, sources);
    cost_section(&mut report, summary);
    report
}

fn rows(summary: &Summary) -> Vec<Vec<String>> {
    let bracket =
        |estimate: Estimate| format!("{:.3} [{:.3}, {:.3}]", estimate.value, estimate.low, estimate.high);
    let bits = |loss: &Option<LossReport>| loss.map(|loss| bracket(loss.bits_per_byte));
    let perplexity = |loss: &Option<LossReport>| loss.map(|loss| format!("{:.1}", loss.perplexity.value));
    let overlap = |scores: &Option<AnswerScores>, of: fn(&AnswerScores) -> Estimate| {
        scores.as_ref().map(|scores| bracket(of(scores)))
    };
    let row = |name: String, cells: [Option<String>; 6]| {
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into()));
        std::iter::once(name).chain(cells).collect::<Vec<String>>()
    };
    let stage = |stage: &Stage| {
        let measured = &stage.measured;
        let cells = [
            Some(format!("{:.1} MB", stage.weight_bytes as f64 / 1e6)),
            bits(&measured.text),
            bits(&measured.answers),
            perplexity(&measured.answers),
            overlap(&measured.overlap, |scores| scores.token_f1),
            overlap(&measured.overlap, |scores| scores.rouge_l),
        ];
        row(stage.name.clone(), cells)
    };
    let mut rows: Vec<Vec<String>> = summary.stages.iter().map(stage).collect();
    let Baselines { bigram_text, bigram_answers, nearest } = &summary.baselines;
    let bigram = [None, bits(bigram_text), bits(bigram_answers), perplexity(bigram_answers), None, None];
    rows.push(row("baseline: bigram model".into(), bigram));
    let f1 = overlap(nearest, |scores| scores.token_f1);
    let copied = [None, None, None, None, f1, overlap(nearest, |scores| scores.rouge_l)];
    rows.push(row("baseline: nearest training answer".into(), copied));
    rows
}

/// One sentence for each model that was asked or trained, each comparison decided by its paired interval.
fn verdicts(summary: &Summary) -> Vec<String> {
    let trained = summary.stages.iter().skip(1);
    trained
        .flat_map(|stage| {
            let base = stage.measured.against_base.as_ref().map(against_base);
            let said = base.into_iter().chain([against_baselines(&stage.measured)]);
            said.map(|said| format!("{}: {said}", stage.name))
        })
        .collect()
}

fn against_base(gaps: &Comparison) -> String {
    let change = |gap: Option<Estimate>, sign: f64, what: &str, unit: &str| {
        let gap = gap?;
        let word = match verdict(&gap, sign) {
            "beats" => "better than",
            "does not beat" => "worse than",
            _ => "not told apart from",
        };
        Some(format!(
            "{word} the base on {what} ({:+.3} [{:+.3}, {:+.3}] {unit})",
            gap.value, gap.low, gap.high
        ))
    };
    let parts = [
        change(gaps.answers, -1.0, "answers", "bits per byte"),
        change(gaps.text, -1.0, "texts", "bits per byte"),
        change(gaps.answer_f1, 1.0, "generated answers", "token F1"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn against_baselines(measured: &Measurement) -> String {
    let Comparison { text, answers, answer_f1 } = &measured.against_baselines;
    let bits = |gap: &Option<Estimate>, of| {
        gap.map(|gap| {
            format!("{} the bigram model on {of} ({:+.3} bits per byte)", verdict(&gap, -1.0), gap.value)
        })
    };
    let copied = answer_f1
        .map(|gap| format!("{} the nearest training answer (F1 {:+.3})", verdict(&gap, 1.0), gap.value));
    let parts = [bits(answers, "answers"), bits(text, "texts"), copied];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `sign` is the direction that is better.
fn verdict(difference: &Estimate, sign: f64) -> &'static str {
    match (difference.excludes_zero(), difference.value * sign > 0.0) {
        (false, _) => "is not told apart from",
        (true, true) => "beats",
        (true, false) => "does not beat",
    }
}

fn plots(report: &mut Report, summary: &Summary, logs: &[Vec<LogLine>]) {
    let (mut curves, mut seen) = (Vec::new(), 0);
    for log in logs {
        let at = |line: &LogLine| (line.tokens + seen) as f64 / 1e6;
        let validation = |line: &LogLine| line.validation_loss.map(|loss| (at(line), loss));
        let name = match (seen, summary.base.is_some()) {
            (0, false) => "pretraining",
            _ => "fine-tuning",
        };
        let points = log.iter().map(|line| (at(line), line.loss)).collect();
        curves.push(Series { name: name.into(), points });
        let points = log.iter().filter_map(validation).collect();
        curves.push(Series { name: "held out".into(), points });
        seen += log.last().map_or(0, |line| line.tokens);
    }
    report.push(Block::Plot {
        name: "loss".into(),
        caption: "Loss during training; fine-tuning learns answers only (another kind of text, so its curve does not join).".into(),
        svg: lines("Loss (nats per token)", ("million tokens seen", "nats per token"), &curves, &[]),
    });
    let bar = |name: &str, estimate: Estimate| Bar {
        name: name.replace("fine-tuned, ", "").replace("fine-tuned (f32)", "tuned f32"),
        value: estimate.value,
        interval: Some((estimate.low, estimate.high)),
    };
    let bits_of = |name: &str, text: &Option<LossReport>, answers: &Option<LossReport>| {
        answers.or(*text).map(|loss| bar(name, loss.bits_per_byte))
    };
    let of_stage = |stage: &Stage| bits_of(&stage.name, &stage.measured.text, &stage.measured.answers);
    let baselines = &summary.baselines;
    let bigram = bits_of("bigram", &baselines.bigram_text, &baselines.bigram_answers);
    let bits: Vec<Bar> = summary.stages.iter().filter_map(of_stage).chain(bigram).collect();
    let of = if baselines.bigram_answers.is_some() { "answers" } else { "texts" };
    report.push(Block::Plot {
        name: "bits".into(),
        caption: format!("Bits per byte of held-out {of} by stage and format; lower is better."),
        svg: bars(&format!("Held-out {of}"), "bits per byte", &bits),
    });
    let f1 =
        |name: &str, scores: &Option<AnswerScores>| scores.as_ref().map(|scores| bar(name, scores.token_f1));
    let of_stage = |stage: &Stage| f1(&stage.name, &stage.measured.overlap);
    let nearest = f1("nearest", &baselines.nearest);
    let overlap: Vec<Bar> = summary.stages.iter().filter_map(of_stage).chain(nearest).collect();
    if !overlap.is_empty() {
        report.push(Block::Plot {
            name: "overlap".into(),
            caption: "Token F1 of greedy answers with the reference; higher is better.".into(),
            svg: bars("Overlap with the reference answer", "token F1", &overlap),
        });
    }
}

fn data_section(report: &mut Report, sources: Sources<'_>) {
    let Sources { held_out, personal_data } = sources;
    report.heading("Data");
    report.paragraph(match personal_data {
        None => {
            "Textbook sections and consumer health questions under CC BY (authors and licences: \
             `quickstart-data/README.md` in this folder), split by source document across both files before any stage."
        }
        Some(_) => "Split by source document across all files before any stage; exact copies are left out.",
    });
    if let Some(found) = personal_data {
        let (with, records) = (found.total.found.records_with, found.total.records);
        report.paragraph(format!(
            "{with} of {records} records hold what looks like personal data; a model can repeat what it has learnt. `shakti \
             data pii` shows where, and replaces it."
        ));
    }
    let corpus = held_out.corpus.report();
    let row = |(name, split): (&str, &shakti_data::corpus::SplitReport)| {
        vec![name.into(), split.groups.to_string(), split.records.to_string(), split.characters.to_string()]
    };
    report.table(
        &["split", "groups of documents", "records", "characters"],
        ["training", "validation", "test"].into_iter().zip(&corpus.splits).map(row).collect(),
    );
    if personal_data.is_some() {
        let row = |file: &shakti_data::corpus::FileReport| {
            let counts = [file.records, file.duplicates, file.blank].map(|count| count.to_string());
            [file.path.display().to_string(), file.format.to_string()].into_iter().chain(counts).collect()
        };
        let header = ["file", "format", "records", "copies left out", "blank"];
        report.table(&header, corpus.files.iter().map(row).collect());
    }
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
    report.paragraph(format!("Go on: {}", next_command(summary)));
}
