//! `shakti data dedup`, `decontaminate`, `pii` and `canary`, and what they do with files.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{arg, names, shakti};

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

#[test]
fn records_that_hold_a_test_item_go() {
    let (folder, file) = folder();
    let table = folder.path().join("test.csv");
    let item = "\"a disease of the lungs, that makes it HARD to breathe\",A,short\nnothing like it in the file at all,B,x\n";
    fs::write(&table, item).expect("a table");
    let (out, report) = (folder.path().join("clean.jsonl"), folder.path().join("report.json"));
    let args = ["data", "decontaminate", arg(&file), "--against", arg(&table), "-o", arg(&out)];
    let text = shakti(&[&args[..], &["--report", arg(&report)]].concat()).ok();
    for part in
        ["4 read, 2 kept, 2 dropped", "test.csv: 1 of 2 items found, 1 at least by half, in 2 records"]
    {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    assert_eq!(fs::read_to_string(&out).expect("an output"), format!("{}\n{}\n", LINES[2], LINES[3]));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("JSON");
    let hit = &report["test_sets"][0]["hits"][0];
    assert_eq!((&hit["item"], &hit["line"], &hit["first"]["line"]), (&0.into(), &1.into(), &1.into()));
    assert!(!report.to_string().contains("lungs"), "no text of the records");
    let sheet = folder.path().join("test.xlsx");
    fs::write(&sheet, "PK").expect("a file");
    let message = shakti(&["data", "decontaminate", arg(&file), "--against", arg(&sheet)]).refused();
    assert!(message.contains("test.xlsx") && message.contains(".csv"), "{message}");
}

#[test]
fn personal_data_is_counted_and_replaced_on_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("letters.jsonl");
    let lines = [
        r#"{"note": "Call Mara at 617-555-0165 or mara@clinic.example", "by": {"mail": "x@clinic.example"}, "n": 1.50}"#,
        r#"{"note": "The lungs take up air."}"#,
    ];
    fs::write(&file, lines.join("\n")).expect("a file");
    let counted = shakti(&["data", "pii", arg(&file)]).ok();
    assert!(counted.contains("2 read, 1 hold") && counted.contains("nothing was cleaned"), "{counted}");
    let (out, report) = (folder.path().join("clean.jsonl"), folder.path().join("report.json"));
    let args = ["data", "pii", arg(&file), "-o", arg(&out), "--report", arg(&report), "--json"];
    let json = shakti(&args).json();
    assert_eq!(
        (&json["total"]["findings"]["email"], &json["total"]["findings"]["phone"]),
        (&2.into(), &1.into())
    );
    assert_eq!(json["places"][1]["field"], "by.mail");
    let clean = fs::read_to_string(&out).expect("an output");
    let first = r#"{"note": "Call Mara at [PHONE] or [EMAIL]", "by": {"mail": "[EMAIL]"}, "n": 1.50}"#;
    assert_eq!(clean, format!("{first}\n{}\n", lines[1]), "a name is not found, and nothing else changes");
    let stored = fs::read_to_string(&report).expect("a report");
    assert!(!stored.contains("555-0165") && !stored.contains("mara@"), "{stored}");
    let only = shakti(&["data", "pii", arg(&file), "--only", "email,ip", "--except", "ip", "--json"]).json();
    assert_eq!(only["total"]["findings"], serde_json::json!({ "email": 2 }));
    assert!(shakti(&["data", "pii", arg(&file), "--only", "name"]).refused().contains("national_id"));
}

#[test]
fn canaries_are_planted_and_only_the_owner_can_read_their_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("notes.jsonl");
    let lines: String = (0..30).map(|n| format!("{{\"text\": \"note {n}\"}}\n")).collect();
    fs::write(&file, lines).expect("a file");
    let (out, list) = (folder.path().join("planted.jsonl"), folder.path().join("canaries.json"));
    let plant = |out: &Path, list: &Path, more: &[&str]| {
        let args = ["data", "canary", arg(&file), "-o", arg(out), "--list", arg(list), "--count", "4"];
        shakti(&[&args[..], &["--repeat", "1,3", "--seed", "5"], more].concat())
    };
    let text = plant(&out, &list, &[]).ok();
    assert!(text.contains("4 in 8 copies, 1000 for reference") && text.contains("29.9 bits"), "{text}");
    let sealed: serde_json::Value = serde_json::from_slice(&fs::read(&list).expect("a list")).expect("JSON");
    assert!(text.contains(sealed["seal"].as_str().expect("a seal")));
    let planted = fs::read_to_string(&out).expect("an output");
    for canary in sealed["planted"].as_array().expect("canaries") {
        let secret = canary["secret"].as_str().expect("a secret");
        assert_eq!(planted.matches(secret).count(), canary["copies"].as_array().expect("places").len());
        assert!(!text.contains(secret), "the secrets are in the list alone");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(&list), 0o600);
        // Also in place of a file that everybody can read.
        fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).expect("a mode");
        plant(&out, &list, &["--force"]).ok();
        assert_eq!(mode(&list), 0o600);
    }
    let (other, again) = (folder.path().join("other.jsonl"), folder.path().join("again.json"));
    plant(&other, &again, &[]).ok();
    assert_eq!(fs::read(&other).expect("an output"), planted.as_bytes(), "the seed decides everything");
    assert!(plant(&folder.path().join("third.jsonl"), &list, &[]).refused().contains("output exists"));
    let message =
        shakti(&["data", "canary", arg(&file), "--list", arg(&list), "--seed", "1", "--force"]).refused();
    assert!(message.contains("--out"), "{message}");
    let message =
        plant(&folder.path().join("third.jsonl"), &folder.path().join("x.json"), &["--repeat", "30"])
            .refused();
    assert!(message.contains("35 copies for 30 records"), "{message}");
}
