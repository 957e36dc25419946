//! `cargo xtask engine-size`: builds the program without training and data, and holds its size to a limit.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Bytes that the stripped program may have.
const MOST: u64 = 8_000_000;
/// What is built.
const BUILD: [&str; 6] = ["build", "--profile", "small", "--package", "shakti-cli", "--no-default-features"];

/// Builds and measures it; false if it is too large.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    println!("cargo {}", BUILD.join(" "));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(BUILD)
        .status()
        .context("starting cargo build")?;
    if !status.success() {
        bail!("the build ended with {status}");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
    let program = target.join("small").join(format!("shakti{}", std::env::consts::EXE_SUFFIX));
    let bytes = std::fs::metadata(&program).with_context(|| program.display().to_string())?.len();
    println!(
        "{}: {:.2} MB, at most {:.2} are allowed",
        program.display(),
        bytes as f64 / 1e6,
        MOST as f64 / 1e6
    );
    Ok(is_small(bytes))
}

fn is_small(bytes: u64) -> bool {
    bytes <= MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_above_the_limit_is_refused() {
        assert!(is_small(8_000_000) && !is_small(8_000_001));
    }
}
