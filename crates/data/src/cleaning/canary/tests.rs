//! Every copy is where the list says and nowhere else, in what training reads; references are nowhere.

use super::*;
use crate::input::ReaderSettings;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn settings() -> CanarySettings {
    CanarySettings {
        count: 5,
        repeats: vec![1, 4],
        references: 50,
        space: SecretSpace { alphabet: Alphabet::Digits, length: 9 },
        template: "The access code of record {id} is {secret}.".into(),
        seed: 11,
    }
}

fn run(
    paths: &[PathBuf],
    settings: &CanarySettings,
    threads: usize,
) -> Result<(CanaryList, Vec<String>), DataError> {
    let mut written = vec![String::new(); paths.len()];
    let reader = ReaderSettings::default();
    let list = plant(
        Input { paths, reader: &reader, threads },
        settings,
        &mut |_| ControlFlow::Continue(()),
        |file, text| {
            written[file] += text;
            written[file] += "\n";
            Ok(())
        },
    )?;
    Ok((list, written))
}

fn records(folder: &Path, name: &str, contents: &str) -> Vec<Record> {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    RecordReader::open(&path, &ReaderSettings::default()).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Lines of each layout that training reads; the answer also stands in a field that it does not read.
fn layouts() -> [(&'static str, String); 11] {
    let lines = |line: fn(usize) -> serde_json::Value| (0..30).map(|n| line(n).to_string() + "\n").collect();
    use serde_json::json;
    [
        ("text", lines(|n| json!({ "text": format!("one {n}\ntwo\n\nthree"), "n": n }))),
        (
            "messages",
            lines(|n| {
                json!({ "system": "s", "messages": [
            { "role": "user", "content": "q" }, { "role": "assistant", "content": format!("a {n}") },
            { "role": "user", "content": "q" }, { "role": "assistant", "content": format!("a {n}") },
        ] })
            }),
        ),
        (
            "prompt",
            lines(
                |n| json!({ "prompt": format!("a {n}"), "completion": format!("a {n}"), "zz": format!("a {n}") }),
            ),
        ),
        ("question", lines(|n| json!({ "question": "q", "answer": format!("a {n}") }))),
        ("alpaca", lines(|n| json!({ "instruction": "q", "response": format!("a {n}") }))),
        (
            "sharegpt",
            lines(|n| {
                json!({ "conversations": [
            { "from": "human", "value": "q" }, { "from": "gpt", "value": format!("a {n}") },
        ] })
            }),
        ),
        (
            "pair",
            lines(
                |n| json!({ "prompt": "q", "chosen": format!("a {n}"), "rejected": format!("a {n}"), "text": format!("a {n}") }),
            ),
        ),
        (
            "turns",
            lines(|n| {
                let turns = |end| format!("\n\nHuman: q\n\nAssistant: a {n}\n\nAssistant: more{end}");
                json!({ "chosen": turns(" "), "rejected": turns("!") })
            }),
        ),
        (
            "lists",
            lines(|n| {
                let turn = |role: &str, text| json!({ "role": role, "content": text });
                let list = |answer| json!([turn("user", "q".to_owned()), turn("assistant", answer)]);
                json!({ "chosen": list(format!("a {n}")), "rejected": list("b".into()), "messages": list(format!("a {n}")) })
            }),
        ),
        (
            "objects",
            lines(|n| {
                json!({ "conversations": [{ "from": "human", "value": format!("a {n}") }],
                    "chosen": { "from": "gpt", "value": format!("a {n}") }, "rejected": { "from": "gpt", "value": "b" } })
            }),
        ),
        ("rated", lines(|n| json!({ "prompt": "q", "completion": format!("a {n}"), "label": n < 20 }))),
    ]
}

#[test]
fn copies_are_where_the_list_says_in_what_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in layouts() {
        let path = folder.path().join(format!("{name}.jsonl"));
        std::fs::write(&path, &text).unwrap();
        let (list, written) = run(std::slice::from_ref(&path), &settings(), 2).unwrap();
        let copies: Vec<usize> = list.planted.iter().map(|canary| canary.copies.len()).collect();
        assert_eq!(copies, [1, 4, 1, 4, 1], "{name}");
        let trained = records(folder.path(), "out.jsonl", &written[0]);
        assert_eq!(trained.len(), 30);
        for canary in list.planted.iter().chain(&list.references) {
            let holds = |record: &&Record| {
                target(record).is_some_and(|text| text.lines().any(|line| line == canary.text))
            };
            let lines: Vec<u64> = trained.iter().filter(holds).map(|record| record.line).collect();
            let expected: Vec<u64> = canary.copies.iter().map(|place| place.line).collect();
            assert_eq!(lines, expected, "{name}");
            assert_eq!(written[0].matches(&canary.secret).count(), expected.len(), "{name}");
        }
        let unchanged =
            text.lines().zip(written[0].lines()).filter(|(before, after)| before == after).count();
        assert_eq!(unchanged, 30 - 11, "{name}: each copy in a record of its own");
    }
}

#[test]
fn the_seed_decides_everything_and_the_seal_shows_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, (0..40).map(|n| format!("text {n}\n\n\n")).collect::<String>()).unwrap();
    let paths = [path];
    let (list, written) = run(&paths, &settings(), 1).unwrap();
    assert_eq!(run(&paths, &settings(), 3).unwrap(), (list.clone(), written.clone()));
    let (other, _) = run(&paths, &CanarySettings { seed: 12, ..settings() }, 1).unwrap();
    assert_ne!(other.planted, list.planted);
    let places: Vec<u64> =
        list.planted.iter().flat_map(|canary| &canary.copies).map(|place| place.line).collect();
    assert!(
        places.iter().any(|line| *line > 60) && places.iter().any(|line| *line < 60),
        "anywhere: {places:?}"
    );
    let secrets: HashSet<&str> =
        list.planted.iter().chain(&list.references).map(|canary| canary.secret.as_str()).collect();
    assert_eq!(secrets.len(), 55);
    assert!(
        secrets.iter().all(|secret| secret.len() == 9 && secret.bytes().all(|byte| byte.is_ascii_digit()))
    );
    assert!((list.bits - 29.897).abs() < 1e-3, "9 log2(10)");
    let json = serde_json::to_string(&list).unwrap();
    let mut read: CanaryList = serde_json::from_str(&json).unwrap();
    assert_eq!((read.expected_seal(), &read), (list.seal.clone(), &list));
    read.planted[0].secret = "000000000".into();
    assert_ne!(read.expected_seal(), read.seal);
}

#[test]
fn what_cannot_be_planted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"one\"}\n{\"text\": \" \"}\n").unwrap();
    let refused =
        |settings: CanarySettings| run(std::slice::from_ref(&path), &settings, 1).unwrap_err().to_string();
    assert!(refused(settings()).contains("11 copies for 1 records"));
    for (change, name) in [
        (CanarySettings { template: "no place".into(), ..settings() }, "template"),
        (CanarySettings { template: "{secret}\n".into(), ..settings() }, "template"),
        (CanarySettings { count: 0, ..settings() }, "count"),
        (CanarySettings { repeats: vec![2, 0], ..settings() }, "repeat"),
        (
            CanarySettings { space: SecretSpace { alphabet: Alphabet::Letters, length: 2 }, ..settings() },
            "space",
        ),
    ] {
        let message = refused(change);
        assert!(message.contains(name), "{message}");
    }
    let one = CanarySettings { count: 1, repeats: vec![1], ..settings() };
    assert_eq!(run(std::slice::from_ref(&path), &one, 1).unwrap().0.planted[0].copies[0].line, 1);
}
