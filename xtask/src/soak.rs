//! `cargo xtask soak`: the random kills and the fuzzing of the test suite, many times longer, with a dated record.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;

/// How long.
#[derive(Args)]
pub struct SoakArgs {
    /// Random kills of a training run
    #[arg(long, value_name = "N", default_value_t = 500)]
    kills: u64,
    /// Seconds of fuzzing for each parser
    #[arg(long, value_name = "S", default_value_t = 60)]
    fuzz_seconds: u64,
    /// Fuzz only the parsers whose name holds this, e.g. gguf
    #[arg(long, value_name = "NAME")]
    fuzz_only: Option<String>,
}

/// A test program, the variable that makes it longer, and what its summary lines begin with.
struct Long<'a> {
    arguments: &'static [&'static str],
    filter: Option<&'a str>,
    variable: &'static str,
    value: u64,
    summary: &'static str,
}

/// Runs both and writes `bench/record/soak-DATE.md`; false if a test failed, and then nothing is recorded.
pub fn run(root: &Path, args: &SoakArgs) -> anyhow::Result<bool> {
    let kills = Long {
        arguments: &["--package", "shakti-cli", "--test", "soak"],
        filter: None,
        variable: "SHAKTI_SOAK_KILLS",
        value: args.kills,
        summary: "soak: ",
    };
    let fuzzing = Long {
        arguments: &["--package", "shakti-fuzz", "--test", "parsers"],
        filter: args.fuzz_only.as_deref(),
        variable: "SHAKTI_FUZZ_SECONDS",
        value: args.fuzz_seconds,
        summary: "fuzz: ",
    };
    let mut record = header(root)?;
    for long in [kills, fuzzing].into_iter().filter(|long| long.value > 0) {
        match test(root, &long)? {
            Some(lines) => record += &lines,
            None => return Ok(false),
        }
    }
    let date = output(root, "date", &["-u", "+%F"])?;
    let name = args.fuzz_only.as_ref().map_or_else(String::new, |name| format!("-{name}"));
    let path = root.join("bench/record").join(format!("soak-{date}{name}.md"));
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).context("creating bench/record")?;
    std::fs::write(&path, &record).with_context(|| format!("writing {}", path.display()))?;
    println!("{record}\nwritten to {}", path.display());
    Ok(true)
}

/// Runs a test and returns its summary lines, or `None` if it failed.
fn test(root: &Path, long: &Long<'_>) -> anyhow::Result<Option<String>> {
    println!("{}={} cargo test {}", long.variable, long.value, long.arguments.join(" "));
    let begin = Instant::now();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["test", "--release"])
        .args(long.arguments)
        .args(long.filter)
        .args(["--", "--nocapture"])
        .env(long.variable, long.value.to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        println!("{text}");
        return Ok(None);
    }
    // With --nocapture a summary may follow the name of its test on one line.
    let mut lines: Vec<&str> =
        text.lines().filter_map(|line| line.find(long.summary).map(|at| line[at..].trim())).collect();
    ensure!(!lines.is_empty(), "the tests printed no line with `{}`", long.summary);
    lines.sort_unstable();
    let mut record =
        format!("\n`{}={}`, {:.0} s:\n\n", long.variable, long.value, begin.elapsed().as_secs_f64());
    for line in lines {
        writeln!(record, "- {}", line.trim_start_matches(long.summary)).expect("writing to a string");
    }
    Ok(Some(record))
}

/// Title, commit, compiler and machine.
fn header(root: &Path) -> anyhow::Result<String> {
    let commit = output(root, "git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = !output(root, "git", &["status", "--porcelain"])?.is_empty();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!(
        "# Soak run of {}\n\n`cargo xtask soak` at commit {commit}{}, {}; {} ({cores} threads), {}.\n",
        output(root, "date", &["-u", "+%F"])?,
        if changed { " with uncommitted changes" } else { "" },
        output(root, "rustc", &["--version"])?,
        name.unwrap_or("CPU of unknown name").trim(),
        output(root, "uname", &["-srm"])?,
    ))
}

/// What a program prints, without the line end.
fn output(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).current_dir(root).args(arguments).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
