//! Results as they are kept: every value of every round, so that tables can be printed again.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shakti_measure::{Machine, Spread};

use crate::cells::{Key, Table};

/// All results of one machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub processor: String,
    pub cores: usize,
    pub os: String,
    pub cells: Vec<Cell>,
}

/// One cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    #[serde(flatten)]
    pub key: Key,
    /// Ours first; of twins, the native model.
    pub runs: Vec<Run>,
    pub bound: Option<Bound>,
    /// Why there is nothing.
    pub not_got: Option<String>,
    /// What the numbers need to be understood.
    pub note: Option<String>,
}

/// What one token of ours costs, and what this machine gives of it in a second: bytes or operations.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bound {
    pub per_token: f64,
    pub limit_per_s: f64,
}

/// One contestant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    pub name: String,
    pub command: String,
    /// A value a round.
    pub values: Vec<f64>,
    /// Clearly slower than another variant in the first round, so not run again.
    pub is_dropped: bool,
    pub failure: Option<String>,
    pub kv_bytes: Option<u64>,
    pub note: Option<String>,
}

impl Run {
    /// No results yet.
    pub fn new(name: &str, command: String) -> Self {
        Self { name: name.into(), command, ..Self::default() }
    }

    /// Whether another round makes sense.
    pub fn is_running(&self) -> bool {
        !self.is_dropped && self.failure.is_none()
    }

    /// Median of the rounds.
    pub fn median(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| Spread::of(&self.values).median)
    }

    /// One line for the progress of a table.
    pub fn line(&self, table: Table) -> String {
        let values: Vec<String> =
            self.values.iter().map(|value| format!("{:.1}", value * crate::tables::unit(table).0)).collect();
        let failure = self.failure.as_ref().map_or_else(String::new, |failure| format!(" failed: {failure}"));
        format!("{:<20} {}{failure}", self.name, values.join(" "))
    }
}

impl Cell {
    /// A cell that could not be measured at all.
    pub fn not_got(key: &Key, why: String) -> Self {
        Self { key: key.clone(), runs: Vec::new(), bound: None, not_got: Some(why), note: None }
    }
}

impl Record {
    /// What a file holds, or nothing yet.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let machine = Machine::here();
        let Some(path) = path.filter(|path| path.exists()) else {
            return Ok(Self {
                processor: machine.processor,
                cores: machine.cores,
                os: machine.os,
                cells: Vec::new(),
            });
        };
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let record: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(record)
    }

    /// Writes all results; a file that stood there is whole until the new one is.
    pub fn save(&self, path: Option<&Path>) -> anyhow::Result<()> {
        let Some(path) = path else { return Ok(()) };
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, serde_json::to_string_pretty(self)?)
            .and_then(|()| fs::rename(&unfinished, path))
            .with_context(|| path.display().to_string())
    }

    /// The results of a cell.
    pub fn cell(&self, key: &Key) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.key == *key)
    }

    /// One more cell.
    pub fn push(&mut self, cell: Cell) {
        self.cells.push(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.json");
        let mut record = Record::open(Some(&path)).expect("a new record");
        let key = Key {
            table: Table::TwinsDecode,
            model: "100m".into(),
            format: "q4_0".into(),
            threads: 2,
            depth: Some(512),
        };
        record.push(Cell::not_got(&key, "no memory".into()));
        record.save(Some(&path)).expect("a file");
        let again = Record::open(Some(&path)).expect("the same record");
        assert_eq!(again.cell(&key).and_then(|cell| cell.not_got.as_deref()), Some("no memory"));
        assert!(again.cell(&Key { depth: None, ..key }).is_none());
    }
}
