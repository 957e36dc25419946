//! `shakti data pii`: personal data.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use shakti_data::cleaning::{PiiKind, PiiReport, pii};

use super::files::{FileArgs, Files};
use crate::failure::Failure;
use crate::settings::Settings;

/// Count personal data, and with --out replace it by placeholders such as [EMAIL]
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti data pii letters.jsonl -o out/letters.jsonl --report out/pii.json\n\nNames, addresses of \
     houses and dates without a label are not found."
)]
pub struct PiiArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Look for these kinds only
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kinds())]
    only: Vec<String>,
    /// Leave these kinds alone
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kinds())]
    except: Vec<String>,
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(PiiKind::ALL.map(PiiKind::name))
}

/// What `--json` and `--report` hold.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    #[serde(flatten)]
    found: &'a PiiReport,
    outputs: &'a [PathBuf],
}

/// Runs the command.
pub fn run(args: &PiiArgs, settings: &Settings) -> Result<(), Failure> {
    let named = |list: &[String], kind: PiiKind| list.iter().any(|name| name == kind.name());
    let wanted =
        |kind: &PiiKind| (args.only.is_empty() || named(&args.only, *kind)) && !named(&args.except, *kind);
    let kinds: Vec<PiiKind> = PiiKind::ALL.into_iter().filter(wanted).collect();
    let files = args.files.check(settings)?;
    let mut outputs = files.begin()?;
    let watch = &mut |progress| files.watch(progress);
    let found = pii(files.input(), &kinds, watch, |file, text| outputs.write(file, text));
    let found = files.finished(found)?;
    let report = Report { command: "data pii", found: &found, outputs: &files.outputs };
    files.commit(outputs, &report)?;
    Ok(settings.output.result(&report, describe(&found, &files))?)
}

fn describe(found: &PiiReport, files: &Files) -> String {
    let total = &found.total;
    let mut text =
        format!("records      {} read, {} hold personal data", total.records, total.found.records_with);
    for kind in &found.kinds {
        let count = total.found.findings.get(kind).copied().unwrap_or(0);
        write!(text, "\n  {:<22} {count:>8}", kind.name()).expect("writing to a string");
    }
    text + &files.written()
}
