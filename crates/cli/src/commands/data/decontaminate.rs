//! `shakti data decontaminate`: overlap with test sets.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shakti_data::cleaning::{COMMON_RECORDS, DecontaminateReport, TestSets, decontaminate};

use super::files::{FileArgs, Files};
use crate::failure::Failure;
use crate::settings::Settings;

/// Drop records that hold a part of a test set
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti data decontaminate notes.jsonl --against mmlu/test/law.csv gsm8k.jsonl -o out/notes.jsonl"
)]
pub struct DecontaminateArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Test sets: JSON lines, JSON, CSV, TSV or text, also .gz and .zst
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    against: Vec<PathBuf>,
    /// A run of words that more than N records hold is a standing phrase and drops none by itself
    #[arg(long, value_name = "N", default_value_t = COMMON_RECORDS)]
    common: usize,
}

/// What `--json` and `--report` hold.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    #[serde(flatten)]
    found: &'a DecontaminateReport,
    outputs: &'a [PathBuf],
}

/// Runs the command.
pub fn run(args: &DecontaminateArgs, settings: &Settings) -> Result<(), Failure> {
    let files = args.files.check(settings)?;
    let sets = TestSets::read(&args.against, &files.reader)?;
    let mut outputs = files.begin()?;
    let watch = &mut |progress| files.watch(progress);
    let found =
        decontaminate(files.input(), &sets, args.common, watch, |file, record| outputs.keep(file, record));
    let found = files.finished(found)?;
    let report = Report { command: "data decontaminate", found: &found, outputs: &files.outputs };
    files.commit(outputs, &report)?;
    Ok(settings.output.result(&report, describe(&found, &files))?)
}

fn describe(report: &DecontaminateReport, files: &Files) -> String {
    let found = &report.found;
    let mut text = format!(
        "records      {} read, {} kept, {} dropped\ngrams        {} words; {} of those found are in more than {} records: \
         standing phrases",
        report.total.records,
        report.total.kept,
        report.total.found.contaminated,
        found.words,
        found.standing_phrases,
        found.common_records
    );
    for set in &found.test_sets {
        write!(
            text,
            "\ntest set     {}: {} of {} items found, {} at least by half, in {} records; {} too short to look for",
            set.file.display(),
            set.hit,
            set.items,
            set.half,
            set.records,
            set.items - set.checked
        )
        .expect("writing to a string");
    }
    text + &files.written()
}
