//! What the engine needs to be built, as `cargo tree` sees it: few packages, no training, no network.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::Problem;

/// The most packages that `shakti-engine` may need, itself included.
pub const MAX_PACKAGES: usize = 40;

/// Packages that must not stand below the engine: its upper levels and everything that opens sockets.
const FORBIDDEN: [&str; 18] = [
    "shakti-train",
    "shakti-data",
    "async-std",
    "attohttpc",
    "axum",
    "curl",
    "h2",
    "hf-hub",
    "hyper",
    "isahc",
    "mio",
    "native-tls",
    "openssl",
    "reqwest",
    "rustls",
    "socket2",
    "tokio",
    "ureq",
];

/// Checks the packages that `shakti-engine` is built from.
pub fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let manifest = Path::new("crates/engine/Cargo.toml");
    let packages = packages(root)?;
    let mut problems = Vec::new();
    if packages.len() > MAX_PACKAGES {
        let message = format!(
            "the engine needs {} packages, at most {MAX_PACKAGES} are allowed (cargo tree -p shakti-engine -e no-dev)",
            packages.len()
        );
        problems.push(Problem::error(manifest, 1, message));
    }
    for name in packages.iter().filter_map(|package| package.split(' ').next()) {
        if FORBIDDEN.contains(&name) {
            let message =
                format!("the engine needs `{name}` (cargo tree -p shakti-engine -e no-dev -i {name})");
            problems.push(Problem::error(manifest, 1, message));
        }
    }
    Ok(problems)
}

/// Name and version of every package, the engine and its build dependencies included.
pub fn packages(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["tree", "--offline", "--package", "shakti-engine", "--edges", "no-dev", "--prefix", "none"])
        .output()
        .context("starting cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // A line is `name v1.2.3 (path or proc-macro) (*)`.
    let text = String::from_utf8_lossy(&output.stdout);
    let name_and_version = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().filter(|line| !line.is_empty()).map(name_and_version).collect())
}
