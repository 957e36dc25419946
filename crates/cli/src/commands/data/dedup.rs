//! `shakti data dedup`: exact and near duplicates.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use shakti_data::Shingles;
use shakti_data::cleaning::{DedupReport, DedupSettings, dedup};

use super::files::{FileArgs, Files};
use crate::failure::Failure;
use crate::settings::Settings;

/// Drop records that repeat earlier ones, word for word or nearly
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti data dedup data/quickstart/medical_qa.jsonl.zst -o out/questions.jsonl --report out/dedup.json"
)]
pub struct DedupArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Least Jaccard similarity of near duplicates, above 0 and at most 1
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    threshold: f64,
    /// Drop exact duplicates only
    #[arg(long, conflicts_with_all = ["threshold", "words", "chars"])]
    exact_only: bool,
    /// Compare runs of N words
    #[arg(long, value_name = "N", default_value_t = 5)]
    words: usize,
    /// Compare runs of N characters instead, for languages written without spaces
    #[arg(long, value_name = "N", conflicts_with = "words")]
    chars: Option<usize>,
    /// Most hash functions a record: more find more of what is near the threshold
    #[arg(long, value_name = "N", default_value_t = 128)]
    hashes: usize,
    /// Seed of the hash functions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What `--json` and `--report` hold.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    #[serde(flatten)]
    found: &'a DedupReport,
    outputs: &'a [std::path::PathBuf],
}

/// Runs the command.
pub fn run(args: &DedupArgs, settings: &Settings) -> Result<(), Failure> {
    let files = args.files.check(settings)?;
    let mut outputs = files.begin()?;
    let wanted = DedupSettings {
        threshold: (!args.exact_only).then_some(args.threshold),
        shingles: args.chars.map_or(Shingles::Words(args.words), Shingles::Characters),
        hashes: args.hashes,
        seed: args.seed,
    };
    let found = dedup(files.input(), &wanted, &mut |progress| files.watch(progress), |file, record| {
        outputs.keep(file, record)
    });
    let found = files.finished(found)?;
    let report = Report { command: "data dedup", found: &found, outputs: &files.outputs };
    files.commit(outputs, &report)?;
    Ok(settings.output.result(&report, describe(&found, &files))?)
}

fn describe(found: &DedupReport, files: &Files) -> String {
    let total = &found.total;
    let counts = &total.found;
    let mut text = format!(
        "records      {} read, {} kept\ndropped      {} exact duplicates, {} near duplicates, {} blank",
        total.records, total.kept, counts.exact, counts.near, counts.blank
    );
    if let Some(threshold) = found.threshold {
        let (size, unit) = match found.shingles {
            Shingles::Words(size) => (size, "words"),
            Shingles::Characters(size) => (size, "characters"),
        };
        write!(
            text,
            "\nnear         Jaccard similarity of at least {threshold} between sets of {size} {unit} in a row\n\
             compared     {} pairs of {} records that share one of {} bands of {} hashes; a pair at the threshold is \
             compared with probability {:.4}",
            found.comparisons, found.candidates, found.bands.bands, found.bands.rows, found.recall_at_threshold
        )
        .expect("writing to a string");
    }
    let largest = found.clusters.iter().max_by_key(|cluster| cluster.dropped.len());
    if let Some(largest) = largest {
        let kept = &largest.kept;
        write!(
            text,
            "\nclusters     {}, the largest of {} records, its first at {}:{}",
            found.clusters.len(),
            largest.dropped.len() + 1,
            kept.file.display(),
            kept.line
        )
        .expect("writing to a string");
    }
    text + &files.written()
}
