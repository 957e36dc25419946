//! `shakti data canary`: made-up secrets for a later leak test.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::{CheckpointError, Overwrite};
use shakti_data::cleaning::{Alphabet, CanaryList, CanarySettings, SecretSpace, plant};

use super::files::FileArgs;
use crate::failure::Failure;
use crate::settings::Settings;

/// Plant made-up secrets into a copy of a training file, to measure later what a model repeats
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti data canary notes.jsonl -o out/notes.jsonl --list out/canaries.json --repeat 1,4,16 --seed 4711"
)]
pub struct CanaryArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Write the secrets here, readable by their owner only; keep the file away from what is trained on
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Canaries to plant
    #[arg(long, value_name = "N", default_value_t = 12)]
    count: usize,
    /// Copies of a canary; several numbers are used in turn
    #[arg(long, value_name = "N", default_value = "1", value_delimiter = ',')]
    repeat: Vec<usize>,
    /// Canaries that are drawn in the same way and planted nowhere
    #[arg(long, value_name = "N", default_value_t = 1000)]
    references: usize,
    /// What a secret is made of
    #[arg(long, value_name = "KIND", default_value = "digits", value_parser = ["digits", "letters"])]
    alphabet: String,
    /// Length of a secret in characters
    #[arg(long, value_name = "N", default_value_t = 9)]
    length: usize,
    /// The sentence; {secret} and, if wanted, {id} are replaced
    #[arg(long, value_name = "TEXT", default_value = "The access code of record {id} is {secret}.")]
    template: String,
    /// Determines secrets and places; whoever knows it knows the secrets
    #[arg(long, value_name = "N")]
    seed: u64,
}

/// What `--json` and `--report` hold: nothing secret.
#[derive(Serialize)]
struct Report<'a> {
    command: &'static str,
    planted: usize,
    copies: usize,
    references: usize,
    space: SecretSpace,
    bits: f64,
    template: &'a str,
    list: &'a Path,
    seal: &'a str,
    outputs: &'a [PathBuf],
}

/// Runs the command.
pub fn run(args: &CanaryArgs, settings: &Settings) -> Result<(), Failure> {
    let files = args.files.check(settings)?;
    if files.outputs.is_empty() {
        return Err(Failure::bad_input("--out is missing: canaries are planted into a copy"));
    }
    let overwrite = args.files.overwrite();
    check_list(&args.list, &files.inputs, &files.outputs, overwrite)?;
    let alphabet = if args.alphabet == "letters" { Alphabet::Letters } else { Alphabet::Digits };
    let wanted = CanarySettings {
        count: args.count,
        repeats: args.repeat.clone(),
        references: args.references,
        space: SecretSpace { alphabet, length: args.length },
        template: args.template.clone(),
        seed: args.seed,
    };
    let mut outputs = files.begin()?;
    let watch = &mut |progress| files.watch(progress);
    let list = plant(files.input(), &wanted, watch, |file, text| outputs.write(file, text));
    let list = files.finished(list)?;
    write_private(&args.list, &list, overwrite)?;
    let report = Report {
        command: "data canary",
        planted: list.planted.len(),
        copies: list.planted.iter().map(|canary| canary.copies.len()).sum(),
        references: list.references.len(),
        space: list.space,
        bits: list.bits,
        template: &list.template,
        list: &args.list,
        seal: &list.seal,
        outputs: &files.outputs,
    };
    files.commit(outputs, &report)?;
    let text = format!(
        "canaries     {} in {} copies, {} for reference\nspace        {} {} a secret: {:.1} bits, the largest exposure\n\
         list         {}, seal {}{}",
        report.planted,
        report.copies,
        report.references,
        list.space.length,
        args.alphabet,
        list.bits,
        args.list.display(),
        list.seal,
        files.written()
    );
    Ok(settings.output.result(&report, text)?)
}

fn check_list(
    list: &Path,
    inputs: &[PathBuf],
    outputs: &[PathBuf],
    overwrite: Overwrite,
) -> Result<(), Failure> {
    if inputs.iter().chain(outputs).any(|path| path == list) {
        return Err(Failure::bad_input(format!("--list {}: this file holds records", list.display())));
    }
    if overwrite == Overwrite::Refuse && list.exists() {
        return Err(CheckpointError::AlreadyExists { path: list.to_path_buf() }.into());
    }
    Ok(())
}

/// Writes the list and takes it back where others could read it.
fn write_private(path: &Path, list: &CanaryList, overwrite: Overwrite) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(list)?;
    bytes.push(b'\n');
    shakti_checkpoint::files::write_file(path, &bytes, overwrite)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            std::fs::remove_file(path)?;
            let problem = format!(
                "--list {}: this file system lets others read it (mode {:o})",
                path.display(),
                mode & 0o777
            );
            return Err(Failure::bad_input(problem).hint("choose a place on a file system with modes"));
        }
    }
    Ok(())
}
