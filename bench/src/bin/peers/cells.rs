//! The cells: which table, which file, how many threads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Args;

/// Tokens of the cells, as the tables name them.
pub const DECODE_TOKENS: usize = 128;
/// Tokens decoded in a deep cache and in a batch.
pub const SHORT_DECODE: usize = 64;
/// Tokens in the deep cache.
pub const DEPTH: usize = 2048;
/// Tokens of the prompt.
pub const PROMPT: usize = 512;
/// Tokens that each sequence of a batch holds before it decodes.
pub const BATCH_PROMPT: usize = 128;
/// Lengths at which native models meet their dense twins.
const TWIN_DEPTHS: [usize; 3] = [512, 2048, 4096];

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    Decode,
    Depth,
    Prefill,
    Batch8,
    Batch32,
    Start,
    Memory,
    TwinsDecode,
    TwinsPrefill,
    Limit,
}

impl Table {
    /// Every table, in the order in which they are printed.
    pub const ALL: [Self; 10] = [
        Self::Decode,
        Self::Depth,
        Self::Prefill,
        Self::Batch8,
        Self::Batch32,
        Self::Start,
        Self::Memory,
        Self::TwinsDecode,
        Self::TwinsPrefill,
        Self::Limit,
    ];

    /// Its name in the names of cells.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Depth => "depth",
            Self::Prefill => "prefill",
            Self::Batch8 => "batch8",
            Self::Batch32 => "batch32",
            Self::Start => "start",
            Self::Memory => "memory",
            Self::TwinsDecode => "twins-decode",
            Self::TwinsPrefill => "twins-prefill",
            Self::Limit => "limit",
        }
    }

    /// The word of `--tables` that asks for it.
    fn word(self) -> &'static str {
        match self {
            Self::Batch8 | Self::Batch32 => "batch",
            Self::TwinsDecode | Self::TwinsPrefill => "twins",
            other => other.name(),
        }
    }

    /// Whether a smaller number is the better one.
    pub fn is_cost(self) -> bool {
        matches!(self, Self::Start | Self::Memory)
    }

    /// Whether native models stand beside dense ones here, instead of programs.
    pub fn is_twins(self) -> bool {
        matches!(self, Self::TwinsDecode | Self::TwinsPrefill)
    }
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub table: Table,
    pub model: String,
    pub format: String,
    pub threads: usize,
    /// Tokens in the cache, twins only.
    pub depth: Option<usize>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.table.name(), self.model, self.format, self.threads)?;
        self.depth.map_or(Ok(()), |depth| write!(f, "/{depth}"))
    }
}

/// The cells that are asked for.
pub fn keys(args: &Args) -> anyhow::Result<Vec<Key>> {
    for word in &args.tables {
        anyhow::ensure!(
            Table::ALL.iter().any(|table| table.word() == word),
            "--tables: `{word}` is not known"
        );
    }
    let mut keys = Vec::new();
    for table in Table::ALL.into_iter().filter(|table| args.tables.iter().any(|word| word == table.word())) {
        match table {
            Table::TwinsDecode | Table::TwinsPrefill => keys.extend(twins(args, table)),
            Table::Limit => {
                keys.push(Key { table, model: "500m".into(), format: "q4_0".into(), threads: 2, depth: None })
            }
            _ => keys.extend(grid(args, table)),
        }
    }
    keys.retain(|key| args.only.is_empty() || args.only.iter().any(|part| key.to_string().contains(part)));
    anyhow::ensure!(!keys.is_empty(), "no cell is left: see --tables and --only");
    Ok(keys)
}

fn grid(args: &Args, table: Table) -> Vec<Key> {
    let mut keys = Vec::new();
    for model in &args.sizes {
        for format in &args.formats {
            keys.extend(args.threads.iter().map(|&threads| Key {
                table,
                model: model.clone(),
                format: format.clone(),
                threads,
                depth: None,
            }));
        }
    }
    keys
}

/// Native models that differ from dense ones: variable KV heads with a window, and block sparse.
fn twins(args: &Args, table: Table) -> Vec<Key> {
    let mut keys = Vec::new();
    for model in args.sizes.iter().filter(|size| ["100m", "500m"].contains(&size.as_str())) {
        for &threads in &args.threads {
            keys.extend(TWIN_DEPTHS.map(|depth| Key {
                table,
                model: model.clone(),
                format: "q4_0".into(),
                threads,
                depth: Some(depth),
            }));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn names(flags: &[&str]) -> Vec<String> {
        let fixed = ["peers", "--shakti", "s", "--models", "m"];
        let args = Args::parse_from(fixed.iter().chain(flags));
        keys(&args)
            .map_or_else(|error| vec![error.to_string()], |keys| keys.iter().map(Key::to_string).collect())
    }

    #[test]
    fn cells_are_chosen_by_flags_and_by_parts_of_their_names() {
        assert_eq!(names(&["--tables", "decode"]).len(), 30);
        let few = ["--sizes", "100m", "--formats", "q4_0", "--threads", "2"];
        let batch: Vec<&str> = few.into_iter().chain(["--tables", "batch,limit"]).collect();
        assert_eq!(names(&batch), ["batch8/100m/q4_0/2", "batch32/100m/q4_0/2", "limit/500m/q4_0/2"]);
        let twins = names(&["--tables", "twins,decode", "--only", "twins-prefill/500m,decode/250m/q8_0/1"]);
        assert_eq!(twins.len(), 7, "{twins:?}");
        assert!(twins.contains(&"twins-prefill/500m/q4_0/2/4096".to_owned()), "{twins:?}");
        assert!(names(&["--tables", "speed"])[0].contains("`speed`"));
        assert!(names(&["--only", "nothing"])[0].contains("--only"));
    }
}
