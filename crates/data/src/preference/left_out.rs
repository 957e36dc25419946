//! The rows that preference stages cannot learn from: counted by reason, listed by file and line.

use crate::error::{DataError, ErrorKind};
use crate::record::Record;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Lines named in the error and in the printed form.
const LINES_SHOWN: usize = 5;

/// Why a row is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The chosen answer is the rejected one, white space around them not counted.
    Equal,
    /// An answer is empty or only white space.
    Empty,
    /// After rendering, an answer's conversation does not begin with the prompt.
    PrefixDiffers,
    /// A side is not one message of the assistant.
    NotOneAnswer,
    /// The prompt alone is longer than `sequence_length` inputs.
    NoRoom,
    /// What is left of both answers after cutting is the same.
    EqualAfterCut,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Equal,
        Self::Empty,
        Self::PrefixDiffers,
        Self::NotOneAnswer,
        Self::NoRoom,
        Self::EqualAfterCut,
    ];

    /// Whether the row itself is at fault, and not the length it was cut to.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::NoRoom | Self::EqualAfterCut)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "chosen equals rejected",
            Self::Empty => "an answer is empty",
            Self::PrefixDiffers => "the shared prompt differs after rendering",
            Self::NotOneAnswer => "a side is not one answer",
            Self::NoRoom => "the prompt leaves no room for an answer",
            Self::EqualAfterCut => "both answers are equal after cutting",
        })
    }
}

/// A row that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutRow {
    /// The file it was read from.
    pub file: Arc<Path>,
    /// Its line there, 1-based.
    pub line: u64,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for LeftOutRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// What was read, left out and cut. A run that reads several splits adds their reports up before it checks them.
#[derive(Clone, Debug, Default)]
#[must_use = "rows may have been left out: print the report and `check` it"]
pub struct LeftOut {
    /// Records read of each file, in the order the files first came.
    files: Vec<(Arc<Path>, usize)>,
    rows: Vec<LeftOutRow>,
    cut: usize,
}

impl LeftOut {
    pub(super) fn kept(&mut self, record: &Record, cut: usize) {
        self.read_of(&record.file, 1);
        self.cut += cut;
    }

    pub(super) fn left_out(&mut self, record: &Record, reason: Reason) {
        self.read_of(&record.file, 1);
        self.rows.push(LeftOutRow { file: record.file.clone(), line: record.line, reason });
    }

    fn read_of(&mut self, file: &Arc<Path>, records: usize) {
        match self.files.iter_mut().rfind(|(known, _)| known == file) {
            Some((_, read)) => *read += records,
            None => self.files.push((file.clone(), records)),
        }
    }

    /// Adds another report, for example that of another split.
    pub fn add(&mut self, other: Self) {
        other.files.iter().for_each(|(file, read)| self.read_of(file, *read));
        self.rows.extend(other.rows);
        self.cut += other.cut;
    }

    /// Records read.
    pub fn read(&self) -> usize {
        self.files.iter().map(|(_, read)| read).sum()
    }

    /// Every row that is left out, in the order they were read.
    pub fn rows(&self) -> &[LeftOutRow] {
        &self.rows
    }

    /// Rows left out for one reason.
    pub fn count(&self, reason: Reason) -> usize {
        self.rows.iter().filter(|row| row.reason == reason).count()
    }

    /// Completions whose end was cut off.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// Refuses data of which too much is at fault.
    ///
    /// # Errors
    /// [`ErrorKind::LeftOut`] for the first file of whose records more than 5% are at fault ([`Reason::is_fault`]).
    pub fn check(&self) -> Result<(), DataError> {
        for (file, read) in &self.files {
            let faulty: Vec<&LeftOutRow> =
                self.rows.iter().filter(|row| row.file == *file && row.reason.is_fault()).collect();
            // 5% is one in twenty.
            if faulty.len() * 20 > *read {
                let reasons = reasons(|reason| faulty.iter().filter(|row| row.reason == reason).count());
                let lines = lines(faulty.iter().map(|row| row.line));
                let kind = ErrorKind::LeftOut { faulty: faulty.len(), read: *read, reasons, lines };
                return Err(DataError::in_file(kind, file));
            }
        }
        Ok(())
    }
}

/// Two lines or more: the sums, and the first rows of each reason.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} records left out, {} answers cut", self.rows.len(), self.read(), self.cut)?;
        for reason in Reason::ALL {
            let mut rows = self.rows.iter().filter(|row| row.reason == reason);
            let Some(first) = rows.next() else { continue };
            write!(
                f,
                "\n  {reason}: {}, the first at {}:{}",
                self.count(reason),
                first.file.display(),
                first.line
            )?;
        }
        Ok(())
    }
}

fn reasons(count: impl Fn(Reason) -> usize) -> String {
    let found = Reason::ALL.into_iter().map(|reason| (reason, count(reason))).filter(|&(_, count)| count > 0);
    found.map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

fn lines(lines: impl ExactSizeIterator<Item = u64>) -> String {
    let (name, more) = match lines.len() {
        1 => ("line", ""),
        len if len > LINES_SHOWN => ("lines", ", ..."),
        _ => ("lines", ""),
    };
    let shown: Vec<String> = lines.take(LINES_SHOWN).map(|line| line.to_string()).collect();
    format!("{name} {}{more}", shown.join(", "))
}
