//! `shakti data dedup`, and what the cleaning commands do with files.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{arg, shakti};

const LINES: [&str; 4] = [
    r#"{"question": "What is asthma?", "answer": "A disease of the lungs that makes it hard to breathe.", "id": 1.50}"#,
    r#"{"question": "What is asthma ?", "answer": "A disease of the lungs, that makes it hard to breathe!", "id": 2}"#,
    r#"{"question": "What is gout?", "answer": "A disease of the joints.", "id": 3}"#,
    r#"{"question": "What is gout?", "answer": "A disease  of the joints.", "id": 4}"#,
];

/// A folder with a file of four records, two of them duplicates.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("questions.jsonl");
    fs::write(&file, LINES.join("\n")).expect("a file");
    (folder, file)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn duplicates_go_and_the_report_says_which() {
    let (folder, file) = folder();
    let (out, report) = (folder.path().join("clean.jsonl"), folder.path().join("report.json"));
    let text = shakti(&["data", "dedup", arg(&file), "-o", arg(&out), "--report", arg(&report)]).ok();
    for part in
        ["4 read, 2 kept", "1 exact", "1 near", "probability 0.998", "2, the largest of 2", "clean.jsonl"]
    {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    let clean = fs::read_to_string(&out).expect("an output");
    assert_eq!(clean, format!("{}\n{}\n", LINES[0], LINES[2]), "records stay as they were");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("JSON");
    assert_eq!(report["clusters"][0]["kept"]["line"], 1);
    assert_eq!(report["clusters"][0]["dropped"][0]["line"], 2);
    assert_eq!(report["clusters"][0]["dropped"][0]["exact"], false);
    assert_eq!(report["total"]["exact"], 1);
    assert!(!report.to_string().contains("asthma"), "no text of the records");
    let json = shakti(&["data", "dedup", arg(&file), "--json", "--exact-only"]).json();
    assert_eq!((&json["total"]["kept"], &json["threshold"]), (&3.into(), &serde_json::Value::Null));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&out).expect("an output").permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn several_files_are_one_and_are_written_into_a_folder() {
    let (folder, file) = folder();
    let other = folder.path().join("more.txt");
    fs::write(&other, "A text.\n\n\nA text.\n\n\nAnother.\n").expect("a file");
    let out = folder.path().join("clean");
    let run =
        shakti(&["data", "dedup", arg(&file), arg(&other), arg(&file), "-o", arg(&out), "--json"]).json();
    assert_eq!(run["total"]["kept"], 4, "{run}");
    assert_eq!(names(&out), ["more.txt", "questions.jsonl"]);
    assert_eq!(fs::read_to_string(out.join("more.txt")).expect("an output"), "A text.\n\n\nAnother.\n");
    let again = shakti(&["data", "dedup", arg(&file), arg(&other), "-o", arg(&out)]).refused();
    assert!(again.contains("questions.jsonl") && again.contains("--force"), "{again}");
    shakti(&["data", "dedup", arg(&file), arg(&other), "-o", arg(&out), "--force"]).ok();
}

#[test]
fn what_cannot_be_done_is_said_before_the_work_and_leaves_nothing() {
    let (folder, file) = folder();
    let before_out = folder.path().join("before.jsonl");
    fs::write(&before_out, "{}").expect("a file");
    let before = names(folder.path());
    let out = folder.path().join("clean.json");
    let message = shakti(&["data", "dedup", arg(&file), "-o", arg(&out)]).refused();
    assert!(message.contains("clean.json") && message.contains(".jsonl or .ndjson"), "{message}");
    let message = shakti(&["data", "dedup", "absent.jsonl"]).refused();
    assert!(message.contains("absent.jsonl"), "{message}");
    let message = shakti(&["data", "dedup", arg(&file), "--threshold", "0"]).refused();
    assert!(message.contains("threshold"), "{message}");
    let message = shakti(&["data", "dedup", arg(&file), "-o", arg(&before_out)]).refused();
    assert!(message.contains("output exists"), "{message}");
    for report in [&file, &folder.path().join("clean.jsonl")] {
        let out = folder.path().join("clean.jsonl");
        let message =
            shakti(&["data", "dedup", arg(&file), "-o", arg(&out), "--report", arg(report), "--force"])
                .refused();
        assert!(message.contains("--report"), "the report replaces no data: {message}");
    }
    fs::write(&file, format!("{}\n{{\"question\": \"a\", \"answer\": 3}}\n", LINES[0])).expect("a file");
    let out = folder.path().join("clean.jsonl");
    let message = shakti(&["data", "dedup", arg(&file), "-o", arg(&out)]).refused();
    assert!(message.contains("questions.jsonl:2") && message.contains("`answer`"), "{message}");
    assert_eq!(names(folder.path()), before, "no output and no unfinished file");
}
