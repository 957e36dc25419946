//! The rules of the house that a machine can check: `cargo xtask tidy`, and a test of this crate.
//!
//! | rule | where |
//! |---|---|
//! | a crate uses only crates of lower levels | [`levels`] |
//! | no crate below the command line needs many packages, none reaches the network | [`closure`] |
//! | file budgets, module docs, `unsafe`, silenced lints, owed work, printing, sockets | [`rules`] |
//! | no paths of one machine in any file | [`paths`] |

mod closure;
mod levels;
mod paths;
mod rules;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    /// Relative to the root of the tree.
    path: PathBuf,
    /// From 1.
    line: usize,
    message: String,
    /// A warning does not fail the check.
    warning: bool,
}

impl Problem {
    fn error(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into(), warning: false }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}: {kind}{}", self.path.display(), self.line, self.message)
    }
}

/// Checks the tree and prints what it finds; false if there are errors.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    let problems = check(root)?;
    problems.iter().for_each(|problem| println!("{problem}"));
    let warnings = problems.iter().filter(|problem| problem.warning).count();
    let packages = closure::packages(root)?.len();
    println!("engine: built from {packages} packages, itself included; at most {}", closure::MAX_PACKAGES);
    println!("tidy: {} errors, {warnings} warnings", problems.len() - warnings);
    Ok(problems.len() == warnings)
}

/// Everything that breaks a rule, by file and line.
fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let files = files(root)?;
    let mut problems = levels::check(root)?;
    problems.extend(closure::check(root)?);
    for path in files {
        // Binary files (goldens, compressed data) are not text; no rule reads them.
        let Ok(text) = String::from_utf8(read(&root.join(&path))?) else { continue };
        problems.extend(paths::check(&path, &text));
        if path.extension().is_some_and(|extension| extension == "rs") {
            problems.extend(rules::check(&source::Source::new(&path, &text)));
        }
    }
    problems.sort();
    Ok(problems)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Files of the tree, relative to its root, without build outputs and hidden folders other than `.ci` and `.cargo`.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = std::fs::read_dir(&path).with_context(|| format!("listing {}", path.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let (kind, relative) = (entry.file_type()?, folder.join(&name));
            let name = name.to_string_lossy();
            let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&&*name);
            if kind.is_dir() && !hidden && !["target", "out", "__pycache__"].contains(&&*name) {
                folders.push(relative);
            } else if kind.is_file() && !hidden && name != "Cargo.lock" {
                files.push(relative);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
