//! Crate levels, from the manifests: each crate uses only crates of lower levels (tests excepted).

use std::path::Path;

use anyhow::Context;

use super::Problem;

/// The folders of `crates/`, lowest first. The one place that holds the order.
pub const LEVELS: [&str; 12] = [
    "kernels",
    "gguf",
    "tokenizer",
    "model",
    "checkpoint",
    "engine",
    "data",
    "eval",
    "measure",
    "quant",
    "train",
    "cli",
];

/// Checks every manifest in `crates/`.
pub fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let crates = root.join("crates");
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(&crates).with_context(|| format!("listing {}", crates.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = Path::new("crates").join(&name).join("Cargo.toml");
        let file = root.join(&path);
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        problems.extend(check_manifest(&path, &name, &text));
    }
    Ok(problems)
}

fn check_manifest(path: &Path, name: &str, text: &str) -> Vec<Problem> {
    let Some(level) = level(name) else {
        let message = format!("crate `{name}` has no level: give it one in xtask/src/tidy/levels.rs");
        return vec![Problem::error(path, 1, message)];
    };
    let mut problems = Vec::new();
    for (line, used) in dependencies(text) {
        if self::level(used).is_none_or(|used| used >= level) {
            let message =
                format!("`{name}` must not use `{used}`, which is not below it ({})", LEVELS.join(" < "));
            problems.push(Problem::error(path, line, message));
        }
    }
    let mut lines = text.lines().skip_while(|line| line.trim() != "[lints]");
    if !lines.any(|line| line.replace(' ', "") == "workspace=true") {
        problems.push(Problem::error(path, 1, "`[lints] workspace = true` is missing"));
    }
    problems
}

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == name)
}

/// Line and folder of every crate of ours that a manifest uses outside its tests.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        let mut key = line;
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (table, name) = match section.rsplit_once("dependencies.") {
                Some((table, name)) => (format!("{table}dependencies"), name),
                None => (section.into(), ""),
            };
            in_dependencies = table.ends_with("dependencies") && !table.ends_with("dev-dependencies");
            key = name;
        }
        let name = key.strip_prefix("shakti-").filter(|_| in_dependencies);
        let end = |name: &str| name.find(|c: char| !c.is_alphanumeric() && c != '-').unwrap_or(name.len());
        found.extend(name.map(|name| (index + 1, &name[..end(name)])));
    }
    found
}
