//! The files of the cleaning commands: checked before any work, written whole or not at all, all or none.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use shakti_checkpoint::files::{AtomicFile, create_folder};
use shakti_checkpoint::{CheckpointError, Overwrite};
use shakti_data::cleaning::{Input, Progress};
use shakti_data::input::kind_of;
use shakti_data::{DataError, ErrorKind, ReaderSettings, RecordWriter, SourceRecord, check_name};

use crate::failure::Failure;
use crate::interrupt::Listener;
use crate::output::Output;
use crate::settings::Settings;

/// What is read and written.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Text, JSON lines or JSON, also .gz and .zst; several are read as one, in this order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write the cleaned records here: a file, or with several FILEs a folder; without it nothing is cleaned, only
    /// counted
    #[arg(short, long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Write the report here, as JSON; it names places and holds no text of the records
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Replace what --out and --report name
    #[arg(long)]
    force: bool,
}

/// A command's files after the checks.
#[derive(Debug)]
pub struct Files {
    /// Inputs, each once.
    pub inputs: Vec<PathBuf>,
    /// One for each input; empty if nothing is to be written.
    pub outputs: Vec<PathBuf>,
    report: Option<PathBuf>,
    overwrite: Overwrite,
    /// How the inputs are read.
    pub reader: ReaderSettings,
    threads: usize,
    output: Output,
    listener: Listener,
}

impl FileArgs {
    /// Checks that the inputs are there and that no output is, and creates the folder of the outputs.
    ///
    /// # Errors
    /// Names the file in question; nothing has been written.
    pub fn check(&self, settings: &Settings) -> Result<Files, Failure> {
        let mut inputs: Vec<PathBuf> = Vec::new();
        for path in &self.files {
            if !path.is_file() {
                return Err(Failure::bad_input(format!("{}: no such file", path.display())));
            }
            if !inputs.contains(path) {
                inputs.push(path.clone());
            }
        }
        let outputs = self.outputs(&inputs)?;
        let mut written = outputs.iter().chain(&self.report);
        if let Some(path) = written.find(|path| !self.force && path.exists()) {
            return Err(CheckpointError::AlreadyExists { path: path.clone() }.into());
        }
        if let Some(report) =
            self.report.as_ref().filter(|&path| inputs.iter().chain(&outputs).any(|data| data == path))
        {
            let problem = format!("--report {}: this file holds records", report.display());
            return Err(Failure::bad_input(problem));
        }
        if let Some(folder) = self.out.as_deref().filter(|_| inputs.len() > 1) {
            create_folder(folder)?;
        }
        Ok(Files {
            inputs,
            outputs,
            report: self.report.clone(),
            overwrite: self.overwrite(),
            reader: ReaderSettings::default(),
            threads: settings.threads[0],
            output: settings.output,
            listener: Listener::new(),
        })
    }

    /// What happens to files that are there.
    pub fn overwrite(&self) -> Overwrite {
        if self.force { Overwrite::Replace } else { Overwrite::Refuse }
    }

    fn outputs(&self, inputs: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let Some(out) = &self.out else { return Ok(Vec::new()) };
        let mut outputs: Vec<PathBuf> = Vec::new();
        for input in inputs {
            let output = match (inputs.len(), input.file_name()) {
                (1, _) if !out.is_dir() => out.clone(),
                (_, Some(name)) => out.join(name),
                (_, None) => return Err(Failure::bad_input(format!("{}: names no file", input.display()))),
            };
            if outputs.contains(&output) {
                let problem = format!("--out: two inputs would be written to {}", output.display());
                return Err(Failure::bad_input(problem).hint("clean them one by one"));
            }
            let (_, container) = kind_of(input).map_err(DataError::from)?;
            check_name(&output, container)?;
            outputs.push(output);
        }
        Ok(outputs)
    }
}

impl Files {
    /// The inputs as the data crate takes them.
    pub fn input(&self) -> Input<'_> {
        Input { paths: &self.inputs, reader: &self.reader, threads: self.threads }
    }

    /// Shows where the work stands; ends it after Ctrl-C.
    pub fn watch(&self, progress: Progress) -> ControlFlow<()> {
        let share = 100.0 * progress.bytes as f64 / progress.total.max(1) as f64;
        let megabytes = progress.total as f64 / 1e6;
        self.output.progress(format!("{}: {:.0}% of {megabytes:.1} MB", progress.doing, share.min(100.0)));
        if self.listener.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Begins the outputs under temporary names.
    ///
    /// # Errors
    /// What the system reports.
    pub fn begin(&self) -> Result<Outputs, Failure> {
        let mut writers = Vec::new();
        for (input, path) in self.inputs.iter().zip(&self.outputs) {
            let (_, container) = kind_of(input).map_err(DataError::from)?;
            let file = AtomicFile::create(path, self.overwrite)
                .map_err(|error| CheckpointError::io(path, "write the file", error))?;
            writers.push((path.clone(), RecordWriter::new(path, file, container)?));
        }
        Ok(Outputs(writers))
    }

    /// Ends the work: clears the progress and says what an error means for the outputs.
    ///
    /// # Errors
    /// That of the work.
    pub fn finished<T>(&self, result: Result<T, DataError>) -> Result<T, Failure> {
        self.output.progress("");
        result.map_err(|error| match error.kind() {
            ErrorKind::Stopped => Failure::interrupted("nothing was written"),
            _ => error.into(),
        })
    }

    /// Gives the outputs their names, then writes the report.
    ///
    /// # Errors
    /// What the system reports.
    pub fn commit(&self, outputs: Outputs, report: &impl Serialize) -> Result<(), Failure> {
        outputs.commit()?;
        let Some(path) = &self.report else { return Ok(()) };
        let mut bytes = serde_json::to_vec_pretty(report)?;
        bytes.push(b'\n');
        Ok(shakti_checkpoint::files::write_file(path, &bytes, self.overwrite)?)
    }

    /// `written  PATH` for each output, or that there is none.
    pub fn written(&self) -> String {
        let mut text = String::new();
        let mut row = |path: &Path| text.push_str(&format!("\nwritten      {}", path.display()));
        self.outputs.iter().chain(&self.report).for_each(|path| row(path));
        if self.outputs.is_empty() {
            text.push_str("\nnothing was cleaned: name an output with --out");
        }
        text
    }
}

/// The cleaned files under way; dropped before [`Files::commit`], they leave nothing.
pub struct Outputs(Vec<(PathBuf, RecordWriter<AtomicFile>)>);

impl Outputs {
    /// Writes a record of input `file` unchanged.
    ///
    /// # Errors
    /// What the system reports.
    pub fn keep(&mut self, file: usize, record: &SourceRecord) -> Result<(), DataError> {
        self.write(file, record.source())
    }

    /// Writes the text of a record of input `file`.
    ///
    /// # Errors
    /// What the system reports.
    pub fn write(&mut self, file: usize, source: &str) -> Result<(), DataError> {
        match self.0.get_mut(file) {
            Some((_, writer)) => writer.write(source),
            None => Ok(()),
        }
    }

    /// All files are whole before the first gets its name.
    fn commit(self) -> Result<(), Failure> {
        let finish =
            |(path, writer): (PathBuf, RecordWriter<AtomicFile>)| writer.finish().map(|file| (path, file));
        let files: Vec<_> = self.0.into_iter().map(finish).collect::<Result<_, _>>()?;
        for (path, file) in files {
            file.commit().map_err(|error| CheckpointError::io(&path, "write the file", error))?;
        }
        Ok(())
    }
}
