//! Findings, placeholders and files; precision and recall are measured in `tests/pii`.

use super::*;
use crate::cleaning::Input;
use crate::error::DataError;
use crate::input::ReaderSettings;
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;

static ALL: LazyLock<PiiDetector> = LazyLock::new(|| PiiDetector::new(&PiiKind::ALL));

fn redacted(text: &str) -> String {
    redact(text, &ALL.find(text))
}

#[test]
fn findings_become_placeholders_and_labels_stay() {
    assert_eq!(
        redacted("MRN 00482915, born on 3/4/1971: a.b@c.example, +44 20 7946 0958."),
        "MRN [MEDICAL_RECORD_NUMBER], born on [DATE_OF_BIRTH]: [EMAIL], [PHONE]."
    );
    assert_eq!(redacted("see https://me:pw@host.example/x"), "see https://[URL_USER]@host.example/x");
    assert_eq!(redacted("4111 1111 1111 1111 12/27"), "[CREDIT_CARD] 12/27", "what follows is not swallowed");
    assert_eq!(redacted("GB82 WEST 1234 5698 7654 32 AND MORE"), "[IBAN] AND MORE");
    assert_eq!(redacted("1 4111111111111111"), "1 [CREDIT_CARD]", "nor what comes before");
    let once = redacted("a@b.example 536-22-8719");
    assert_eq!(redacted(&once), once, "placeholders are no personal data");
}

#[test]
fn long_runs_are_searched_once() {
    let run = "a".repeat(1 << 20) + "@b.example " + &"1".repeat(1 << 16) + &"@".repeat(1 << 16);
    let started = std::time::Instant::now();
    assert_eq!(ALL.find(&run), [], "no address has a local part of a million letters");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn only_the_kinds_asked_for_are_found() {
    let text = "a@b.example, 536-22-8719";
    let find = |kinds: &[PiiKind]| -> Vec<PiiKind> {
        PiiDetector::new(kinds).find(text).into_iter().map(|finding| finding.kind).collect()
    };
    assert_eq!(find(&[PiiKind::UsSsn]), [PiiKind::UsSsn]);
    assert_eq!(find(&PiiKind::ALL), [PiiKind::Email, PiiKind::UsSsn]);
    assert_eq!(find(&[]), []);
}

fn run(path: PathBuf, threads: usize) -> Result<(PiiReport, Vec<String>), DataError> {
    let mut written = Vec::new();
    let (paths, reader) = ([path], ReaderSettings::default());
    let input = Input { paths: &paths, reader: &reader, threads };
    let report = pii(input, &PiiKind::ALL, &mut |_| ControlFlow::Continue(()), |_, text| {
        written.push(text.to_owned());
        Ok(())
    })?;
    Ok((report, written))
}

#[test]
fn every_string_of_a_record_is_looked_at_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let lines = [
        r#"{"text": "nothing",  "n": 1.50}"#,
        r#"{"text": "mail \u0061@b.example", "meta": {"by": ["x", "c@d.example and 536-22-8719"]}, "n": 5362287190}"#,
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let (report, written) = run(path.clone(), 2).unwrap();
    assert_eq!(written[0], lines[0]);
    assert_eq!(
        written[1],
        r#"{"text": "mail [EMAIL]", "meta": {"by": ["x", "[EMAIL] and [US_SSN]"]}, "n": 5362287190}"#
    );
    assert_eq!((report.total.records, report.total.found.records_with), (2, 1));
    assert_eq!(report.total.found.findings, [(PiiKind::Email, 2), (PiiKind::UsSsn, 1)].into());
    let fields: Vec<(u64, &str)> =
        report.places.iter().map(|place| (place.place.line, place.field.as_str())).collect();
    assert_eq!(fields, [(2, "text"), (2, "meta.by[1]")]);
    assert!(
        !serde_json::to_string(&report).unwrap().contains("b.example"),
        "the report holds no personal data"
    );

    std::fs::write(&path, "{\"text\": 1}\n{\"text\"").unwrap();
    assert_eq!(run(path, 1).unwrap_err().line(), Some(2));
    let text = folder.path().join("a.txt");
    std::fs::write(&text, "write to\na@b.example\n\n\nother").unwrap();
    assert_eq!(run(text, 1).unwrap().1, ["write to\n[EMAIL]", "other"]);
}

proptest! {
    /// Findings are in order, do not overlap, and lie on characters, whatever the text.
    #[test]
    fn findings_are_ranges_of_the_text(text in "([0-9 .:/@()+-]|[A-Za-zé]|ssn|tel |born |MRN: ){0,60}") {
        let mut end = 0;
        for finding in ALL.find(&text) {
            prop_assert!(finding.range.start >= end && finding.range.start < finding.range.end);
            prop_assert!(text.get(finding.range.clone()).is_some());
            end = finding.range.end;
        }
    }
}
