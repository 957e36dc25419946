//! `shakti data inspect`: what is in training files.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use shakti_data::{
    Corpus, CorpusSettings, Encode, Inspection, Lengths, OverlapReport, ReaderSettings, Split, TextEncoder,
    inspect,
};
use shakti_tokenizer::ChatTemplate;

use crate::failure::Failure;
use crate::settings::Settings;
use crate::vocabulary;

/// Counts, lengths, a rendered sample with its mask, and what the splits share
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti data inspect data/quickstart/medical_qa.jsonl.zst")]
pub struct InspectArgs {
    /// Text, JSON lines or JSON, also .gz and .zst; the first is described, all are split together
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Count tokens and show the loss mask with this vocabulary: a model, a folder or a tokenizer.json
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// The record to show, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    sample: usize,
}

/// Runs the command.
pub fn run(args: &InspectArgs, settings: &Settings) -> Result<(), Failure> {
    let tokenizer = args.tokenizer.as_deref().map(vocabulary::open).transpose()?;
    let template = tokenizer.as_ref().map(ChatTemplate::of).transpose()?;
    let encoder = tokenizer.as_ref().zip(template.as_ref());
    let encoder = encoder.map(|(tokenizer, template)| TextEncoder { tokenizer, template });
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encode);
    let inspection = inspect(&args.files[0], &ReaderSettings::default(), encoder, args.sample)?;
    let corpus = Corpus::scan(&args.files, &CorpusSettings::default())?;
    let overlap = corpus.overlap()?;
    let text = format!(
        "{}\n{}\n{}",
        describe(&args.files[0], &inspection),
        describe_splits(&corpus),
        describe_overlap(&overlap).trim_end()
    );
    Ok(settings.output.result(&report(&inspection, &corpus, &overlap), text)?)
}

fn describe(path: &std::path::Path, found: &Inspection) -> String {
    let mut text = String::new();
    let mut row =
        |name: &str, value: String| writeln!(text, "{name:<16} {value}").expect("writing to a string");
    row("file", path.display().to_string());
    row("format", found.format.to_string());
    row("records", records(found));
    let [system, user, assistant] = found.messages;
    let has_messages = found.messages.iter().sum::<usize>() > 0;
    if has_messages {
        row("messages", format!("{system} system, {user} user, {assistant} assistant"));
    }
    row("documents", format!("{} named, {} records name none", found.documents, found.without_document));
    row("left out", format!("{} duplicates, {} blank", found.duplicates, found.blank));
    row("characters", lengths_text(&found.characters));
    if let (Some(tokens), Some(answers)) = (&found.tokens, found.answer_tokens) {
        row("tokens", lengths_text(tokens));
        if has_messages {
            row("answer tokens", answers.to_string());
        }
    }
    if let Some(left_out) = found.left_out.as_ref().filter(|left_out| left_out.read() > 0) {
        row("preferences", left_out.to_string());
    }
    writeln!(text, "\nrecord on line {}; what is learned stands in [[ ]]:", found.sample_line)
        .expect("writing to a string");
    for part in &found.sample {
        text.push_str(&if part.is_target { format!("[[{}]]", part.text) } else { part.text.clone() });
    }
    text.push('\n');
    text
}

/// How many records of each kind there are; texts and conversations are always named.
fn records(found: &Inspection) -> String {
    let mut text = format!("{} texts, {} conversations", found.texts, found.chats);
    let [good, bad] = found.rated;
    if found.pairs > 0 {
        write!(text, ", {} preference pairs", found.pairs).expect("writing to a string");
    }
    if good + bad > 0 {
        write!(text, ", {good} conversations rated good, {bad} rated bad").expect("writing to a string");
    }
    text
}

fn lengths_text(lengths: &Lengths) -> String {
    format!(
        "{} in all; a record has {} to {}, mean {:.0}, median {}, 90% at most {}",
        lengths.total,
        lengths.min,
        lengths.max,
        lengths.mean(),
        lengths.median,
        lengths.p90
    )
}

fn describe_splits(corpus: &Corpus) -> String {
    let report = corpus.report();
    let mut text = format!(
        "splits by source document: {} documents, the largest group has {}\n",
        report.documents, report.largest_group
    );
    for split in Split::ALL {
        let found = report.splits[split as usize];
        writeln!(
            text,
            "  {:<12} {:>8} records, {:>10} characters",
            split.name(),
            found.records,
            found.characters
        )
        .expect("writing to a string");
    }
    text
}

fn describe_overlap(overlap: &OverlapReport) -> String {
    let lines = overlap.pairs.iter().map(|pair| format!("  {pair}\n"));
    lines.fold("held-out records in other splits:\n".into(), |text, line| text + &line)
}

fn report(found: &Inspection, corpus: &Corpus, overlap: &OverlapReport) -> Value {
    let lengths = |lengths: &Lengths| {
        json!({
            "total": lengths.total, "min": lengths.min, "median": lengths.median, "p90": lengths.p90,
            "max": lengths.max, "mean": lengths.mean(),
        })
    };
    let [system, user, assistant] = found.messages;
    let sample: Vec<Value> =
        found.sample.iter().map(|part| json!({ "text": part.text, "is_target": part.is_target })).collect();
    let splits: Vec<Value> = Split::ALL
        .iter()
        .map(|split| {
            let found = corpus.report().splits[*split as usize];
            json!({
                "split": split.name(), "groups": found.groups, "records": found.records,
                "characters": found.characters,
            })
        })
        .collect();
    let pairs: Vec<Value> = overlap
        .pairs
        .iter()
        .map(|pair| {
            json!({
                "held_out": pair.held_out.name(), "against": pair.against.name(), "records": pair.records,
                "records_touching": pair.records_touching, "records_half_shared": pair.records_half_shared,
                "grams": pair.grams, "grams_shared": pair.grams_shared,
            })
        })
        .collect();
    let left_out = found.left_out.as_ref().map(|left_out| {
        let rows = left_out.rows().iter();
        rows.map(|row| json!({ "line": row.line, "reason": row.reason })).collect::<Vec<_>>()
    });
    json!({
        "format": found.format.to_string(), "texts": found.texts, "chats": found.chats,
        "pairs": found.pairs, "rated": { "good": found.rated[0], "bad": found.rated[1] }, "left_out": left_out,
        "messages": { "system": system, "user": user, "assistant": assistant },
        "documents": found.documents, "without_document": found.without_document,
        "duplicates": found.duplicates, "blank": found.blank, "characters": lengths(&found.characters),
        "tokens": found.tokens.as_ref().map(lengths), "answer_tokens": found.answer_tokens,
        "sample": sample, "sample_line": found.sample_line, "splits": splits,
        "overlap": { "words": overlap.words, "pairs": pairs },
    })
}
