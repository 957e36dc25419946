//! The training files of a quickstart: those inside the binary, or those of the user's folder.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use shakti_checkpoint::Overwrite;
use shakti_checkpoint::files::{create_folder, write_file};
use shakti_data::cleaning::{Input, PiiKind, PiiReport, pii};
use shakti_data::input::{RecordReader, kind_of};
use shakti_data::{DataError, ErrorKind, ReaderSettings, RecordKind};

use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::output::Output;

/// Name and contents of the medical texts (CC BY, see [`ATTRIBUTION`]).
pub const TEXT: (&str, &[u8]) =
    ("medical_text.jsonl.zst", include_bytes!("../../../../../data/quickstart/medical_text.jsonl.zst"));
/// Name and contents of the medical questions (CC BY, see [`ATTRIBUTION`]).
pub const QUESTIONS: (&str, &[u8]) =
    ("medical_qa.jsonl.zst", include_bytes!("../../../../../data/quickstart/medical_qa.jsonl.zst"));
/// Authors and licences.
const ATTRIBUTION: &[u8] = include_bytes!("../../../../../data/quickstart/README.md");

/// The training files by what their records are.
#[derive(Debug)]
pub struct Files {
    /// Files of texts.
    pub texts: Vec<PathBuf>,
    /// Files of conversations.
    pub chats: Vec<PathBuf>,
}

impl Files {
    /// Unpacks the data that this binary carries into a folder.
    ///
    /// # Errors
    /// What the system reports.
    pub fn unpack(folder: &Path) -> Result<Self, Failure> {
        create_folder(folder)?;
        let put = |(name, bytes): (&str, &[u8])| -> Result<PathBuf, Failure> {
            let path = folder.join(name);
            write_file(&path, bytes, Overwrite::Refuse)?;
            Ok(path)
        };
        put(("README.md", ATTRIBUTION))?;
        Ok(Self { texts: vec![put(TEXT)?], chats: vec![put(QUESTIONS)?] })
    }

    /// All files of texts and records below a folder (or the one file), in the order of their names. Hidden ones and links
    /// to folders are passed over; files of other kinds are named.
    ///
    /// # Errors
    /// A folder that cannot be read or has no such file, a file whose first record cannot be read.
    pub fn find(folder: &Path, output: Output) -> Result<Self, Failure> {
        let (mut found, mut others) = (Vec::new(), Vec::new());
        collect(folder, &mut found, &mut others)?;
        if !others.is_empty() {
            let names: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
            output.note(format!("  passed over, of no kind that is read: {}", names.join(", ")));
        }
        if found.is_empty() {
            let problem = format!("{}: no training file in it", folder.display());
            return Err(Failure::bad_input(problem)
                .hint("read are .txt, .jsonl, .ndjson and .json, also packed as .gz or .zst"));
        }
        found.sort_unstable();
        let mut files = Self { texts: Vec::new(), chats: Vec::new() };
        for path in found {
            match first_record(&path)? {
                Some(RecordKind::Chat(_)) => files.chats.push(path),
                Some(RecordKind::Preference { .. } | RecordKind::Rated { .. }) => {
                    let problem = format!(
                        "{}: holds preferences, which a quickstart does not learn from",
                        path.display()
                    );
                    return Err(Failure::bad_input(problem)
                        .hint("it takes texts and conversations: move the file elsewhere"));
                }
                Some(RecordKind::Text(_)) | None => files.texts.push(path),
            }
        }
        Ok(files)
    }

    /// All of them, texts first.
    pub fn all(&self) -> Vec<&Path> {
        self.texts.iter().chain(&self.chats).map(PathBuf::as_path).collect()
    }

    /// Counts what looks like personal data in them.
    ///
    /// # Errors
    /// The first thing wrong in any file; Ctrl-C.
    pub fn personal_data(&self, threads: usize) -> Result<PiiReport, Failure> {
        let (listener, reader) = (Listener::new(), ReaderSettings::default());
        let paths: Vec<PathBuf> = self.all().into_iter().map(Path::to_path_buf).collect();
        let input = Input { paths: &paths, reader: &reader, threads };
        let mut watch =
            |_| if listener.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        pii(input, &PiiKind::ALL, &mut watch, |_, _| Ok(())).map_err(|error| match error.kind() {
            ErrorKind::Stopped => Failure::interrupted("nothing was trained"),
            _ => error.into(),
        })
    }
}

fn collect(path: &Path, found: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = || format!("{}: cannot read", path.display());
    if path.is_file() {
        let list = if kind_of(path).is_ok() { found } else { others };
        list.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).context(cannot())? {
        let entry = entry.context(cannot())?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let link = entry.file_type().context(cannot())?.is_symlink();
        let path = entry.path();
        if !hidden && (path.is_file() || (path.is_dir() && !link)) {
            collect(&path, found, others)?;
        }
    }
    Ok(())
}

/// A file's first record; every other is of its kind.
fn first_record(path: &Path) -> Result<Option<RecordKind>, DataError> {
    let mut reader = RecordReader::open(path, &ReaderSettings::default())?;
    Ok(reader.next().transpose()?.map(|record| record.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_folders_below_and_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let chat = put("b/chat.jsonl", "{\"question\": \"Why?\", \"answer\": \"Because.\"}\n");
        let text = put("c.txt", "A text.");
        let record = put("a/record.json", "[{\"text\": \"Another.\"}]");
        put(".hidden.txt", "x");
        put("table.xls", "x");
        let output = Output::new(false, true);
        let files = Files::find(folder.path(), output).unwrap();
        assert_eq!((files.texts, files.chats), (vec![record, text.clone()], vec![chat]));
        assert_eq!(Files::find(&text, output).unwrap().texts, [text]);
        std::fs::remove_dir_all(folder.path().join("a")).unwrap();
        put("broken.jsonl", "{\"text\": ");
        let refused = Files::find(folder.path(), output).unwrap_err().to_string();
        assert!(refused.contains("broken.jsonl"), "{refused}");
    }
}
