//! Rules about single Rust files.

use super::Problem;
use super::source::{Line, Source};

/// Lines of code, tests apart, above which a file draws a warning; and above which it fails.
const BUDGET: (usize, usize) = (400, 800);
/// Lines of documentation at the top of a crate's root file.
const CRATE_DOC_LINES: usize = 2;
/// Where `unsafe` may stand: files whose path begins so.
const UNSAFE: [&str; 2] = ["crates/kernels/", "crates/gguf/src/file_map.rs"];
/// Where output may be printed: paths that begin so; besides tests and examples.
const PRINTS: [&str; 4] = ["crates/cli/", "xtask/", "bench/", "fuzz/"];

/// Checks one file against every rule.
pub fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(budget(source));
    problems.extend(module_doc(source));
    for index in 0..source.lines.len() {
        for rule in [unsafe_place, safety_comment, owed_work, silenced_lint, printing, socket] {
            problems
                .extend(rule(source, index).map(|message| Problem::error(&source.path, index + 1, message)));
        }
    }
    problems
}

fn budget(source: &Source) -> Option<Problem> {
    let is_code = |line: &&Line| !line.is_test && !line.code.trim().is_empty();
    let count = source.lines.iter().filter(is_code).count();
    let (usual, most) = BUDGET;
    let message =
        format!("{count} lines of code without tests: split the file (about {usual}, never above {most})");
    let problem = Problem::error(&source.path, 1, message);
    (count > usual).then_some(Problem { warning: count <= most, ..problem })
}

fn module_doc(source: &Source) -> Option<Problem> {
    let docs = source.lines.iter().take_while(|line| line.comment.starts_with("//!")).count();
    let is_crate = source.path.ends_with("src/lib.rs");
    if docs == 0 {
        Some(Problem::error(&source.path, 1, "the file must begin with `//!` and say what it holds"))
    } else if is_crate && docs < CRATE_DOC_LINES {
        Some(Problem::error(
            &source.path,
            1,
            "the crate must say in its documentation what it is and how it is used",
        ))
    } else {
        None
    }
}

fn begins_with_any(source: &Source, starts: &[&str]) -> bool {
    let path = source.path.to_string_lossy().replace('\\', "/");
    starts.iter().any(|start| path.starts_with(start))
}

fn unsafe_place(source: &Source, index: usize) -> Option<String> {
    let found = has_word(&source.lines[index].code, "unsafe") && !begins_with_any(source, &UNSAFE);
    found.then(|| format!("`unsafe` may stand only in {}", UNSAFE.join(", ")))
}

fn safety_comment(source: &Source, index: usize) -> Option<String> {
    let line = &source.lines[index];
    let needs = line.code.contains("unsafe {") || line.code.contains("unsafe impl");
    (needs && !is_justified(source, index))
        .then(|| "`unsafe` without a `// SAFETY:` comment before it".into())
}

/// Whether the statement that line `index` belongs to has a `SAFETY:` comment on it or directly above it.
fn is_justified(source: &Source, index: usize) -> bool {
    if source.lines[index].comment.contains("SAFETY:") {
        return true;
    }
    for line in source.lines[..index].iter().rev() {
        let code = line.code.trim();
        if line.comment.contains("SAFETY:") {
            return true;
        }
        let ends_statement =
            code.ends_with([';', '{', '}', ',']) || (code.is_empty() && line.comment.is_empty());
        if ends_statement {
            return false;
        }
    }
    false
}

fn owed_work(source: &Source, index: usize) -> Option<String> {
    let line = &source.lines[index];
    let code = ["#[ignore", "todo!", "unimplemented!"].into_iter().find(|word| line.code.contains(word));
    let comment = ["TODO", "FIXME", "XXX", "HACK"].into_iter().find(|word| has_word(&line.comment, word));
    code.or(comment).map(|word| format!("`{word}`: finish it or leave it out"))
}

fn silenced_lint(source: &Source, index: usize) -> Option<String> {
    let code = &source.lines[index].code;
    let is_attribute = code.contains("#[") || code.contains("#![") || code.contains("cfg_attr");
    let start = ["allow(", "expect("].into_iter().find_map(|word| {
        let at = code.find(word)?;
        (!code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.')).then_some(at)
    });
    let start = start.filter(|_| is_attribute)?;
    // The reason may stand some lines below, before the attribute closes.
    let lines = source.lines[index + 1..].iter().map(|line| line.code.as_str());
    let attribute = std::iter::once(&code[start..]).chain(lines).collect::<Vec<_>>().join(" ");
    let attribute = attribute.split(']').next().unwrap_or_default();
    let has_reason = attribute.replace(' ', "").contains("reason=");
    (!has_reason).then(|| "a lint is silenced without `reason = \"...\"`".into())
}

fn printing(source: &Source, index: usize) -> Option<String> {
    let line = &source.lines[index];
    if line.is_test || source.is_below("examples") || begins_with_any(source, &PRINTS) {
        return None;
    }
    let words = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "io::stdout", "io::stderr"];
    let word = words.into_iter().find(|word| has_word(&line.code, word))?;
    Some(format!("`{word}`: only the command line prints"))
}

fn socket(source: &Source, index: usize) -> Option<String> {
    let words = ["std::net", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"];
    let word = words.into_iter().find(|word| has_word(&source.lines[index].code, word))?;
    Some(format!("`{word}`: nothing here opens a socket"))
}

/// Whether `word` stands in `text` with no letter, digit or underscore directly before or after it.
fn has_word(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name))
}
