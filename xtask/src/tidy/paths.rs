//! No file names a path that exists on one machine only.

use std::path::Path;

use super::Problem;

/// Folders at the root of a machine that hold somebody's files.
const PERSONAL: [&str; 8] = ["home", "root", "Users", "work", "mnt", "media", "data", "workspace"];

/// Finds the folders of [`PERSONAL`] where the first slash begins a path.
pub fn check(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for folder in PERSONAL {
            let pattern = format!("/{folder}/");
            let mut starts = line.match_indices(&pattern).filter(|(at, _)| begins_path(&line[..*at]));
            if starts.next().is_some() {
                let message = format!("a path of one machine (`{pattern}...`)");
                problems.push(Problem::error(path, index + 1, message));
            }
        }
    }
    problems
}

/// Whether a slash after this text is the first of a path, rather than one inside it.
fn begins_path(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || "._-~/\\*}>)]".contains(c))
}
