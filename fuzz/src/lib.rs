//! Fuzzing that makes the same inputs on every machine: valid files, damaged by [`mutate`], given to a parser.
//!
//! A parser passes if every input ends in a value or an error: no panic, no endless loop, and no more memory than
//! [`MEMORY_LIMIT`], so that it cannot have allocated what a header merely claims. The targets are in `tests/parsers`.
//! `SHAKTI_FUZZ_SECONDS` makes each run that long; otherwise it makes a fixed number of rounds.

mod mutate;

use std::fs::File;
use std::io::{Seek, Write};
use std::process::Command;
use std::time::{Duration, Instant};

pub use mutate::{Random, mutate};

/// Bytes of address space that a target may use in all, on Linux.
pub const MEMORY_LIMIT: u64 = 512 << 20;
/// Seconds to fuzz each target for, instead of its rounds.
pub const SECONDS: &str = "SHAKTI_FUZZ_SECONDS";
/// Set in the process that runs under the memory limit.
const INSIDE: &str = "SHAKTI_FUZZ_INSIDE_LIMIT";

/// A parser under test.
pub struct Target<'a> {
    /// The path of the `#[test]` that runs it, for `--exact`.
    pub test: &'a str,
    /// Valid inputs.
    pub seeds: Vec<Vec<u8>>,
    /// Pieces of text that mean something to the parser.
    pub words: &'a [&'a str],
    /// Inputs to try when [`SECONDS`] is not set.
    pub rounds: u64,
}

impl Target<'_> {
    /// Gives damaged inputs to `parse`, which says whether it accepted them; panics with the round that broke it.
    ///
    /// Linux runs it in a process of its own under [`MEMORY_LIMIT`].
    ///
    /// # Panics
    /// If `parse` panics, needs more memory than the limit, refuses a seed, or never refuses or never accepts.
    pub fn run(&self, parse: impl Fn(&[u8]) -> bool) {
        if cfg!(target_os = "linux") && std::env::var_os(INSIDE).is_none() {
            return self.run_limited();
        }
        assert!(self.seeds.iter().all(|seed| parse(seed)), "{}: a valid input is refused", self.test);
        let mut progress =
            std::env::var_os(INSIDE).map(|path| File::create(path).expect("a file for the round"));
        let (begin, seconds) = (Instant::now(), seconds());
        let (mut accepted, mut round) = (0u64, 0u64);
        while seconds.map_or(round < self.rounds, |limit| begin.elapsed() < limit) {
            // A process that dies cannot say where; a file can.
            if let Some(file) = &mut progress {
                file.rewind().and_then(|()| write!(file, "{round}")).expect("writing the round");
            }
            accepted += u64::from(parse(&self.input(round)));
            round += 1;
        }
        println!("fuzz: {}: {round} inputs, {accepted} accepted", self.test);
        assert!(accepted > 0 && accepted < round, "{}: the inputs must reach both outcomes", self.test);
    }

    /// The input of a round.
    pub fn input(&self, round: u64) -> Vec<u8> {
        let mut random = Random::new(round);
        let mut bytes = self.seeds[random.below(self.seeds.len())].clone();
        for _ in 0..=random.below(6) {
            mutate(&mut bytes, self.words, &mut random);
        }
        bytes
    }

    fn run_limited(&self) {
        let folder = scratch_folder();
        let file = folder.path().join("round");
        let program = std::env::current_exe().expect("this test program");
        let limit = format!("ulimit -v {} && exec \"$0\" --exact --nocapture \"$1\"", MEMORY_LIMIT >> 10);
        let output = Command::new("sh")
            .args(["-c", &limit])
            .args([program.as_os_str(), self.test.as_ref()])
            .env(INSIDE, &file)
            .env("MALLOC_ARENA_MAX", "1")
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter(|line| line.starts_with("fuzz: ")).for_each(|line| println!("{line}"));
        let round = std::fs::read_to_string(&file).unwrap_or_default();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: round {round}: {}\n{errors}", self.test, output.status);
        assert!(text.contains(&format!("fuzz: {}: ", self.test)), "no test is called {}", self.test);
    }
}

/// A folder for files that live as long as one input; in memory where the system offers that.
///
/// # Panics
/// If none can be made.
pub fn scratch_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

fn seconds() -> Option<Duration> {
    let value = std::env::var(SECONDS).ok()?;
    Some(Duration::from_secs(value.parse().unwrap_or_else(|_| panic!("{SECONDS}={value}: expected seconds"))))
}

#[cfg(test)]
mod tests;
